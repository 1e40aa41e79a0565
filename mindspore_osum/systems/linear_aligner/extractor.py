"""The training data of a linear aligner: the columns of a batch, and their values for an utterance.

Legend: B rows, T mel frames, F mel bins, L sequence positions.
"""

from collections.abc import Callable, Iterator

import numpy as np

from mindspore_osum.data.batches import batching
from mindspore_osum.data.batches.columns import EXTENT, OFFSET, PACKED, Column
from mindspore_osum.data.batches.extractor import Example, Scanned
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.systems.linear_aligner.config import LinearAlignerConfig
from mindspore_osum.systems.linear_aligner.requests import OF_LINES
from mindspore_osum.systems.linear_aligner.template import LOSSES, Layout
from mindspore_osum.text.sequence import IGNORE, NOT_LEARNED, HybridSequence
from mindspore_osum.text.template import Turn
from mindspore_osum.text.tokenizer import Tokenizer

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


class AlignerExtractor:
    """Computes the columns of utterances.

    Parameters
    ----------
    model : its description.
    layout : its prompt set.
    """

    columns = COLUMNS
    conversations = False

    def __init__(self, model: LinearAlignerConfig, layout: Layout, tokenizer: Tokenizer):
        self.model, self.layout, self.tokenizer = model, layout, tokenizer
        self.sizes = {"mels": model.features.n_mels}
        self.tasks: set[str] = set()

    def flaws(self, utt: Utterance, seconds: float) -> Iterator[str]:
        """Problems of an utterance whose recording lasts `seconds`."""
        task = OF_LINES.get(utt.task)
        if task is None:
            known = ", ".join(key for key in OF_LINES if key.startswith("<"))
            yield f"{utt.where}: task {utt.task}: a linear aligner learns {known}"
        elif (task == "text") != (utt.wav is None):
            has = "has a recording, which it must not have" if utt.wav else "needs a recording"
            yield f"{utt.where}: task {utt.task} {has}"
        elif task == "text" and not _question(utt):
            yield f"{utt.where}: task {utt.task} needs the user's words in extra.question"
        elif not utt.txt.strip():
            yield f"{utt.where}: the answer is empty"

    def sequence(self, utt: Utterance, n_speech: int | None) -> HybridSequence:
        """The sequence of an utterance with so many speech tokens; None without a recording."""
        task = OF_LINES.get(utt.task)
        if task is None:
            raise UserError(f"{utt.where}: task {utt.task} is not known to a linear aligner")
        form = "text2text" if n_speech is None else "text"
        words = self.layout.words(task, _question(utt))
        turn = Turn(form, words, n_speech, answer=[(LOSSES[0], utt.txt.strip())])
        return self.layout.template.sequence(self.tokenizer, turn)

    def scan(self, utt: Utterance) -> Scanned:
        """The properties of an utterance that do not need its audio."""
        sequence = self.sequence(utt, None if utt.wav is None else 1)
        self.tasks.add(OF_LINES[utt.task])
        labels = int((sequence.labels_L != IGNORE).sum())
        return Scanned((None,), labels, len(sequence) - sequence.n_speech)

    def request_tokens(self, request: str | None) -> int:
        """Tokens that a request adds: `scan` counts each utterance's only one."""
        return 0

    def brings_request(self, utt: Utterance) -> bool:
        """Whether an utterance has its own request, on which its answer depends."""
        return bool(_question(utt))

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
        """A line about the tasks."""
        return [f"tasks: {', '.join(sorted(self.tasks))}"]


def _question(utt: Utterance) -> str | None:
    """The user's words in `extra.question`; None where there are none."""
    words = utt.extra.get("question")
    return words if isinstance(words, str) and words.strip() else None
