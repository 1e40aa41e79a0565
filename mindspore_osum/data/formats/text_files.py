"""Manifests and lists as files: lines or one JSON array, plain or compressed with gzip, read as a stream."""

import contextlib
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mindspore_osum.data.formats.json_array import elements
from mindspore_osum.data.formats.manifest import MALFORMED, Skipped
from mindspore_osum.errors import UserError
from mindspore_osum.files import checked_object, json_object, without_mark

MAX_LINE = 2**24  # bytes; of an element of an array, characters
_MAX_BLANK = 10**6  # lines of nothing, one after the other
_MAX_RATIO, _FREE = 100, 4 << 20  # bytes of text for one of gzip, whose manifests have 5 to 30; and at least


class _Unpacked(io.RawIOBase):
    """A file of gzip that does not become a thousand times as long: OSError where it does."""

    def __init__(self, path: Path):
        self._packed = path.open("rb")
        self._file, self._most = gzip.open(self._packed), _MAX_RATIO * path.stat().st_size + _FREE

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        piece = self._file.read(len(buffer))
        buffer[: len(piece)] = piece
        if self._file.tell() > self._most:
            raise OSError(f"it becomes more than {self._most} bytes; if that is right, unpack it with gunzip")
        return len(piece)

    def close(self) -> None:
        self._file.close()
        self._packed.close()
        super().close()


def _open(path: Path) -> BinaryIO:
    return io.BufferedReader(_Unpacked(path), 1 << 16) if path.suffix.lower() == ".gz" else path.open("rb")


def suffix_of(path: Path) -> str:
    """The suffix of a file's name in lower case, without the one of compression."""
    return Path(path.stem if path.suffix.lower() == ".gz" else path.name).suffix.lower()


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """The file, decompressed; UserError if it cannot be read, now or later."""
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: cannot read the manifest (not a file)")
        with _open(path) as file:
            yield file
    except (OSError, ValueError, EOFError, zlib.error) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot read the manifest ({reason})") from None


def text_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """("file:line", line) of the lines that are not blank; too long ones are truncated to the limit + 1 byte.

    Raises
    ------
    UserError : the file cannot be read, or is not in UTF-8.
    """
    with _reading(path) as file:
        number = used = 0
        while raw := file.readline(MAX_LINE + 1):
            number += 1
            rest = raw
            while len(rest) > MAX_LINE and not rest.endswith(b"\n"):
                rest = file.readline(MAX_LINE + 1)
            raw = without_mark(raw, str(path)) if number == 1 else raw
            if number - used > _MAX_BLANK:
                raise UserError(f"{path}:{number}: {_MAX_BLANK} blank lines, so no manifest")
            if raw.strip():
                used = number
                yield f"{path}:{number}", raw


def json_objects(path: Path) -> Iterator[tuple[str, dict | Skipped]]:
    """("file:line", object, or the error in it) of each line, or of each element of a .json file's array.

    An element that begins on the line of the one before it has a second number: "file:line.2".

    Raises
    ------
    UserError : the file cannot be read, or is not in UTF-8.
    """
    yield from _elements(path) if suffix_of(path) == ".json" and _is_array(path) else _lines(path)


def _lines(path: Path) -> Iterator[tuple[str, dict | Skipped]]:
    for where, raw in text_lines(path):
        try:
            if len(raw) > MAX_LINE:
                raise UserError(f"{where}: a line of more than {MAX_LINE} bytes")
            yield where, json_object(raw, where)
        except UserError as error:
            yield where, Skipped(MALFORMED, str(error))


def _is_array(path: Path) -> bool:
    with _reading(path) as file:
        return without_mark(file.read(2**12), str(path)).lstrip().startswith(b"[")


def _elements(path: Path) -> Iterator[tuple[str, dict | Skipped]]:
    before, count = 0, 0
    where = str(path)
    try:
        with _reading(path) as raw:
            file = io.TextIOWrapper(raw, "utf-8-sig", "surrogateescape", "\n")
            for line, values in elements(file, where, re.compile(r"\["), "no array", MAX_LINE):
                count = count + 1 if line == before else 1
                before = line
                where = f"{path}:{line}.{count}" if count > 1 else f"{path}:{line}"
                try:
                    yield where, checked_object(values, where)
                except UserError as error:
                    yield where, Skipped(MALFORMED, str(error))
    except UserError as error:
        yield where, Skipped(MALFORMED, str(error))
