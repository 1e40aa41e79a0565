"""Errors in an utterance that show without its recording, and how many errors a job accepts.

Notable choices
- One list of checks for training and for `osum data validate`.
- Labels are read with the parser of the model's answers (tasks.parse_answer): training accepts what it reads.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from reprlib import repr as short

from mindspore_osum.data.formats.manifest import TEXT_TASKS, Skipped, Utterance
from mindspore_osum.errors import UserError, one_line
from mindspore_osum.tasks import ANSWER_MARK, INTENT_KEY, LABEL_SETS, TAG_OF_KEY_PART, parse_answer, tags_of
from mindspore_osum.text.sentence_piece import special_in

_TAG = re.compile(rf"<\s*({'|'.join(TAG_OF_KEY_PART.values())})\s*>", re.IGNORECASE)
TIME_SLACK = 0.1  # seconds that a word may end after its recording, since aligners round
UNUSABLE = "unusable"


def flaws(utt: Utterance, seconds: float | None = None) -> Iterator[str]:
    """Errors in task, labels and word times, as "file:line: what".

    Parameters
    ----------
    seconds : duration of the recording, or of the part that the utterance uses; None if unknown.
    """
    needed = {TEXT_TASKS[0]: "question", INTENT_KEY: "intent"}.get(utt.task)
    if needed:
        if utt.wav is not None:
            yield f"{utt.where}: task {utt.task} holds no speech, but there is a recording; leave it out"
        words = utt.extra.get(needed)
        if not isinstance(words, str) or not words.strip():
            yield f"{utt.where}: task {utt.task} needs the user's words in extra.{needed}"
        return
    try:
        tags = tags_of(utt.task)
    except UserError as error:
        yield f"{utt.where}: {error}"
        return
    if not tags:  # another spelling of a text task, with a recording
        yield f"{utt.where}: task {utt.task}: holds no speech; write it as {INTENT_KEY}, without a recording"
        return
    answer = parse_answer(utt.txt, utt.task)
    for labels in (LABEL_SETS[tag] for tag in tags if tag in LABEL_SETS):
        if labels.field not in answer.labels:
            yield (
                f"{utt.where}: no {labels.field} in {utt.txt[-60:]!r}; expected one of "
                f"{', '.join(labels.values)}"
            )
    if tags == ("asr",) and not answer.text:
        yield f"{utt.where}: no transcript in {utt.txt[-60:]!r}"
    if {"asr", "chat"} <= {*tags} and ANSWER_MARK not in utt.txt:
        yield f"{utt.where}: no {ANSWER_MARK} between transcript and reply in {utt.txt[-60:]!r}"
    if "align" in tags:
        yield from (f"{utt.where}: {flaw}" for flaw in _times(answer, seconds))


def translation_flaws(utt: Utterance) -> Iterator[str]:
    """Errors in a line of speech translation, which only some systems learn."""
    if utt.wav is None:
        yield f"{utt.where}: task {utt.task} needs a recording, but there is no 'wav'"
    if not utt.txt.strip():
        yield f"{utt.where}: no translation in 'txt'"


def marks(utt: Utterance, special_in: Callable[[str], list[str]] = special_in) -> Iterator[str]:
    """What an answer spells although it means something else to the model, as "file:line: what".

    Parameters
    ----------
    special_in : text -> the tokenizer's special pieces in it.
    """
    if pieces := special_in(utt.txt):
        yield f"{utt.where}: {pieces[0]!r} in {short(utt.txt)} is a control piece, not text; take it out"
    try:
        tags = () if utt.task == TEXT_TASKS[0] else tags_of(utt.task)
    except UserError:
        return  # `flaws` has it
    if utt.task == INTENT_KEY:
        return  # its answer is tags
    if tag := _TAG.search(utt.txt):
        yield f"{utt.where}: {tag[0]!r} in {short(utt.txt)} is a tag, which the task puts there; take it out"
    if ANSWER_MARK in utt.txt and "chat" not in tags:
        yield f"{utt.where}: {ANSWER_MARK!r} in {short(utt.txt)} begins a reply, but the task has none"
    if tags:
        own = {LABEL_SETS[tag].field for tag in tags if tag in LABEL_SETS}
        labels = parse_answer(utt.txt, utt.task).labels
        for name in labels.keys() - own:
            yield f"{utt.where}: label <{labels[name]}> in {short(utt.txt)}: task {utt.task} has no {name}"


def _times(answer, seconds: float | None) -> Iterator[str]:
    """Errors in the word timestamps."""
    if not answer.words or answer.unknown:
        rest = f" at {answer.unknown[0]!r}" if answer.unknown else ""
        yield f"no times of words{rest}; expected <start>word<end> in seconds, for instance <0.21>one<0.47>"
        return
    before = (0.0, 0.0)
    for word, start, end in answer.words:
        if end < start or start < before[0] or end < before[1]:
            yield f"the times of {word!r}, {start} to {end} s, go back"
            return
        before = (start, end)
    if seconds is not None and before[1] > seconds + TIME_SLACK:
        yield f"{answer.words[-1][0]!r} ends at {before[1]} s, the recording at {seconds:.2f} s"


class LeftOut:
    """What was left out of a source: counted by reason, with the first of each kept as an example."""

    def __init__(self):
        self.counts: Counter[str] = Counter()
        self.first: dict[str, str] = {}

    def add(self, skipped: Skipped) -> None:
        """Count one."""
        self.counts[skipped.reason] += 1
        self.first.setdefault(skipped.reason, one_line(skipped.text))

    def lines(self) -> list[str]:
        """One line for each reason."""
        return [f"{n} left out, {reason} (first: {self.first[reason]})" for reason, n in self.counts.items()]


class Errors:
    """Counts the errors in a job's data and ends the job when there are too many.

    Parameters
    ----------
    most : number of errors that are skipped; one more ends the job.
    strict : whether the first error ends the job.
    setting : name of the setting with the limit, for the message.
    """

    def __init__(self, most: int = 100, strict: bool = False, setting: str = "data.max_errors"):
        self.most, self.strict, self.setting = most, strict, setting
        self.count, self.first = 0, ""

    def take(self, skipped: Skipped) -> None:
        """Count one; UserError if there are now too many."""
        if not skipped.error:
            return
        if self.strict:
            raise UserError(skipped.text)
        self.count += 1
        self.first = self.first or skipped.text
        if self.count > self.most:
            raise UserError(
                f"more than {self.most} errors in the data; the first: {self.first}; fix it "
                f"(`osum data validate` lists all) or raise {self.setting}"
            )
