"""Training data of models that read one recording and one request of an utterance: columns, and their values.

Legend: B rows, T mel frames, F mel bins, L sequence positions.
"""

from collections.abc import Callable

import numpy as np

from mindspore_osum.data.batches import batching
from mindspore_osum.data.batches.columns import EXTENT, OFFSET, PACKED, Column
from mindspore_osum.data.batches.extractor import Example, Scanned
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.systems.config import Config
from mindspore_osum.text.sequence import IGNORE, NOT_LEARNED, HybridSequence

COLUMNS = (
    Column("mel_BTF", PACKED, "frames", ("mels",), dtype=np.float32),
    Column("mel_len_B", EXTENT, "frames", fill=2),  # for a row without recording: two unused frames
    Column("token_ids_BL", PACKED, "tokens"),
    Column("speech_row_BL", OFFSET, "tokens", of="speech", base=2, fill=-1),
    Column("labels_BL", PACKED, "tokens", fill=IGNORE),
    Column("positions_BL", PACKED, "tokens", fill=1),
    Column("segments_BL", OFFSET, "tokens", of="sequences", base=1),
    Column("spans_BL", PACKED, "tokens", fill=NOT_LEARNED),
)


class SpeechExtractor:
    """Computes the columns of utterances; a subclass adds `sequence`, `flaws` and what it reports."""

    columns = COLUMNS
    conversations = False

    def __init__(self, model: Config):
        self.model, self.sizes = model, {"mels": model.features.n_mels}

    def sequence(self, utt: Utterance, n_speech: int | None) -> HybridSequence:
        """The sequence of an utterance with so many speech tokens; None without a recording."""
        raise NotImplementedError

    def scan(self, utt: Utterance) -> Scanned:
        """The properties of an utterance that do not need its audio."""
        sequence = self.sequence(utt, None if utt.wav is None else 1)
        labels = int((sequence.labels_L != IGNORE).sum())
        return Scanned((None,), labels, len(sequence) - sequence.n_speech)

    def request_tokens(self, request: str | None) -> int:
        """Tokens that a request adds: `scan` counts each utterance's only one."""
        return 0

    def brings_request(self, utt: Utterance) -> bool:
        """Whether an utterance has its own request, on which its answer depends."""
        return True

    def features(self, utt: Utterance, change: Callable | None = None) -> np.ndarray:
        """Log-mel (T, F) float32 of its recording; `change` is applied to the samples first."""
        return batching.features(utt, self.model.features, change)

    def example(
        self, utt: Utterance, request: str | None, mel_TF: np.ndarray | None, content_only: bool = False
    ) -> Example:
        """The values of an utterance by column."""
        found = self.sequence(utt, None if mel_TF is None else self.model.tokens(len(mel_TF))).columns
        return found if mel_TF is None else found | {"mel_BTF": mel_TF, "mel_len_B": np.array(len(mel_TF))}

    def report(self) -> list[str]:
        """Lines after the scan of a corpus."""
        return []
