"""Words of a transcript and their times, from the frames at which its tokens are heard.

The rules are those of openai-whisper's `tokenizer.py` and `timing.py`, so that times are equal: which tokens
are a word, which marks belong to which word, and what is done about words longer than people speak them.

Legend: L tokens, P steps of a path through tokens and frames.
"""

import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

# languages without spaces, whose words are characters
WITHOUT_SPACES = ("zh", "ja", "th", "lo", "my", "yue")
BEFORE_WORD, AFTER_WORD = (
    "\"'“¿([{-",
    "\"'.。,，!！?？:：”)]}、",
)  # marks that belong to the next word, or the last
SENTENCE_END = ".。!！?？"
USUAL_SECONDS = 0.7  # longest median of a word's length
PAUSE = 4  # usual lengths: after a pause of so many, words are checked
BEYOND = 0.5  # seconds that a word may go beyond the timestamps of its section
_BROKEN = "\ufffd"  # bytes that are no character

Decode = Callable[[Sequence[int]], str]


@dataclass
class SpokenWord:
    """A word as it is written, with the space before it, its tokens, its times in seconds, and the mean
    probability of the tokens."""

    text: str
    tokens: list[int]
    start: float
    end: float
    probability: float


@dataclass
class Section:
    """What stands between two timestamps: times in seconds of the recording, all its tokens, its words."""

    start: float
    end: float
    tokens: list[int]
    words: list[SpokenWord] = field(default_factory=list)


def spelled(ids: Sequence[int], decode: Decode, spaces: bool) -> list[tuple[str, list[int]]]:
    """The tokens of a text by words, each with its text; their texts joined are the text.

    Parameters
    ----------
    ids : text tokens alone.
    spaces : whether words begin with a space; else each character, or what has no smaller tokens, is one.
    """
    found: list[tuple[str, list[int]]] = []
    for text, tokens in _characters(ids, decode):
        # as there: a run of marks in the order of ASCII, or a space alone, begins a word, too
        if not spaces or not found or text.startswith(" ") or text.strip() in string.punctuation:
            found.append((text, tokens))
        else:
            before, held = found[-1]
            found[-1] = before + text, held + tokens
    return found


def _characters(ids: Sequence[int], decode: Decode) -> Iterator[tuple[str, list[int]]]:
    """The fewest tokens at a time that are whole characters; broken ones of the text itself are such."""
    whole, at, held = decode(ids), 0, []
    for i in ids:
        held.append(i)
        text = decode(held)
        broken = text.find(_BROKEN)
        if broken < 0 or whole[at + broken : at + broken + 1] == _BROKEN:
            yield text, held
            at, held = at + len(text), []
    if held:
        yield decode(held), held


def timed(
    spelling: Sequence[tuple[str, list[int]]],
    path: tuple[np.ndarray, np.ndarray],
    p_L: np.ndarray,
    per_second: float,
) -> list[SpokenWord]:
    """Words from the first frame of their first token to that of the next word's.

    Parameters
    ----------
    path : tokens (P,) and frames (P,), of the words' tokens and the end.
    p_L : probability of each of the words' tokens.
    per_second : frames of a second.
    """
    tokens_P, frames_P = path
    begin_L = frames_P[np.diff(tokens_P, prepend=-1) > 0] / per_second
    words, at = [], 0
    for text, tokens in spelling:
        end = at + len(tokens)
        sure = float(np.mean(p_L[at:end]))
        words.append(SpokenWord(text, [*tokens], float(begin_L[at]), float(begin_L[end]), sure))
        at = end
    return words


def place(
    sections: Sequence[Section], words: Sequence[SpokenWord], eot: int, start: float, spoken: float
) -> float:
    """Give sections their words, and times that fit these; returns until when something was said.

    Parameters
    ----------
    words : of all sections' texts, in order, timed from the beginning of the window; they are changed.
    eot : the first token that is no text.
    start : of the window, in seconds of the recording.
    spoken : until when something was said before it.
    """
    usual, longest = _usual_lengths(words)
    _shorten_beside_marks(words, longest)
    words, at = _with_marks(words), 0
    for section in sections:
        left = sum(i < eot for i in section.tokens)
        while at < len(words) and left > 0:
            word = words[at]
            word.start, word.end = round(start + word.start, 2), round(start + word.end, 2)
            section.words.append(word)
            left, at = left - len(word.tokens), at + 1
        if section.words:
            _shorten_after_pause(section.words, spoken, usual, longest)
            _fit(section, usual)
            spoken = section.end
    return spoken


def _usual_lengths(words: Sequence[SpokenWord]) -> tuple[float, float]:
    """The median length of words, and the longest that is believed, in seconds."""
    lengths = [word.end - word.start for word in words if word.end != word.start]
    usual = min(USUAL_SECONDS, float(np.median(lengths))) if lengths else 0.0
    return usual, 2 * usual


def _shorten_beside_marks(words: Sequence[SpokenWord], longest: float) -> None:
    """A mark that ends a sentence, and the word after one, are no longer than `longest`."""
    if not longest:
        return
    for before, word in zip(words, words[1:], strict=False):
        if word.end - word.start > longest:
            if word.text in SENTENCE_END:
                word.end = word.start + longest
            elif before.text in SENTENCE_END:
                word.start = word.end - longest


def _with_marks(words: Sequence[SpokenWord]) -> list[SpokenWord]:
    """Marks joined to their words, whose times stay."""
    joined: list[SpokenWord] = []
    for word in reversed(words):
        if joined and word.text.startswith(" ") and word.text.strip() in BEFORE_WORD:
            after = joined[-1]
            after.text, after.tokens = word.text + after.text, word.tokens + after.tokens
        else:
            joined.append(word)
    found: list[SpokenWord] = []
    for word in reversed(joined):
        if found and not found[-1].text.endswith(" ") and word.text in AFTER_WORD:
            found[-1].text += word.text
            found[-1].tokens += word.tokens
        else:
            found.append(word)
    return found


def _shorten_after_pause(words: Sequence[SpokenWord], spoken: float, usual: float, longest: float) -> None:
    """The first two words of a section, if they seem to begin in the pause before it."""
    first, two = words[0], words[1:2]
    if first.end - spoken <= PAUSE * usual:
        return
    if first.end - first.start > longest or (two and two[0].end - first.start > 2 * longest):
        if two and two[0].end - two[0].start > longest:
            first.end = two[0].start = max(two[0].end / 2, two[0].end - longest)
        first.start = max(0.0, first.end - longest)


def _fit(section: Section, usual: float) -> None:
    """A section has the times of its words, unless these go far beyond the timestamps that were written."""
    first, last = section.words[0], section.words[-1]
    if section.start < first.end and section.start - BEYOND > first.start:
        first.start = max(0.0, min(first.end - usual, section.start))
    else:
        section.start = first.start
    if section.end > last.start and section.end + BEYOND < last.end:
        last.end = max(last.start + usual, section.end)
    else:
        section.end = last.end
