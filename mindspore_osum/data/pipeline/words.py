"""Transcripts with the times of their words: targets of srwt (OSUM, section 2.4).

Notable choices
- The transcript is kept as it is written: each of its words has the times of the aligner's word with the same
  letters, and the marks beside it. Where letters differ nothing is guessed: the line is left out.
- An aligner's entry belongs to an utterance by its key, with times from the beginning of the utterance; else
  by the name of its recording, with times from the beginning of that.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from mindspore_osum.data.batches.batching import seconds_of
from mindspore_osum.data.checks import LeftOut, flaws
from mindspore_osum.data.formats.manifest import Skipped, Utterance
from mindspore_osum.data.formats.word_times import Timed, WordTimes
from mindspore_osum.data.pipeline.journal import Journal
from mindspore_osum.data.pipeline.reading import Usable
from mindspore_osum.errors import UserError, one_line
from mindspore_osum.tasks import TASKS, format_answer, parse_answer, write_tags

SRWT = TASKS["srwt"]
NO_TIMES = "no times for it"
_EDGE = 0.05  # seconds of a word that may be outside the part of its recording that is used


Found = Callable[[Iterable[Utterance]], Iterator[tuple[Utterance, list[Timed] | None]]]


def timed(usable: Usable, found: Found, left_out: LeftOut) -> Iterator[Utterance]:
    """The utterances as examples of srwt.

    Parameters
    ----------
    usable : their transcripts, of any task that has one; wrong ones are reported there.
    found : utterances -> each with its words, None if nothing is known of it.
    left_out : counts those of which nothing is known.
    """
    for utt, words in found(usable):
        try:
            if words is None:
                left_out.add(Skipped(NO_TIMES, f"{utt.where}: {utt.key}", False))
            else:
                yield with_times(utt, words)
        except UserError as error:
            usable.leave_out(error)


def of_files(usable: Usable, times: WordTimes) -> Iterator[tuple[Utterance, list[Timed] | None]]:
    """`found` of the files of an aligner."""
    for utt in usable:
        try:
            words = found_words(utt, times)
        except UserError as error:
            usable.leave_out(error)
        else:
            yield utt, words


def kept(utterances: Iterable[Utterance], journal: Journal, rows: int, find: Found):
    """`found` of a model, which is asked for what a journal does not have: as `find`, in groups of `rows`.

    Yields
    ------
    utterance, words : in order; utterances for which `find` gives nothing are left out.
    """
    utterances = iter(utterances)
    while group := list(islice(utterances, rows)):
        for utt in group:
            if utt.key in journal:
                journal.check(utt.key, utt)
        for utt, words in find([utt for utt in group if utt.key not in journal]):
            journal.add({"key": utt.key, "words": words}, utt)
        for utt in group:
            if utt.key in journal:
                yield utt, [(word, start, end) for word, start, end in journal[utt.key]["words"]]


def found_words(utt: Utterance, times: WordTimes) -> list[Timed] | None:
    """The words of an utterance in its own time; None if the files have none of it."""
    if utt.key in times:
        return times[utt.key]
    stem = Path(getattr(utt.wav, "name", utt.wav)).stem
    if stem not in times:
        return None
    begin, end = utt.start or 0.0, float("inf") if utt.end is None else utt.end
    inside = [w for w in times[stem] if w[1] >= begin - _EDGE and w[2] <= end + _EDGE]
    return [(word, max(0.0, start - begin), stop - begin) for word, start, stop in inside]


def with_times(utt: Utterance, words: Sequence[Timed]) -> Utterance:
    """The utterance as an example of srwt; UserError if the words are not those of its transcript."""
    text = parse_answer(utt.txt, utt.task).text
    if not text:
        raise UserError(f"{utt.where}: no transcript in {one_line(utt.txt, 60)!r}; its task has none")
    try:
        spelled = spell(text, words)
    except UserError as error:
        raise UserError(f"{utt.where}: {error}") from None
    answer = format_answer(SRWT.key, words=spelled).removeprefix(write_tags(SRWT.tags))
    extra = {name: value for name, value in utt.extra.items() if name != "words"}  # else they would count
    made = replace(utt, txt=answer, task=SRWT.key, extra=extra)
    if flaw := next(flaws(made, seconds_of(utt)), None):
        raise UserError(flaw)
    return made


def spell(text: str, words: Iterable[Timed]) -> list[Timed]:
    """An aligner's words as the transcript writes them, with all of its marks.

    Raises
    ------
    UserError : the letters differ, or there are signs that would read as times.
    """
    if "<" in text or ">" in text:
        raise UserError(f"{one_line(text, 60)!r}: < and > in a transcript would read as times; take them out")
    spelled: list[Timed] = []
    at = 0
    for word, start, end in words:
        wanted, begin, have = letters(word), at, ""
        while at < len(text) and len(have) < len(wanted):
            have += letters(text[at])
            at += 1
        if have != wanted:
            seen = one_line(text[begin : begin + 30].strip(), 40)
            raise UserError(f"the aligner has {one_line(word, 40)!r} where the transcript has {seen!r}")
        while at < len(text) and not letters(text[at]) and not text[at].isspace():  # marks
            at += 1
        if wanted:
            spelled.append((" ".join(text[begin:at].split()), start, end))
    rest = text[at:].strip()
    if letters(rest) or not spelled:
        raise UserError(f"the aligner has no words for {one_line(rest, 40)!r} of the transcript")
    if rest:  # marks alone
        word, *edges = spelled[-1]
        spelled[-1] = (f"{word} {rest}", *edges)
    return spelled


def letters(text: str) -> str:
    """The letters and digits of a text, whatever their case and form."""
    folded = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LMN")
