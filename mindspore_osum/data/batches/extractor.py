"""What corpora and batches ask of a system's extractor; systems/osum/extractor.py is one.

Notable choices
- An extractor knows its system alone: order, chance, augmentation, caching and shapes are the loader's.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from mindspore_osum.data.batches.columns import Column
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.speech.config import FeatureConfig

Example = dict[str, np.ndarray]  # what the model sees of one utterance, by column


class Scanned(NamedTuple):
    """What an extractor says of an utterance before training.

    Attributes
    ----------
    requests : those it is trained with, to draw from; None is no request.
    labels : targets of its sequence.
    text : positions of its sequence beside the request, the speech tokens and their two marks.
    """

    requests: Sequence[str | None]
    labels: int
    text: int


class Hearing(Protocol):
    """What a model's Config says of recordings.

    Attributes
    ----------
    features : its front end.
    frames_per_token : frames of features that a speech token spans.
    """

    features: FeatureConfig
    frames_per_token: int

    def tokens(self, frames: Any) -> Any:
        """Speech tokens of so many frames (int or array)."""
        ...


class Extractor(Protocol):
    """Utterances as a system's models are trained on them.

    Attributes
    ----------
    model : the Config of the model.
    columns : of `example`, in the order of the network's inputs.
    sizes : those that the columns name beside the axes of a batch (batching.py).
    """

    model: Hearing
    columns: Sequence[Column]
    sizes: dict[str, int]

    def flaws(self, utt: Utterance, seconds: float) -> Iterator[str]:
        """What is wrong with an utterance whose recording lasts `seconds`."""
        ...

    def scan(self, utt: Utterance) -> Scanned:
        """What is known of an utterance without its recording; UserError for what cannot be used."""
        ...

    def request_tokens(self, request: str | None) -> int:
        """What a request adds to a sequence with an empty one."""
        ...

    def brings_request(self, utt: Utterance) -> bool:
        """Whether an utterance is asked in words of its own, which its answer hangs on."""
        ...

    def features(self, utt: Utterance, change: Callable | None = None) -> np.ndarray:
        """(T, F) float32 of its recording; `change` is what happens to the samples first."""
        ...

    def example(
        self, utt: Utterance, request: str | None, mel_TF: np.ndarray | None, content_only: bool = False
    ) -> Example:
        """What the model sees of an utterance, by column; what it does not have is left out.

        Parameters
        ----------
        request : one of those `scan` gave, or one of another utterance.
        mel_TF : its features; None without a recording.
        content_only : whether only what follows the part that names the task is a target.
        """
        ...

    def report(self) -> list[str]:
        """Lines about all that was scanned."""
        ...
