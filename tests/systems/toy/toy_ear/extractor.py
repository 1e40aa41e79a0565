"""What it learns from: utterances as named columns; loads no MindSpore.

Legend: B rows, T mel frames, F mel bins, L positions.
"""

import numpy as np

from mindspore_osum.data.batches.batching import features
from mindspore_osum.data.batches.columns import OFFSET, PACKED, Column
from mindspore_osum.data.batches.extractor import Scanned
from mindspore_osum.text.sequence import IGNORE
from mindspore_osum.text.template import Turn

COLUMNS = (
    Column("mel_BTF", PACKED, "frames", ("mels",), dtype=np.float32),
    Column("token_ids_BL", PACKED, "tokens"),
    Column("speech_row_BL", OFFSET, "tokens", of="speech", base=2, fill=-1),
    Column("labels_BL", PACKED, "tokens", fill=IGNORE),
    Column("positions_BL", PACKED, "tokens"),
    Column("segments_BL", OFFSET, "tokens", of="sequences", base=1),
)


def written(text: str) -> str:
    """A transcript as the model writes it."""
    return text.replace(" ", "_")


class EarExtractor:
    """Utterances as the model sees them."""

    columns = COLUMNS
    conversations = False

    def __init__(self, model, template, tokenizer):
        self.model, self.template, self.tokenizer = model, template, tokenizer
        self.sizes = {"mels": model.n_mels}
        self.around = template.around(tokenizer, "text")

    def flaws(self, utt, seconds):
        if utt.wav is None or utt.task != "<TRANSCRIBE>":
            yield f"{utt.where}: task {utt.task}: a toy ear only transcribes recordings"

    def scan(self, utt) -> Scanned:
        labels = len(self.tokenizer.encode(written(utt.txt))) + 1  # the end
        return Scanned((None,), labels, self.around + labels)

    def request_tokens(self, request) -> int:
        return 0

    def brings_request(self, utt) -> bool:
        return False

    def features(self, utt, change=None):
        return features(utt, self.model.features, change)

    def example(self, utt, request, mel_TF, content_only=False):
        turn = Turn("text", speech=self.model.tokens(len(mel_TF)), answer=[("ce", written(utt.txt))])
        return {"mel_BTF": mel_TF} | self.template.sequence(self.tokenizer, turn).columns

    def report(self):
        return []
