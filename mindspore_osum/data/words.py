"""The times of an utterance's words, where its line has them."""

from mindspore_osum.data.checks import TIME_SLACK
from mindspore_osum.data.formats.manifest import Utterance, key_of
from mindspore_osum.errors import UserError
from mindspore_osum.tasks import parse_answer, tags_of

_MAX_SECONDS = 1e6  # of a word's times; no recording is as long


def words_of(utt: Utterance, label: str | None = None) -> list[tuple[str, float, float]]:
    """(word, start, end) in seconds of `extra.words`, or of the answer; [] if neither has times.

    Parameters
    ----------
    label : the answer, if it is not the utterance's `txt`.

    Raises
    ------
    UserError : `extra.words` is no list of [word, start, end], or a word ends before it starts.
    """
    if utt.wav is None:
        return []
    if "words" not in utt.extra:
        key = key_of(utt)
        return parse_answer(utt.txt if label is None else label, key).words if "align" in tags_of(key) else []
    try:
        words = [(str(word), float(start), float(end)) for word, start, end in utt.extra["words"]]
        if not all(0 <= start <= end < _MAX_SECONDS for _, start, end in words):
            raise ValueError("a time is no number, has no end, or goes back")
        return words
    except (TypeError, ValueError, OverflowError):
        raise UserError(
            f"{utt.where}: extra.words is no list of [word, start, end] in seconds, start <= end"
        ) from None


def words_within(utt: Utterance, seconds: float) -> list[tuple[str, float, float]]:
    """`words_of` a recording of so many seconds; UserError if one ends after it."""
    words = words_of(utt)
    last = max((end for *_, end in words), default=0.0)
    if last > seconds + TIME_SLACK:
        raise UserError(
            f"{utt.where}: a word ends at {last:g} s, the recording at {seconds:.2f} s; correct the times"
        )
    return words
