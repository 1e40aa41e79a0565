"""Config of an OSUM model (config.json) as a dataclass; imports neither MindSpore nor PyTorch."""

import dataclasses
from dataclasses import dataclass, field
from operator import attrgetter
from typing import ClassVar

from mindspore_osum.config import did_you_mean
from mindspore_osum.errors import UserError
from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.adapters.kinds import kinds
from mindspore_osum.models.llama.config import PROJECTIONS, DecoderConfig, LoraConfig
from mindspore_osum.models.whisper.config import STRIDE, EncoderConfig
from mindspore_osum.speech.config import FeatureConfig

# Settings that the shapes of the weights do not show, or show of weights that are small: with more than these
# a small file takes all memory or time. Published models have at most what the comments say.
MOST = {
    "encoder.n_mels": 256,  # 128
    "encoder.n_layers": 256,  # 32
    "encoder.n_heads": 32,  # 20; each has a table of all pairs of frames
    "encoder.norm_eps": 1,  # 1e-5; more leaves nothing of what is normalised
    "adapter.n_layers": 256,  # 4
    "adapter.n_heads": 32,  # 4
    "adapter.norm_eps": 1,
    "adapter.conv_channels": 1024,  # 512
    "decoder.n_layers": 256,  # 126
    "decoder.n_heads": 512,  # 128
    "decoder.norm_eps": 1,
    "decoder.rope_theta": 1e12,  # 1e8
    "decoder.max_positions": 2**24,  # 10,485,760; float32 counts no further
    "lora.rank": 16_384,  # 1,024
    "lora.alpha": 1e6,  # 2,048
    "speech_token_num": 2**24,  # 4,097
}
WIDEST = {"d_ff": 128, "heads": 8}  # times d_model: published 8 and 2, small models of tests 71


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
    for name, most in MOST.items():
        value = attrgetter(name)(cfg)
        need(value <= most, f"{name} must be at most {most:g}, not {value}")
    need(cfg.speech_token_num > 0, f"speech_token_num must be positive, not {cfg.speech_token_num}")
    widths = {
        "encoder.d_ff": (enc.d_ff, enc.d_model, "d_ff"),
        "adapter.d_ff": (ada.d_ff, enc.d_model, "d_ff"),
    }
    widths |= {
        "decoder.d_ff": (dec.d_ff, dec.d_model, "d_ff"),
        "decoder.n_heads * head_dim": (dec.n_heads * dec.head_dim, dec.d_model, "heads"),
    }
    for name, (value, width, kind) in widths.items():
        most = WIDEST[kind]
        need(value <= most * width, f"{name} must be at most {most} times d_model {width}, not {value}")
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
    need(dec.rope_theta >= 1, f"decoder.rope_theta must be 1 or more, not {dec.rope_theta}")
    need(cfg.lora.alpha >= 0, f"lora.alpha must be 0 or more, not {cfg.lora.alpha}")
    need(len(cfg.lora.targets) <= len(PROJECTIONS), f"lora.targets has {len(cfg.lora.targets)} names")
    unknown = sorted(set(cfg.lora.targets) - set(PROJECTIONS))
    need(not unknown, f"lora.targets {unknown} unknown; known: {sorted(PROJECTIONS)}")
    need(
        cfg.dtype in ("float32", "bfloat16", "float16"),
        f"dtype must be float32, bfloat16 or float16, not {cfg.dtype!r}",
    )
