"""The training data of an OSUM model: the columns of a batch, and their values for an utterance.

Legend: B rows, N utterances, T mel frames, F mel bins, L sequence positions, S CTC labels, Z speech tokens,
C label sets.
"""

from collections.abc import Callable, Iterator

import numpy as np

from mindspore_osum.data.batches import batching
from mindspore_osum.data.batches.columns import BATCHED, Column
from mindspore_osum.data.batches.extractor import Example, Scanned
from mindspore_osum.data.checks import flaws
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.osum.texts import Texts, output_type
from mindspore_osum.systems.speech_extractor import COLUMNS as SPEECH_COLUMNS
from mindspore_osum.tasks import LABEL_SETS
from mindspore_osum.text.sequence import IGNORE

COLUMNS = (
    *SPEECH_COLUMNS,
    Column("ctc_labels_BS", BATCHED, shape=("text_tokens",)),
    Column("ctc_len_B", BATCHED),
    # class of the CTC head at each speech token; index of the label in each label set
    Column("frames_BZ", BATCHED, shape=("speech",), fill=IGNORE),
    Column("classes_BC", BATCHED, shape=(len(LABEL_SETS),), fill=IGNORE),
)


class OsumExtractor:
    """Computes the columns of utterances for an OSUM model.

    Parameters
    ----------
    model : its description.
    texts : requests, labels and sequences of utterances.
    ctc : input of the CTC loss, "encoder" or "adapter"; "" without one.
    """

    columns = COLUMNS
    conversations = False

    def __init__(self, model: ModelConfig, texts: Texts, ctc: str = ""):
        self.model, self.texts, self.ctc = model, texts, ctc
        self.sizes, self.reads = {"mels": model.features.n_mels}, {"ctc": bool(ctc)}
        template = texts.template
        self._around = {form: template.around(texts.tokenizer, form) for form in template.forms}
        # a sequence without a request has a different left part
        self._none = self._around.get("s2t_chat", 0) - self._around["text"]

    def flaws(self, utt: Utterance, seconds: float) -> Iterator[str]:
        """Problems of an utterance whose recording lasts `seconds`."""
        return flaws(utt, seconds)

    def scan(self, utt: Utterance) -> Scanned:
        """The properties of an utterance that do not need its audio; UserError for wrong word times."""
        if self.ctc:
            self.texts.times(utt)  # reports wrong times here, with the other errors
        requests = self.texts.requests(utt)
        labels = len(self.texts.tokenizer.encode(self.texts.label(utt))) + 1  # the end
        return Scanned(requests, labels, self._around[output_type(utt, "")] + labels)

    def request_tokens(self, request: str | None) -> int:
        """Tokens that a request adds to a sequence with an empty request."""
        if request is None:
            return self._none
        return len(self.texts.tokenizer.encode(request, plain=[range(len(request))]))

    def brings_request(self, utt: Utterance) -> bool:
        """Whether an utterance has its own request, on which its answer depends."""
        return self.texts.brings_request(utt)

    def features(self, utt: Utterance, change: Callable | None = None) -> np.ndarray:
        """Log-mel (T, F) float32 of its recording; `change` is applied to the samples first."""
        return batching.features(utt, self.model.features, change)

    def example(
        self, utt: Utterance, request: str | None, mel_TF: np.ndarray | None, content_only: bool = False
    ) -> Example:
        """The values of an utterance by column; columns that it does not have are left out.

        Parameters
        ----------
        request : one of those returned by `scan`, or one of another utterance.
        mel_TF : its features; None without a recording.
        content_only : whether only what follows the tags is a target.
        """
        n_speech = None if mel_TF is None else self.model.tokens(len(mel_TF))
        found = self.texts.sequence(utt, request, n_speech, learn_intent=not content_only).columns
        found["classes_BC"] = np.array(self.texts.classes(utt))
        if mel_TF is not None:
            found |= {"mel_BTF": mel_TF, "mel_len_B": np.array(len(mel_TF))}
        if self.ctc and mel_TF is not None:
            found["frames_BZ"] = np.array(self.texts.frames(utt, n_speech, self.model.seconds_per_token))
            ids = self.texts.ctc_ids(utt)
            # else there are too few frames for a CTC path, and the loss would be infinite
            if needed_frames(ids) <= self._ctc_frames(len(mel_TF)):
                found |= {"ctc_labels_BS": np.array(ids, np.int32), "ctc_len_B": np.array(len(ids))}
        return found

    def _ctc_frames(self, frames: int) -> int:
        """Input length of the CTC loss for an utterance with this number of mel frames."""
        return self.model.tokens(frames) if self.ctc == "adapter" else self.model.encoder.frames(frames)

    def report(self) -> list[str]:
        """Report on the requests, after the scan of a corpus."""
        return self.texts.report()


def needed_frames(ids: list[int]) -> int:
    """Length of a label's shortest CTC path: one frame per token, and a blank between equal neighbours."""
    return len(ids) + sum(a == b for a, b in zip(ids, ids[1:], strict=False))
