"""Cues: what subtitles show, line by line, and when.

Notable choices
- Cues are made from words if the model gave timestamps for all of them. Otherwise a segment is one cue, in
  as many lines as it needs: no times are invented, and no text is lost.
- Widths are columns: a Chinese, Japanese or Korean character takes two. Chinese and Japanese are split
  between characters, but not before a closing mark or behind an opening one; a long Latin word stays whole.
- Times are whole milliseconds, in order, without overlap and inside the recording.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple
from unicodedata import category, east_asian_width

from mindspore_osum.errors import UserError
from mindspore_osum.results import Answer, Response, Word, join_text

LINE_COLUMNS = 42
"""Widest line: the usual limit of broadcasters."""

CUE_SECONDS = 6.0
"""Longest time a cue of words stays."""

CUE_PAUSE = 0.6
"""Seconds without a word after which a new cue begins."""

MOMENT_MS = 50
"""Shortest time of a cue, whatever the model wrote."""

_SENTENCE_END = re.compile(r"[.!?。！？…]$")


class Span(NamedTuple):
    """A text with its start and end in milliseconds."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class Layout:
    """How cues are made.

    Attributes
    ----------
    max_line_width : columns of a line.
    max_lines : lines of a cue.
    max_words : words of a cue; None is any number.
    highlight_words : a cue for each word, which is underlined (``<u>``) in the text around it.
    """

    max_line_width: int = LINE_COLUMNS
    max_lines: int = 1
    max_words: int | None = None
    highlight_words: bool = False

    def __post_init__(self):
        for name in ("max_line_width", "max_lines", "max_words"):
            value = getattr(self, name)
            if (name, value) != ("max_words", None) and (type(value) is not int or value < 1):
                raise UserError(f"{name} {value!r}: must be a whole number, 1 or more")


def cues(
    response: Response, layout: Layout, escape: Callable[[str], str] = str, line_break: bool = True
) -> list[Span]:
    """The cues of a response.

    Parameters
    ----------
    escape : what the file format does to a text.
    line_break : whether lines are separated by line breaks; otherwise a text is one line, whatever its width.

    Raises
    ------
    UserError : highlighting without the times of any word.
    """
    segments = [(segment, _spaced_words(segment)) for segment in response.segments if segment.text.strip()]
    if layout.highlight_words and segments and not any(words for _, words in segments):
        raise UserError(
            f"{response.audio}: highlighting needs times of words, and the answer has none; ask for srwt, or "
            "leave highlighting out"
        )
    width = layout.max_line_width if line_break else math.inf
    found: list[Span] = []
    for segment, words in segments:
        for group in _groups(words, layout):
            lines = _wrap(_word_units(group), width)
            shown = _highlighted if layout.highlight_words else _whole
            found += shown(group, partial(_render, lines, escape))
        if not words:
            lines = _wrap(_units(segment.text), width)
            found += _whole([segment], partial(_render, lines, escape))
    return laid_out(found, response, MOMENT_MS)


def timed_words(segment: Answer) -> list[Word]:
    """The words of a segment if they cover all of its text, else none."""
    text, words = ("".join(part.split()) for part in (segment.text, "".join(w.text for w in segment.words)))
    return segment.words if words == text else []


def _spaced_words(segment: Answer) -> list[Word]:
    """As `timed_words`, each word with the space that is before it in the segment's text."""
    found, rest = [], segment.text.strip()
    for word in timed_words(segment):
        space = " " if rest[:1].isspace() else ""
        for _ in "".join(word.text.split()):
            rest = rest.lstrip()[1:]
        found.append(word._replace(text=space + word.text.strip()))
    return found


def laid_out(spans: Iterable[Span], response: Response, least: int) -> list[Span]:
    """The spans in order, without overlap, inside the recording and at least `least` ms long.

    Where so many do not fit into the recording they are shorter; those for which there is not even a
    millisecond are joined to the last one.
    """
    spans, end = list(spans), duration(response)
    if len(spans) > end:
        joined = join_text(span.text for span in spans[end - 1 :])
        spans[end - 1 :] = [Span(spans[end - 1].start, spans[-1].end, joined)]
    least = min(least, end // max(len(spans), 1))
    out: list[Span] = []
    for n, span in enumerate(spans):
        after = len(spans) - n - 1
        start = min(max(span.start, out[-1].end if out else 0), end - least * (after + 1))
        following = spans[n + 1].start if after else end
        last = max(start + least, min(span.end, following, end - least * after))
        out.append(Span(start, last, span.text))
    return out


def duration(response: Response) -> int:
    """Milliseconds of a recording, at least 1; if its length is not known, that of its segments."""
    seconds = response.seconds or max((segment.end for segment in response.segments), default=0.0)
    return max(int(seconds * 1000 + 1e-6), 1)


def ms(seconds: float) -> int:
    """Milliseconds."""
    return round(seconds * 1000)


def columns(text: str) -> int:
    """Width of a text: a wide character is two columns, a combining or invisible one none."""
    return sum(
        0 if category(char) in ("Mn", "Me", "Cf") else 2 if east_asian_width(char) in "WF" else 1
        for char in text
    )


class _Unit(NamedTuple):
    """What stays on one line."""

    text: str
    spaced: bool  # a space before it
    word: int = 0  # which of the words of the cue it belongs to


def _units(text: str, spaced: bool = False, word: int = 0) -> list[_Unit]:
    """The pieces of a text between which a line may end."""
    pieces = re.findall(r"\s*\S", text)
    units: list[_Unit] = []
    for piece in pieces:
        char, before = piece[-1], units[-1].text[-1] if units else ""
        if units and len(piece) == 1 and not _breakable(before, char):
            units[-1] = units[-1]._replace(text=units[-1].text + char)
        else:
            units.append(_Unit(char, len(piece) > 1 if units else spaced, word))
    return units


def _breakable(before: str, char: str) -> bool:
    """Whether a line may end between two characters without a space."""
    closing = category(char) in ("Pe", "Pf", "Po", "Lm", "Mn", "Me", "Cf")
    return (
        (_ideographic(before) or _ideographic(char)) and not closing and category(before) not in ("Ps", "Pi")
    )


def _ideographic(char: str) -> bool:
    """Whether it is of a script without spaces; Korean, with wide characters, too, has spaces."""
    return east_asian_width(char) in "WF" and not "\uac00" <= char <= "\ud7a3"


def _word_units(words: Sequence[Word]) -> list[_Unit]:
    """The pieces of words, each of which begins with a space if there is one before it."""
    units: list[_Unit] = []
    for n, word in enumerate(words):
        units += _units(word.text.strip(), bool(units) and word.text.startswith(" "), n)
    return units


def _wrap(units: Iterable[_Unit], width: float) -> list[list[_Unit]]:
    """Lines of at most `width` columns, filled from the first to the last."""
    lines: list[list[_Unit]] = []
    used = 0
    for unit in units:
        needed = unit.spaced + columns(unit.text)
        if not lines or used + needed > width:
            lines.append([])
            unit, used, needed = unit._replace(spaced=False), 0, columns(unit.text)
        lines[-1].append(unit)
        used += needed
    return lines


def _groups(words: Sequence[Word], layout: Layout) -> Iterator[list[Word]]:
    """Groups of words, one for each cue."""
    group: list[Word] = []
    for word in words:
        if group and (
            word.start - group[-1].end > CUE_PAUSE
            or word.end - group[0].start > CUE_SECONDS
            or len(_wrap(_word_units([*group, word]), layout.max_line_width)) > layout.max_lines
            or len(group) == layout.max_words
            or _SENTENCE_END.search(group[-1].text)
        ):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def _whole(words: Sequence[Word | Answer], render: Callable[..., str]) -> Iterator[Span]:
    """One cue of all words."""
    yield Span(ms(words[0].start), ms(words[-1].end), render())


def _highlighted(words: Sequence[Word], render: Callable[..., str]) -> Iterator[Span]:
    """One cue for each word and each pause between two, all with the whole text."""
    done = ms(words[0].start)
    for n, word in enumerate(words):
        start, end = ms(word.start), ms(word.end)
        if start - done >= MOMENT_MS:
            yield Span(done, start, render())
        done = max(end, start)
        yield Span(start, done, render(marked=n))


def _render(lines: Sequence[Sequence[_Unit]], escape: Callable[[str], str], marked: int | None = None) -> str:
    """The lines as text; the word with the number `marked` is underlined."""
    out = []
    for line in lines:
        text = ""
        for word, units in itertools.groupby(line, key=lambda unit: unit.word):
            piece = "".join(" " * unit.spaced + escape(unit.text) for unit in units)
            bare = piece.lstrip(" ")
            text += " " * (len(piece) - len(bare)) + (f"<u>{bare}</u>" if word == marked else bare)
        out.append(text)
    return "\n".join(out)
