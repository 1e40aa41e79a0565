"""The bytes of a recording, whatever they are given as: path, bytes, file object, or part of another file."""

from __future__ import annotations

import io
import os
from contextlib import ExitStack
from dataclasses import dataclass

from mindspore_osum.errors import UserError
from mindspore_osum.stores import fetch, is_address, is_stored, not_fetched


@dataclass(frozen=True, slots=True)
class FilePart:
    """A recording inside another file, for example a member of a tar; it is read without unpacking."""

    path: str
    offset: int  # bytes
    size: int  # bytes
    name: str  # of the recording, for errors

    def __str__(self) -> str:
        return f"{self.path}:{self.name}"


class _PartReader(io.RawIOBase):
    """The bytes of a `FilePart` as a stream."""

    def __init__(self, file, part: FilePart):
        self._file, self._part, self._at = file, part, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._part.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer) -> int:
        size = max(0, min(len(buffer), self._part.size - self._at))
        self._file.seek(self._part.offset + self._at)
        data = self._file.read(size)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class Nameless:
    """A stream without its name, so that a decoder goes by the content."""

    def __init__(self, stream):
        self._stream, self.read, self.tell = stream, stream.read, stream.tell

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As the stream's; -1, an error to decoders, where a damaged file sends them before its beginning."""
        try:
            return self._stream.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1


def open_bytes(source, stack: ExitStack) -> tuple[str, io.BufferedIOBase]:
    """(name for errors, binary stream at its start); what is opened here is closed by `stack`.

    Raises
    ------
    UserError : no such file, a folder or a pipe, an empty file, a stream of text or one that cannot seek, or
        something that is no recording.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        name, stream = "audio bytes", io.BytesIO(source)
    elif isinstance(source, (str, os.PathLike)):
        name = os.fsdecode(source)
        stream = _fetched(name, name) if is_stored(name) else stack.enter_context(_open_path(name))
    elif isinstance(source, FilePart) and is_stored(source.path):
        name = str(source)
        stream = _fetched(name, source.path, source.offset, source.size)
    elif isinstance(source, FilePart):
        name, file = str(source), stack.enter_context(_open_path(source.path))
        stream = io.BufferedReader(_PartReader(file, source))
    elif hasattr(source, "read"):
        name, stream = str(getattr(source, "name", None) or "audio file object"), source
    else:
        raise UserError(
            f"audio source of type {type(source).__name__}: give a path, bytes, a binary "
            "file object, a FilePart or a tuple (array, rate)"
        )
    if isinstance(stream, io.TextIOBase):
        raise UserError(f"{name}: is open as text; open it with mode 'rb'")
    if not stream.seekable():
        raise UserError(f"{name}: cannot seek in this stream; read it and give the bytes")
    if stream.seek(0, os.SEEK_END) == 0:
        raise UserError(f"{name}: the file is empty (0 bytes)")
    stream.seek(0)
    return name, stream


def _fetched(name: str, *part) -> io.BytesIO:
    """A recording in an object store, whole: decoders read through callbacks, which must not fail."""
    try:
        return io.BytesIO(fetch(*part))
    except FileNotFoundError as error:
        raise UserError(f"{name}: {error.strerror}") from None


def _open_path(name: str):
    try:
        if os.path.exists(name) and not os.path.isfile(name):  # opening a named pipe could block forever
            kind = "a directory" if os.path.isdir(name) else "a device or a pipe"
            raise UserError(f"{name}: is {kind}, not an audio file")
        return open(name, "rb")
    except FileNotFoundError as error:
        if is_address(name):
            raise not_fetched(name) from None
        raise UserError(f"{name}: no such audio file") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name!r}: cannot open the audio file ({reason})") from error
