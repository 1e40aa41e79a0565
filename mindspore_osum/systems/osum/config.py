"""Config of an OSUM model (config.json) as a dataclass; imports neither MindSpore nor PyTorch."""

from dataclasses import dataclass, field
from typing import ClassVar

from mindspore_osum.config import did_you_mean
from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.adapters.kinds import kinds
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig
from mindspore_osum.models.whisper.config import EncoderConfig
from mindspore_osum.systems import sizes
from mindspore_osum.systems.sizes import need
from mindspore_osum.systems.speech_config import SpeechConfig

MOST = sizes.MOST | {
    "adapter.n_layers": 256,  # 4
    "adapter.n_heads": 32,  # 4
    "adapter.norm_eps": 1,
    "adapter.conv_channels": 1024,  # 512
    "speech_token_num": 2**24,  # 4,097
}


@dataclass(frozen=True)
class ModelConfig(SpeechConfig):
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


def check_model(cfg: ModelConfig) -> None:
    """Refuse sizes that cannot be built, naming the key."""
    sizes.check_sizes(cfg, MOST)
    enc, ada = cfg.encoder, cfg.adapter
    need(cfg.speech_token_num > 0, f"speech_token_num must be positive, not {cfg.speech_token_num}")
    sizes.check_width("adapter.d_ff", ada.d_ff, enc.d_model)
    need(
        enc.d_model % ada.n_heads == 0,
        f"encoder.d_model {enc.d_model} must be divisible by adapter.n_heads {ada.n_heads}",
    )
    need(ada.kind in kinds(), f"adapter.kind {ada.kind!r} is unknown{did_you_mean(ada.kind, kinds())}")
    sizes.check_rates("adapter", ada)
