"""Several tasks at once: which published keys to ask for, and how their answers become one."""

from collections.abc import Sequence

from mindspore_osum.config import did_you_mean
from mindspore_osum.errors import UserError
from mindspore_osum.inference.request import Request, make_request
from mindspore_osum.results import Answer, Word
from mindspore_osum.tasks import TAG_OF_KEY_PART, TASK_KEYS, TASKS, task_key

PART_OF_TAG = {tag: part for part, tag in TAG_OF_KEY_PART.items()}


def plan(tasks: Sequence[str], combine: bool = True) -> list[Request]:
    """The fewest requests for all tasks.

    A published key that combines exactly these tasks gives one pass. Otherwise keys are chosen greedily,
    each time the one that adds most tasks. All eight tasks take three: transcript with five labels, words
    with times, reply.

    Parameters
    ----------
    tasks : abbreviations ("sap"), tag names ("age") or published keys, in any mixture and order.
    combine : False asks for each task on its own.

    Raises
    ------
    UserError : no task, or one that does not exist.
    """
    if not tasks:
        raise UserError(f"no task: choose from {', '.join(TASKS)}")
    keys = [_key(task) for task in tasks]
    if not combine:
        return [make_request(key) for key in dict.fromkeys(keys)]
    for key in keys:
        make_request(key)  # refuses a key that needs no recording
    missing = set().union(*(key.split() for key in keys))
    wanted, chosen = frozenset(missing), []
    while missing:
        usable = [key for key in TASK_KEYS if wanted.issuperset(key.split())]
        best = max(usable, key=lambda key: (len(missing & set(key.split())), -len(key.split())))
        chosen.append(best)
        missing -= set(best.split())
    return [make_request(key) for key in chosen]


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

    `words` are shifted to the time of the recording, and kept in order and inside the section.
    """
    one = Answer(start, end, raw="\n".join(a.raw for a in answers), cut=any(a.cut for a in answers))
    one.text = next((a.text for a in answers if a.text), "")
    one.answer = next((a.answer for a in answers if a.answer is not None), None)
    one.words = next((_placed(a.words, start, end) for a in answers if a.words), [])
    one.error = next((a.error for a in answers if a.error), None)
    one.no_speech = bool(answers) and all(a.no_speech for a in answers)
    one.warnings = list(dict.fromkeys(line for a in answers for line in a.warnings))
    one.tags = list(dict.fromkeys(tag for a in answers for tag in a.tags))
    for answer in reversed(answers):
        one.labels |= answer.labels
        if answer.probabilities is not None:
            one.probabilities = (one.probabilities or {}) | answer.probabilities
    return one


def _placed(words, start: float, end: float) -> list[Word]:
    """Times in the recording; those the model wrote may go backwards or beyond it (`raw` keeps them)."""
    placed, earliest = [], start
    for text, first, last in words:
        first = min(max(start + first, earliest), end)
        last = min(max(start + last, first), end)
        placed.append(Word(text, round(first, 3), round(last, 3)))
        earliest = first
    return placed
