"""The interface of a system's extractor to corpora and batches; systems/osum/extractor.py implements it.

Notable choices
- An extractor knows only its system: order, randomness, augmentation, caching and shapes are the loader's.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from mindspore_osum.data.batches.columns import Column
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.speech.config import FeatureConfig

Example = dict[str, np.ndarray]  # the model's inputs for one utterance, by column


class Scanned(NamedTuple):
    """What is known of an utterance before training.

    Attributes
    ----------
    requests : the requests to draw from in training; None is no request.
    labels : number of targets in its sequence.
    text : positions of its sequence without the request, the speech tokens and their two marks.
    """

    requests: Sequence[str | None]
    labels: int
    text: int


class Hearing(Protocol):
    """The part of a model's Config that concerns recordings.

    Attributes
    ----------
    features : configuration of the log-mel features.
    frames_per_token : feature frames per speech token.
    """

    features: FeatureConfig
    frames_per_token: int

    def tokens(self, frames: Any) -> Any:
        """Number of speech tokens for a number of frames (int or array)."""
        ...


class Extractor(Protocol):
    """Makes the training examples of a system from utterances.

    Attributes
    ----------
    model : the Config of the model.
    columns : the columns of `example`, in the order of the network's inputs.
    sizes : the sizes that columns name, besides the axes of a batch (batching.py).
    conversations : whether its utterances are whole conversations (data/formats/west.py); else first turns.
    reads : settings of the job, beside model, tokenizer and requests, that `flaws` and `scan` depend on; may
        be missing where there are none.
    """

    conversations: bool = False
    reads: dict[str, bool]

    model: Hearing
    columns: Sequence[Column]
    sizes: dict[str, int]

    def flaws(self, utt: Utterance, seconds: float) -> Iterator[str]:
        """Errors in an utterance whose recording lasts `seconds`."""
        ...

    def scan(self, utt: Utterance) -> Scanned:
        """What is known of an utterance without its recording; UserError if it cannot be used."""
        ...

    def request_tokens(self, request: str | None) -> int:
        """How many tokens longer a request makes a sequence than an empty request."""
        ...

    def brings_request(self, utt: Utterance) -> bool:
        """Whether an utterance has its own request, on which its answer depends."""
        ...

    def features(self, utt: Utterance, change: Callable | None = None) -> np.ndarray:
        """Features (T, F) float32 of its recording; `change` is applied to the samples first."""
        ...

    def example(
        self, utt: Utterance, request: str | None, mel_TF: np.ndarray | None, content_only: bool = False
    ) -> Example:
        """The model's inputs for an utterance, by column; columns without a value are left out.

        Parameters
        ----------
        request : one that `scan` returned for this or another utterance.
        mel_TF : its features; None without a recording.
        content_only : whether the targets exclude the part of the answer that names the task.
        """
        ...

    def report(self) -> list[str]:
        """Lines about everything scanned so far."""
        ...
