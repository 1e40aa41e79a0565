"""What a toy ear is: config.json as a dataclass, and the published sizes."""

from dataclasses import asdict, dataclass, field
from typing import ClassVar

from mindspore_osum.errors import UserError
from mindspore_osum.models.llama.config import DecoderConfig
from mindspore_osum.speech.config import FeatureConfig

_SMALL = DecoderConfig(
    vocab_size=512, d_model=32, n_layers=1, n_heads=2, n_kv_heads=1, head_dim=16, d_ff=64, eos_id=4
)


@dataclass(frozen=True)
class EarConfig:
    """Stacked frames -> one projection -> decoder."""

    model_type: ClassVar[str] = "toy_ear"
    n_mels: int = 16
    frames_per_token: int = 4  # frames that are stacked
    most_frames: int = 1000  # of the longest recording
    decoder: DecoderConfig = field(default_factory=lambda: _SMALL)
    dtype: str = "float32"

    def __post_init__(self):
        for name in ("n_mels", "frames_per_token", "most_frames"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be 1 or more, not {getattr(self, name)}")

    @property
    def features(self) -> FeatureConfig:
        """What it hears."""
        return FeatureConfig(self.n_mels)

    @property
    def seconds_per_token(self) -> float:
        """How long a speech token lasts."""
        return self.features.seconds(self.frames_per_token)

    def tokens(self, frames):
        """Speech tokens of so many frames (int or array); the last one may be filled up."""
        return -(-frames // self.frames_per_token)

    def to_dict(self) -> dict:
        """Plain values, as saved in config.json beside `model_type`."""
        return asdict(self)


PRESETS = {"toy_ear_xs": EarConfig()}
