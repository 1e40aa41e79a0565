"""Lists all errors in training data, line by line."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from mindspore_osum.data.batches.batching import samples, seconds_of
from mindspore_osum.data.checks import flaws, marks, translation_flaws
from mindspore_osum.data.formats.manifest import Skipped, Utterance
from mindspore_osum.data.formats.sources import once, open_source
from mindspore_osum.errors import UserError, one_line
from mindspore_osum.speech.audio import SAMPLE_RATE, cancels
from mindspore_osum.tasks import is_translation
from mindspore_osum.text.sentence_piece import special_in

_HEARD = 10.0  # seconds of a recording of several channels that are decoded in any case
_CANCELLED = (
    "its channels cancel each other out (opposite phase): where their mean is silent, training takes the "
    "first; export the recording with one channel"
)


@dataclass
class Report:
    """Counts of one source."""

    path: str
    utterances: int = 0  # without errors
    hours: float = 0.0  # of their recordings
    errors: int = 0
    left_out: int = 0  # by rule: without errors, but not used
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)  # about usable utterances
    formats: dict[str, int] = field(default_factory=dict)  # format -> lines, or samples of shards


def validate_source(
    path: str,
    decode: bool = False,
    say: Callable[[str], None] = print,
    special_in: Callable[[str], list[str]] = special_in,
) -> Report:
    """Check everything in a source.

    Parameters
    ----------
    path : see `data.formats.sources.open_source`.
    decode : whether recordings are decoded; otherwise only their headers are read.
    say : called with each problem and warning when it is found.
    special_in : text -> the special pieces in it; by default those of the published tokenizer.

    Raises
    ------
    UserError : the source cannot be read at all.
    """
    report, seen, formats, phase = Report(str(path)), set(), Counter(), _Phase(decode)
    for item in open_source(path, formats):
        if isinstance(item, Utterance):
            item = once(item, seen)  # two shards of a list may have the same key
        problems, seconds = _look(item, decode)
        if isinstance(item, Utterance) and not problems:
            problems = [*marks(item, special_in), *phase.problems(item)]
        for problem in map(one_line, problems):
            report.problems.append(problem)
            say(problem)
        if not problems and isinstance(item, Utterance) and phase.cancels:
            report.warnings.append(one_line(f"{item.where}: warning: {_CANCELLED}"))
            say(report.warnings[-1])
        if isinstance(item, Skipped) and not item.error:
            report.left_out += 1
        else:
            report.errors += len(problems)
            report.utterances += not problems
            report.hours += 0 if problems else seconds / 3600
    report.formats = dict(formats.most_common())
    return report


class _Phase:
    """Looks for channels that cancel each other out; parts of a recording in a row share its answer."""

    def __init__(self, decode: bool):
        self._seconds = float("inf") if decode else _HEARD
        self._wav, self.cancels = None, False

    def problems(self, utt: Utterance) -> list[str]:
        """Set `cancels` for an utterance; the error if its recording cannot be decoded."""
        if utt.wav != self._wav or utt.wav is None:
            try:
                self._wav, self.cancels = utt.wav, bool(utt.wav) and cancels(utt.wav, self._seconds)
            except UserError as error:
                self._wav, self.cancels = None, False
                return [f"{utt.where}: {error}"]
        return []


def _look(item: Utterance | Skipped, decode: bool) -> tuple[list[str], float]:
    """The errors in an utterance, and its seconds."""
    if isinstance(item, Skipped):
        return [item.text], 0.0
    try:
        seconds = seconds_of(item)
        if decode and item.wav:
            seconds = len(samples(item)) / SAMPLE_RATE
    except UserError as error:
        return [*_flaws(item), str(error)], 0.0
    return list(_flaws(item, seconds if item.wav else None)), seconds


def _flaws(utt: Utterance, seconds: float | None = None) -> Iterator[str]:
    """As `checks.flaws`, for the lines of all systems."""
    return translation_flaws(utt) if is_translation(utt.task) else flaws(utt, seconds)
