"""The training data of a linear aligner: what it takes of a manifest, and the sequences of utterances."""

from collections.abc import Iterator

from mindspore_osum.data.batches.extractor import Scanned
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.systems.linear_aligner.config import LinearAlignerConfig
from mindspore_osum.systems.linear_aligner.requests import OF_LINES
from mindspore_osum.systems.linear_aligner.template import LOSSES, Layout
from mindspore_osum.systems.speech_extractor import SpeechExtractor
from mindspore_osum.text.sequence import HybridSequence
from mindspore_osum.text.template import Turn
from mindspore_osum.text.tokenizer import Tokenizer


class AlignerExtractor(SpeechExtractor):
    """Computes the columns of utterances.

    Parameters
    ----------
    model : its description.
    layout : its prompt set.
    """

    def __init__(self, model: LinearAlignerConfig, layout: Layout, tokenizer: Tokenizer):
        super().__init__(model)
        self.layout, self.tokenizer, self.tasks = layout, tokenizer, set()

    def flaws(self, utt: Utterance, seconds: float) -> Iterator[str]:
        """Problems of an utterance whose recording lasts `seconds`."""
        task = OF_LINES.get(utt.task)
        if task is None:
            known = ", ".join(key for key in OF_LINES if key.startswith("<"))
            yield f"{utt.where}: task {utt.task}: a linear aligner learns {known}"
        elif (task == "text") != (utt.wav is None):
            has = "has a recording, which it must not have" if utt.wav else "needs a recording"
            yield f"{utt.where}: task {utt.task} {has}"
        elif task == "text" and not _request(utt):
            yield f"{utt.where}: task {utt.task} needs the user's words in extra.question"
        elif not utt.txt.strip():
            yield f"{utt.where}: the answer is empty"

    def sequence(self, utt: Utterance, n_speech: int | None) -> HybridSequence:
        """The sequence of an utterance with so many speech tokens; None without a recording."""
        task = OF_LINES.get(utt.task)
        if task is None:
            raise UserError(f"{utt.where}: task {utt.task} is not known to a linear aligner")
        form = "text2text" if n_speech is None else "text"
        words = self.layout.words(task, _request(utt))
        turn = Turn(form, words, n_speech, answer=[(LOSSES[0], utt.txt.strip())])
        return self.layout.template.sequence(self.tokenizer, turn)

    def scan(self, utt: Utterance) -> Scanned:
        """The properties of an utterance that do not need its audio."""
        found = super().scan(utt)
        self.tasks.add(OF_LINES[utt.task])
        return found

    def report(self) -> list[str]:
        """A line about the tasks."""
        return [f"tasks: {', '.join(sorted(self.tasks))}"] if self.tasks else []  # none: of an index


def _request(utt: Utterance) -> str | None:
    """The user's words, None where there are none: `extra.request`, or `extra.question`.

    The question of a spoken chat is what is said in its recording.
    """
    names = ("request",) if OF_LINES.get(utt.task) == "qa" else ("request", "question")
    found = (utt.extra.get(name) for name in names)
    return next((words for words in found if isinstance(words, str) and words.strip()), None)
