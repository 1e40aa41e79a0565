"""Small files: atomic writes of text, bounded reads of text and JSON objects, one-line errors.

Notable choices
- A file gets its name only when all of it is on the disk (temporary file, fsync, rename).
- JSON is limited in bytes, values and depth; its text must be valid Unicode, so that it can be written again.
- All text that people wrote is decoded here: UTF-8, whose byte order mark (editors of Windows) is dropped.
"""

import codecs
import contextlib
import errno
import json
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from mindspore_osum.errors import UserError
from mindspore_osum.interrupts import unfinished

MAX_BYTES = 1 << 20
"""Of a JSON file that describes something."""

_MAX_DEPTH = 50  # of nested objects and lists
_MAX_VALUES = 1_000_000  # of a JSON text; parsed, the smallest take fifty times their bytes


class NoSpace(UserError):
    """The disk, or the user's share of it, is full."""


def is_full(error: OSError) -> bool:
    """Whether a file could not be written because there is no space for it."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a UTF-8 text file atomically; UserError if it cannot be written, `NoSpace` on a full disk."""
    try:
        with replacing(path) as file:
            file.write(text.encode("utf-8"))
    except OSError as error:
        kind = NoSpace if is_full(error) else UserError
        raise kind(f"{path}: cannot write there ({error.strerror})") from None


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file to write to, which gets the name `path` when the block ends; an error changes nothing.

    Raises
    ------
    OSError : it cannot be written.
    """
    path = Path(path)
    handle, temp = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    unfinished.add(Path(temp))
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            finish(file)
        os.replace(temp, path)
    except BaseException:
        Path(temp).unlink(missing_ok=True)
        raise
    finally:
        unfinished.discard(Path(temp))


def check_place(path: Path, name: str) -> None:
    """UserError, which begins with `name`, if nothing can be made at a path; for before long work."""
    check_on_disk(path, name)
    try:
        folder = next(folder for folder in path.absolute().parents if folder.exists())
        usable = folder.is_dir() and os.access(folder, os.W_OK)
    except OSError as error:
        raise UserError(f"{name}: cannot write there ({error.strerror}); give another place") from None
    if not usable:
        raise UserError(f"{name}: cannot write in {folder}; give another place")


def check_on_disk(path: str | os.PathLike, name: str) -> None:
    """UserError, which begins with `name`, for the address of an object store, also as a `Path` has it."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", os.fspath(path)):
        raise UserError(f"{name}: results are written on disks; give a path of this machine")


def finish(file: BinaryIO) -> None:
    """Flush a written file to the disk, give it an ordinary file's permissions, and close it."""
    file.flush()
    os.fchmod(file.fileno(), ordinary(0o666))  # mkstemp made it private
    os.fsync(file.fileno())
    file.close()


def ordinary(mode: int) -> int:
    """The permissions that a new file or folder of `mode` gets in this process."""
    mask = os.umask(0)
    os.umask(mask)
    return mode & ~mask


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def whole_lines(path: Path) -> list[bytes]:
    """The lines of an append-only file; an incomplete last line (after a kill) is removed."""
    with open(path, "rb+") as file:
        data = file.read()
        end = data.rfind(b"\n") + 1
        file.truncate(end)
    return data[:end].splitlines()


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """A regular file, opened for reading without waiting; pipes and devices could block or never end.

    Raises
    ------
    OSError : it cannot be opened.
    UserError : it is no regular file, or no name of one.
    """
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    except ValueError as error:  # a zero byte in the name, or half of a character
        raise UserError(f"{path}: cannot read it ({error})") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UserError(f"{path}: not a regular file")
    return file


def read_text(path: str | os.PathLike, what: str = "a text", most: int = MAX_BYTES) -> str:
    """The text of a file.

    Parameters
    ----------
    what : description of the file, for the error about a too large one.
    most : largest size in bytes.

    Raises
    ------
    UserError : it cannot be read, is larger, or is not text in UTF-8.
    """
    return as_text(_read(path, what, most), str(path))


def read_json(path: str | os.PathLike, what: str = "a description", most: int = MAX_BYTES) -> dict:
    """The JSON object that a file holds; parameters as in `read_text`.

    Raises
    ------
    UserError : it cannot be read, is larger, or is not a JSON object.
    """
    return json_object(read_bytes(path, what, most), str(path))


def read_bytes(path: str | os.PathLike, what: str, most: int) -> bytes:
    """The bytes of a regular file; parameters as in `read_text`.

    Raises
    ------
    UserError : it cannot be read, is larger, or is a pipe or device, which could wait for ever.
    """
    return _read(path, what, most, open_regular)


def _read(path: str | os.PathLike, what: str, most: int, open_file=lambda path: open(path, "rb")) -> bytes:
    try:
        with open_file(path) as file:
            raw = file.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise UserError(f"{path}: cannot read it ({getattr(error, 'strerror', None) or error})") from None
    if len(raw) > most:
        raise UserError(f"{path}: larger than {most} bytes, not {what}")
    return raw


def as_text(raw: bytes, where: str) -> str:
    """The text of a file, or of a line: UTF-8, without a byte order mark.

    Raises
    ------
    UserError : it is not UTF-8.
    """
    raw = without_mark(raw, where)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not text in UTF-8 ({error})") from None


def without_mark(raw: bytes, where: str) -> bytes:
    """The beginning of a text file without the byte order mark of UTF-8.

    Raises
    ------
    UserError : it is UTF-16 or UTF-32, which some programs of Windows write as "Unicode".
    """
    half = raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # also how UTF-32 begins, in one order
    if half or raw[1:2] == raw[3:4] == b"\0" or raw[:1] == raw[2:3] == b"\0":
        raise UserError(f"{where}: not text in UTF-8 but in UTF-16 or UTF-32; save the file as UTF-8")
    return raw.removeprefix(codecs.BOM_UTF8)


def json_object(raw: bytes, where: str) -> dict:
    """The JSON object of a line or file.

    Parameters
    ----------
    raw : its bytes; the caller limits their number.
    where : file, or file:line, for the error.

    Raises
    ------
    UserError : not JSON in UTF-8, no object, too many values or levels, or a lone surrogate in a text.
    """
    raw = without_mark(raw, where)
    check_values(raw, where)
    try:
        values = json.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, ValueError, RecursionError) as error:  # ValueError: also too long numbers
        raise UserError(f"{where}: not a JSON object in UTF-8 ({error})") from None
    return checked_object(values, where, b"\\ud" in raw.lower())


def check_values(text: str | bytes, where: str) -> None:
    """Refuse a JSON text of very many values before it is parsed; those of its texts count, too."""
    signs = ",[{" if isinstance(text, str) else (b",", b"[", b"{")
    if (count := sum(map(text.count, signs))) > _MAX_VALUES:
        raise UserError(f"{where}: JSON of {count} values, at most {_MAX_VALUES} are read")


def checked_object(values, where: str, escapes: bool = True) -> dict:
    """Parsed JSON, if it is an object that can be shown and written again.

    Parameters
    ----------
    escapes : whether its text may hold lone surrogates, which only escapes can write.

    Raises
    ------
    UserError : not an object, nested too deeply, or with a lone surrogate in a text.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected an object {{...}}, found {type(values).__name__}")
    level = [values]
    for _ in range(_MAX_DEPTH):
        level = [
            v
            for outer in level
            for v in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(v, dict | list)
        ]
    if level:  # deeper values could not be shown or written again
        raise UserError(f"{where}: more than {_MAX_DEPTH} objects or lists in one another")
    if escapes and not _can_be_written(values):
        raise UserError(
            f"{where}: holds half of a character (\\ud800 to \\udfff alone); write the text again"
        )
    return values


def _can_be_written(values: dict) -> bool:
    """Whether all text in an object can be encoded in UTF-8."""
    try:
        json.dumps(values, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
