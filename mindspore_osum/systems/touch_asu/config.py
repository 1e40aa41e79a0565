"""Config of a TouchASU model (config.json) as a dataclass; imports neither MindSpore nor PyTorch."""

import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar

from mindspore_osum.config import did_you_mean
from mindspore_osum.models.firered.config import FireRedConfig
from mindspore_osum.models.llama.config import DECODERS, DecoderConfig, LoraConfig
from mindspore_osum.models.projector.config import ProjectorConfig
from mindspore_osum.models.whisper.config import ENCODERS, EncoderConfig
from mindspore_osum.speech.config import FBANK, LOG_MEL, FeatureConfig
from mindspore_osum.systems.sizes import MOST, check_sizes, check_width, need
from mindspore_osum.systems.speech_config import SpeechConfig

IM_END, ENDOFTEXT = 151645, 151643  # of the published Qwen tokenizers
# what the last speech token of a recording is, if fewer frames are left than a token has
PLACEHOLDER, FRAMES = "placeholder", "frames"
_LIMITS = {
    **MOST,
    "adapter.stride": 64,  # 4
    "positions": 6000,  # 1500
}
_LORA = LoraConfig(
    32, 16.0, 0.05, ("q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "gate_proj", "down_proj")
)


@dataclass(frozen=True)
class TouchAsuConfig(SpeechConfig):
    """Encoder -> projector -> decoder with LoRA; defaults are WEST's recipe with a Whisper encoder."""

    model_type: ClassVar[str] = "touch_asu"
    encoder: EncoderConfig | FireRedConfig = field(default_factory=lambda: ENCODERS["large-v3"])
    positions: int = 1500  # encoder frames of the longest recording in its table of positions
    adapter: ProjectorConfig = field(default_factory=ProjectorConfig)
    decoder: DecoderConfig = field(default_factory=lambda: instruct("qwen2-1.5b"))
    lora: LoraConfig = field(default_factory=lambda: _LORA)
    eos_ids: tuple[int, ...] = (IM_END, ENDOFTEXT)  # tokens that end an answer, <|im_end|> among them
    # the last speech token of a recording, if less than a token's frames are left for it: "placeholder", the
    # embedding of token 0 as in the published code, or "frames", these frames and zeros
    leftover: str = PLACEHOLDER
    min_speech_frames: int = 20  # mel frames: shorter recordings are left out of training
    max_speech_frames: int = 2000  # mel frames of the longest recording
    llm: str = "Qwen/Qwen2-1.5B-Instruct"  # names of the parts in WEST's config.json
    wenet: str = "whisper-large-v3-turbo"
    dtype: str = "float32"  # of the weights and activations: float32, bfloat16 or float16

    def __post_init__(self):
        check_sizes(self, _LIMITS)
        if isinstance(self.encoder, FireRedConfig):
            _check_firered(self.encoder)
        check_width("adapter.d_hidden", self.adapter.d_hidden, self.encoder.d_model)
        kinds = (PLACEHOLDER, FRAMES)
        need(
            self.leftover in kinds,
            f"leftover {self.leftover!r} is unknown{did_you_mean(self.leftover, kinds)}",
        )
        for name in ("positions", "min_speech_frames", "max_speech_frames"):
            need(getattr(self, name) > 0, f"{name} must be positive, not {getattr(self, name)}")
        rows = self.decoder.vocab_size
        outside = [token for token in self.eos_ids if not 0 <= token < rows]
        need(not outside, f"eos_ids {outside} are none of the {rows} tokens")
        need(0 < len(self.eos_ids) < 100, "eos_ids must name the tokens that end an answer, at most 99")

    @property
    def features(self) -> FeatureConfig:
        """Settings of the features."""
        kind = FBANK if isinstance(self.encoder, FireRedConfig) else LOG_MEL
        return FeatureConfig(self.encoder.n_mels, self.encoder.pad_to_seconds, kind=kind)

    @property
    def most_frames(self) -> int:
        """Mel frames of the longest recording that the model takes at once."""
        return min(self.max_speech_frames, self.encoder.stride * self.positions)


def _check_firered(encoder: FireRedConfig) -> None:
    need(encoder.kernel % 2 == 1, f"encoder.kernel must be odd, not {encoder.kernel}")
    need(encoder.kernel < 1000, f"encoder.kernel must be below 1000, not {encoder.kernel}")
    need(encoder.bands > 0, f"encoder.n_mels {encoder.n_mels}: at least 7 are needed")


def instruct(name: str) -> DecoderConfig:
    """A published decoder as its Instruct form: an answer ends with <|im_end|>."""
    return dataclasses.replace(DECODERS[name], eos_id=IM_END)
