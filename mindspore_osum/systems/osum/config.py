"""Config of an OSUM model (config.json) as a dataclass; imports neither MindSpore nor PyTorch."""

import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar

from mindspore_osum.config import did_you_mean
from mindspore_osum.errors import UserError
from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.adapters.kinds import kinds
from mindspore_osum.models.llama.config import PROJECTIONS, DecoderConfig, LoraConfig
from mindspore_osum.models.whisper.config import STRIDE, EncoderConfig
from mindspore_osum.speech.config import FeatureConfig


@dataclass(frozen=True)
class ModelConfig:
    """One speech language model: encoder -> adapter -> decoder with LoRA."""

    model_type: ClassVar[str] = "osum"
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    speech_token_num: int = 4097  # rows of the speech-token embedding before the speech begin and end rows
    prompts: str = "osum_pangu"  # prompt set the model was trained with (see prompts.yaml)
    dtype: str = "float32"  # of the weights and activations: float32, bfloat16 or float16

    def __post_init__(self):
        check_model(self)

    @property
    def features(self) -> FeatureConfig:
        """Settings of the log-mel front end."""
        return FeatureConfig(self.encoder.n_mels, self.encoder.pad_to_seconds)

    def tokens(self, frames):
        """Number of speech tokens for a number of mel frames (int or array)."""
        return self.adapter.tokens(self.encoder.frames(frames))

    @property
    def frames_per_token(self) -> int:
        """Mel frames per speech token."""
        return STRIDE * self.adapter.frames_per_token

    @property
    def seconds_per_token(self) -> float:
        """Duration of a speech token."""
        return self.features.seconds(self.frames_per_token)

    @property
    def most_frames(self) -> int:
        """Mel frames of the longest recording that the model takes at once."""
        return self.encoder.most

    def to_dict(self) -> dict:
        """Plain dictionaries and lists, as saved in config.json together with `model_type`."""
        return dataclasses.asdict(self)


def check_model(cfg: ModelConfig) -> None:
    """Refuse sizes that cannot be built, naming the key."""

    def need(ok: bool, what: str):
        if not ok:
            raise UserError(f"model config: {what}")

    for name in ("encoder", "adapter", "decoder"):
        for key, value in vars(getattr(cfg, name)).items():
            if isinstance(value, int) and not isinstance(value, bool) and not key.endswith("_id"):
                need(0 < value < 2**31, f"{name}.{key} must be positive and below 2^31, not {value}")
    enc, ada, dec = cfg.encoder, cfg.adapter, cfg.decoder
    need(
        enc.d_model % enc.n_heads == 0,
        f"encoder.d_model {enc.d_model} must be divisible by n_heads {enc.n_heads}",
    )
    need(enc.d_model % 2 == 0, f"encoder.d_model {enc.d_model} must be even (sinusoids)")
    need(
        enc.d_model % ada.n_heads == 0,
        f"encoder.d_model {enc.d_model} must be divisible by adapter.n_heads {ada.n_heads}",
    )
    need(ada.kind in kinds(), f"adapter.kind {ada.kind!r} is unknown{did_you_mean(ada.kind, kinds())}")
    need(
        dec.n_heads % dec.n_kv_heads == 0,
        f"decoder.n_heads {dec.n_heads} must be divisible by n_kv_heads {dec.n_kv_heads}",
    )
    need(dec.head_dim % 2 == 0, f"decoder.head_dim {dec.head_dim} must be even (rotary)")
    need(cfg.lora.rank >= 0, f"lora.rank must be 0 or more, not {cfg.lora.rank}")
    for name, part in (("encoder", enc), ("adapter", ada), ("lora", cfg.lora)):
        need(0 <= part.dropout < 1, f"{name}.dropout must be 0 or more and below 1, not {part.dropout}")
    most = cfg.features.seconds(cfg.most_frames)
    need(
        0 <= enc.pad_to_seconds <= most,
        f"encoder.pad_to_seconds must be 0 to {most:g}, not {enc.pad_to_seconds}",
    )
    for name, part in (("encoder", enc), ("adapter", ada), ("decoder", dec)):
        need(part.norm_eps >= 0, f"{name}.norm_eps must be 0 or more, not {part.norm_eps}")
    need(dec.rope_theta > 0, f"decoder.rope_theta must be positive, not {dec.rope_theta}")
    unknown = sorted(set(cfg.lora.targets) - set(PROJECTIONS))
    need(not unknown, f"lora.targets {unknown} unknown; known: {sorted(PROJECTIONS)}")
    need(
        cfg.dtype in ("float32", "bfloat16", "float16"),
        f"dtype must be float32, bfloat16 or float16, not {cfg.dtype!r}",
    )
