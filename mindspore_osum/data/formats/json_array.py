"""A JSON array that is read element by element: files of several gigabytes are one array."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TextIO

from mindspore_osum.errors import UserError
from mindspore_osum.files import check_values

CHUNK = 2**20  # characters read at once
MAX_ELEMENT = 2**28  # characters; no recording has a list of segments that long
OVERLAP = 100  # characters; the array's start may extend over two chunks
_BETWEEN = re.compile(r"[\s,]*")


@dataclass
class _Window:
    """A window that moves forward over a text file."""

    file: TextIO
    text: str = ""
    at: int = 0  # the reader's position in `text`
    line: int = 1  # the line of this position

    def grow(self, size: int) -> bool:
        """Read more of the file; whether there was any."""
        more = self.file.read(size)
        self.text, self.at = self.text[self.at :] + more, 0
        return bool(more)

    def move(self, to: int) -> None:
        """Move forward within `text`."""
        self.line += self.text.count("\n", self.at, to)
        self.at = to


def elements(
    file: TextIO, path: str, opening: re.Pattern, missing: str, most: int = MAX_ELEMENT
) -> Iterator[tuple[int, object]]:
    """(line, element) of an array, holding one element at a time.

    Parameters
    ----------
    path : of the file, for errors.
    opening : what ends with the array's bracket.
    missing : the error if it is not found.
    most : largest element in characters.

    Raises
    ------
    UserError : the file has no such array, or is damaged or truncated within it.
    """
    window = _Window(file)
    while not (match := opening.search(window.text, window.at)):
        window.move(max(window.at, len(window.text) - OVERLAP))
        if not window.grow(CHUNK):
            raise UserError(f"{path}: {missing}")
    window.move(match.end())
    while not _at_end(window):
        line = window.line
        element, end = _decode(window, f"{path}:{line}", most)
        window.move(end)
        yield line, element


def _at_end(window: _Window) -> bool:
    """Move to the next element; True at the end of the array."""
    while True:
        window.move(_BETWEEN.match(window.text, window.at).end())
        if window.at < len(window.text):
            return window.text[window.at] == "]"
        if not window.grow(CHUNK):
            return False  # the decoder reports the missing end


def _decode(window: _Window, where: str, most: int) -> tuple[object, int]:
    size = CHUNK
    while True:
        try:
            return json.JSONDecoder().raw_decode(window.text, window.at)
        except (ValueError, RecursionError) as error:  # ValueError: also too long numbers
            if len(window.text) - window.at > most or not window.grow(size):
                reason = getattr(error, "msg", "nested too deeply")
                raise UserError(
                    f"{where}: damaged or truncated JSON ({reason}); get the file again"
                ) from None
            check_values(window.text, where)
            size *= 2
