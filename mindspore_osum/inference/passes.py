"""Several tasks at once: which published keys to ask for, and how their answers become one."""

import itertools
import math
from bisect import bisect_right
from collections.abc import Sequence

from mindspore_osum.config import did_you_mean
from mindspore_osum.errors import UserError
from mindspore_osum.inference.request import Request, make_request
from mindspore_osum.results import Answer, Word
from mindspore_osum.tasks import TAG_OF_KEY_PART, TASK_KEYS, TASKS, task_key

WORD_SECONDS = 0.3  # length of a word that was written without a possible one
PART_OF_TAG = {tag: part for part, tag in TAG_OF_KEY_PART.items()}


def plan(tasks: Sequence[str], combine: bool = True, hotwords: str | Sequence[str] = ()) -> list[Request]:
    """The fewest requests for all tasks.

    A published key that combines exactly these tasks gives one pass. Otherwise keys are chosen greedily,
    each time the one that adds most tasks. All eight tasks take three: transcript with five labels, words
    with times, reply.

    Parameters
    ----------
    tasks : abbreviations ("sap"), tag names ("age") or published keys, in any mixture and order.
    combine : False asks for each task on its own.
    hotwords : of every request, see `make_request`.

    Raises
    ------
    UserError : no task, or one that does not exist.
    """
    if not tasks:
        raise UserError(f"no task: choose from {', '.join(TASKS)}")
    keys = [_key(task) for task in tasks]
    if not combine:
        return [make_request(key, hotwords=hotwords) for key in dict.fromkeys(keys)]
    for key in keys:
        make_request(key)  # refuses a key that needs no recording
    missing = set().union(*(key.split() for key in keys))
    wanted, chosen = frozenset(missing), []
    while missing:
        usable = [key for key in TASK_KEYS if wanted.issuperset(key.split())]
        best = max(usable, key=lambda key: (len(missing & set(key.split())), -len(key.split())))
        chosen.append(best)
        missing -= set(best.split())
    return [make_request(key, hotwords=hotwords) for key in chosen]


def _key(task: str) -> str:
    """The published key of an abbreviation, a tag's name or a key."""
    if part := PART_OF_TAG.get(task.lower()):
        return part
    try:
        return task_key(task)
    except UserError as error:
        raise UserError(f"{error}; tag names do as well{did_you_mean(task.lower(), PART_OF_TAG)}") from None


def merge(answers: Sequence[Answer], start: float, end: float) -> Answer:
    """Merge the answers of all passes over a section of a recording; of several values the first counts.

    `words` are shifted to the time of the recording; they are in order, without overlap, inside the section.
    """
    one = Answer(start, end, raw="\n".join(a.raw for a in answers), cut=any(a.cut for a in answers))
    one.text = next((a.text for a in answers if a.text), "")
    one.answer = next((a.answer for a in answers if a.answer is not None), None)
    one.words = next((_placed(a.words, start, end) for a in answers if a.words), [])
    times = next((a.sections for a in answers if a.sections), [])
    one.sections = [Word(text, min(start + a, end), min(start + b, end)) for text, a, b in times]
    one.language = next((a.language for a in answers if a.language), "")
    for name in ("no_speech_prob", "avg_logprob", "temperature", "compression_ratio"):
        given = (getattr(a, name) for a in answers)
        setattr(one, name, next((value for value in given if value is not None), None))
    one.error = next((a.error for a in answers if a.error), None)
    one.no_speech = bool(answers) and all(a.no_speech for a in answers)
    one.warnings = list(dict.fromkeys(line for a in answers for line in a.warnings))
    sure = [a.confidence for a in answers if a.confidence is not None]
    one.confidence = sum(sure) / len(sure) if sure else None
    chosen = next((a for a in answers if a.words), None) or next((a for a in answers if a.text), None)
    one.word_confidence = chosen.word_confidence if chosen else None
    one.marks = [mark for a in answers for mark in a.marks]
    one.tags = list(dict.fromkeys(tag for a in answers for tag in a.tags))
    for answer in reversed(answers):
        one.labels |= answer.labels
        if answer.probabilities is not None:
            one.probabilities = (one.probabilities or {}) | answer.probabilities
    return one


def _placed(words: Sequence[Word], start: float, end: float) -> list[Word]:
    """Words in the time of the recording: in order, without overlap and inside the section.

    The times a model writes may go backwards or beyond the recording (`raw` keeps them). The words whose
    starts form the longest sequence in order keep them; the others are moved between their neighbours.
    """
    kept = _in_order([word[1] for word in words], end - start)
    spans = [(min(start + first, end), min(start + _end(first, last), end)) for _, first, last in words]
    bounds = [-1, *kept, len(words)]
    for before, after in itertools.pairwise(bounds):
        limit = spans[after][0] if after < len(words) else end
        earliest = start
        if before >= 0:
            first, last = spans[before]
            if after - before > 1 and last >= limit:  # half of its time for those moved behind it
                last = (first + limit) / 2
            spans[before] = first, min(last, limit)
            earliest = spans[before][1]
        spans[before + 1 : after] = _between(words[before + 1 : after], earliest, limit, at_end=before < 0)
    return [Word(word[0], round(a, 3), round(b, 3)) for word, (a, b) in zip(words, spans, strict=True)]


def _in_order(starts: Sequence[float], seconds: float) -> list[int]:
    """Indices of the longest sequence of starts that do not decrease, all from 0 to `seconds`."""
    ends: list[float] = []  # of the best sequence of each length: the smallest last start
    length_of = []
    for first in starts:
        place = bisect_right(ends, first) if 0 <= first <= seconds else -1
        if place >= 0:
            ends[place : place + 1] = [first]
        length_of.append(place)
    kept, wanted, latest = [], len(ends) - 1, math.inf
    for i in reversed(range(len(starts))):
        if wanted >= 0 and length_of[i] == wanted and starts[i] <= latest:
            kept.append(i)
            wanted, latest = wanted - 1, starts[i]
    return kept[::-1]


def _between(words: Sequence[Word], start: float, end: float, at_end: bool) -> list[tuple[float, float]]:
    """Times of moved words from start to end: as long as they were written, if there is time for them."""
    share = (end - start) / max(len(words), 1)
    seconds = [min(share, _end(first, last) - first or WORD_SECONDS) for _, first, last in words]
    if at_end:
        start = end - sum(seconds)
    times = list(itertools.accumulate(seconds, initial=start))
    return list(itertools.pairwise(times))


def _end(first: float, last: float) -> float:
    """End of a word as it was written, unless that is before its start."""
    return last if last >= first else first + WORD_SECONDS
