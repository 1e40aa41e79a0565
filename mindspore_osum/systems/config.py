"""What the rest of the package reads of a model's description."""

from typing import Any, ClassVar, Protocol

from mindspore_osum.data.batches.extractor import Hearing


class Config(Hearing, Protocol):
    """A model as described in config.json: a frozen dataclass that validates itself.

    Attributes
    ----------
    seconds_per_token : duration of a speech token.
    most_frames : mel frames of the longest recording that the model takes at once.
    decoder : sizes of the decoder, including `vocab_size`, `max_positions` and `eos_id`.
    dtype : of the weights and activations: float32, bfloat16 or float16.
    """

    model_type: ClassVar[str]
    seconds_per_token: float
    most_frames: int
    decoder: Any
    dtype: str

    def to_dict(self) -> dict:
        """Plain dictionaries and lists, without `model_type`."""
        ...
