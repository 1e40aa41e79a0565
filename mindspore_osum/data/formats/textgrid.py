"""Praat TextGrid files, as forced aligners write them: the words of an interval tier and their times.

Both text forms are read: Praat takes of a file only its numbers, its texts in quotes and its flags <...>, in
order, and ignores all else; so does this. (Praat manual, "TextGrid file formats".)
"""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from mindspore_osum.errors import UserError, one_line
from mindspore_osum.files import as_text, read_bytes

MAX_BYTES = 1 << 24
MOST = 10**6  # intervals of a tier, tiers of a file
# a text with its quotes doubled, a flag, a comment, or any other word, which is a number or ignored
_PIECE = re.compile(r'"(?:[^"]|"")*"|<[^<>\s]*>|!.*|[^\s"]+')
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
INTERVALS, POINTS = "IntervalTier", "TextTier"

Interval = tuple[str, float, float]  # text, start and end in seconds


def read_tiers(path: Path) -> dict[str, list[Interval]]:
    """Tier -> its intervals, those without text included; tiers of points are left out.

    Raises
    ------
    UserError : it cannot be read, is no TextGrid, or has two interval tiers of one name.
    """
    pieces = _Pieces(path, _text(path))
    if pieces.text("a text") != "ooTextFile" or pieces.text("a text") != "TextGrid":
        raise UserError(f"{path}: no TextGrid in Praat's text form; save it as a text file")
    pieces.number(), pieces.number()
    if pieces.flag() != "<exists>":
        return {}
    tiers: dict[str, list[Interval]] = {}
    for _ in range(pieces.count()):
        kind, name = pieces.text("the class of a tier"), pieces.text("the name of a tier")
        pieces.number(), pieces.number()
        if kind == POINTS:
            for _ in range(pieces.count()):
                pieces.number(), pieces.text("a text")
        elif kind != INTERVALS:
            raise UserError(f"{path}:{pieces.line}: a tier of class {kind!r}; expected {INTERVALS}")
        elif name in tiers:
            raise UserError(f"{path}:{pieces.line}: a second tier {name!r}; rename one")
        else:
            tiers[name] = [_interval(pieces) for _ in range(pieces.count())]
    return tiers


def _interval(pieces: "_Pieces") -> Interval:
    start, end = pieces.number(), pieces.number()
    return pieces.text("the text of an interval"), start, end


def _text(path: Path) -> str:
    """The file's text; Praat writes UTF-16 as soon as a character is not ASCII."""
    raw = read_bytes(path, "a TextGrid of an utterance", MAX_BYTES)
    if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        try:
            return raw.decode("utf-16")
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not text in UTF-16 ({error})") from None
    return as_text(raw, str(path))


class _Pieces:
    """What of a file counts, in order, with the line of the last piece."""

    def __init__(self, path: Path, text: str):
        self.path, self.line = path, 1
        self._found = self._pieces(text)

    def _pieces(self, text: str) -> Iterator[str]:
        at = 0
        for match in _PIECE.finditer(text):
            self.line += text.count("\n", at, match.start())
            at = match.start()
            piece = match[0]
            if piece[0] in '"<' or _NUMBER.fullmatch(piece):
                yield piece

    def _next(self, wanted: str) -> str:
        piece = next(self._found, None)
        if piece is None:
            raise UserError(f"{self.path}:{self.line}: ends where {wanted} is expected")
        return piece

    def _wrong(self, piece: str, wanted: str) -> UserError:
        return UserError(f"{self.path}:{self.line}: {one_line(piece, 60)}: expected {wanted}")

    def text(self, wanted: str) -> str:
        """The next piece, a text."""
        piece = self._next(wanted)
        if piece[0] != '"':
            raise self._wrong(piece, wanted)
        return piece[1:-1].replace('""', '"')

    def number(self, wanted: str = "seconds") -> float:
        """The next piece, a number."""
        piece = self._next(wanted)
        if not _NUMBER.fullmatch(piece):
            raise self._wrong(piece, wanted)
        return float(piece)

    def flag(self) -> str:
        """The next piece, a flag."""
        piece = self._next("<exists> or <absent>")
        if piece[0] != "<":
            raise self._wrong(piece, "<exists> or <absent>")
        return piece

    def count(self) -> int:
        """The next piece, how many of something follow."""
        value = self.number("a count")
        if not 0 <= value <= MOST or value != int(value):
            raise self._wrong(f"{value:g}", f"a count of at most {MOST}")
        return int(value)
