"""Config of a linear aligner (config.json) as a dataclass; imports neither MindSpore nor PyTorch."""

import dataclasses
from dataclasses import dataclass, field
from typing import ClassVar

from mindspore_osum.models.aligner.config import AlignerConfig
from mindspore_osum.models.llama.config import DECODERS, PROJECTIONS, DecoderConfig, LoraConfig
from mindspore_osum.models.whisper.config import ENCODERS, EncoderConfig
from mindspore_osum.systems.sizes import MOST, check_sizes, need
from mindspore_osum.systems.speech_config import SpeechConfig

WINDOW = 30.0  # seconds to which Whisper pads recordings, and so the paper
_ENCODER = dataclasses.replace(ENCODERS["large-v3"], pad_to_seconds=WINDOW)


@dataclass(frozen=True)
class LinearAlignerConfig(SpeechConfig):
    """One speech language model: encoder -> linear layer -> decoder with LoRA; defaults are the paper's."""

    model_type: ClassVar[str] = "linear_aligner"
    encoder: EncoderConfig = field(default_factory=lambda: _ENCODER)
    adapter: AlignerConfig = field(default_factory=AlignerConfig)
    decoder: DecoderConfig = field(default_factory=lambda: DECODERS["yi-6b"])
    # published rank 16, alpha 32 in a second stage; which projections is not said: ours are all
    lora: LoraConfig = field(default_factory=lambda: LoraConfig(0, 32.0, 0.0, PROJECTIONS))
    prompts: str = "yi"  # prompt set the model was trained with (see prompts.yaml)
    dtype: str = "float32"  # of the weights and activations: float32, bfloat16 or float16

    def __post_init__(self):
        check_model(self)


def check_model(cfg: LinearAlignerConfig) -> None:
    """Refuse sizes that cannot be built, naming the key."""
    check_sizes(cfg, MOST | {"adapter.frames_per_token": 500})
    dims, width = cfg.adapter.dims, cfg.decoder.d_model
    need(dims is None or dims <= width, f"adapter.dims must be at most decoder.d_model {width}, not {dims}")
