"""Offsets and sizes of the members of a tar, from one pass over its headers; nothing is unpacked.

Notable choices
- Each process builds the index and keeps it in memory. An index file beside the tar would have to be written
  into data folders that may be read-only or shared by many processes, and could become outdated.
- The `tarfile` module is not used: it allocates memory as a header claims, and some versions loop forever on
  a negative offset. Here the offset only moves forward, and nothing large is read.
- Names are never used as paths, so "../x" and absolute names are harmless.
- Compressed tars are refused: their members cannot be read by offset.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from mindspore_osum.data.formats.manifest import MALFORMED, Skipped
from mindspore_osum.errors import UserError, is_plain
from mindspore_osum.stores import place

BLOCK = 512
_MAX_NAME = 2**16  # bytes of a long name or a pax header
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
# header types
_REGULAR, _FOLDER, _IGNORED = b"0\x007", b"5", b"gK"  # g: global comments, K: long link target
_WITHOUT_DATA = b"123456"  # links, devices and folders, whose size is meaningless


class Member(NamedTuple):
    """A file in a tar."""

    name: str
    offset: int  # bytes, of its content
    size: int  # bytes


class TarReader:
    """A tar opened for reading.

    Parameters
    ----------
    path : an uncompressed tar: POSIX (ustar, pax), GNU or version 7.

    Raises
    ------
    UserError : it cannot be opened, or is compressed.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        try:
            found = place(path)
            if found.exists() and not found.is_file():
                raise UserError(f"{path}: not a file")
            self._file = found.open("rb")
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
            reason = getattr(error, "strerror", None) or error
            raise UserError(f"{path}: cannot read the shard ({reason})") from None
        self._size = self._file.seek(0, os.SEEK_END)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self._file.close()

    def read(self, member: Member) -> bytes:
        """The content of a member; check its size first."""
        return self._bytes(member.offset, member.size)

    def members(self) -> Iterator[Member | Skipped]:
        """All plain files in order, and Skipped for other members.

        Raises
        ------
        UserError : the tar is damaged; raised after the members before the damage.
        """
        at, stated = 0, {}  # name and size of the next member, from an extra header
        while block := self._header(at):
            name, size, kind = self._fields(block, at)
            start = at + BLOCK
            if kind in b"Lx":
                at = self._end(start, size, name, _MAX_NAME)
                content = self._bytes(start, size)
                stated |= {"name": _text(content)} if kind == b"L" else self._pax(content, start)
                continue
            if kind in _IGNORED:
                at = self._end(start, size, name)
                continue
            name, size = stated.get("name", name), stated.get("size", size)
            stated = {}
            at = self._end(start, 0 if kind in _WITHOUT_DATA else size, name)
            if not is_plain(name):  # it would be a part of keys and messages
                yield Skipped(MALFORMED, f"{self.path}: byte {at}: {name[:80]!r} is no name for a sample")
            elif kind in _REGULAR and not name.endswith("/"):
                yield Member(name, start, size)
            elif kind not in _REGULAR + _FOLDER:
                what = f"a link, a device or a sparse file (type {kind!r})"
                yield Skipped(MALFORMED, f"{self.path}:{name}: is {what}; pack plain files")

    def _header(self, at: int) -> bytes | None:
        """The header at an offset; None at the end of the archive, a block of zeros."""
        block = self._bytes(at, BLOCK)
        if at == 0:
            for magic, what in _COMPRESSED.items():
                if block.startswith(magic):
                    raise UserError(
                        f"{self.path}: is compressed ({what}); unpack it to a plain .tar, whose "
                        "recordings can be read by their offset in it"
                    )
        if len(block) < BLOCK:
            raise UserError(f"{self.path}: truncated, it has no end mark after byte {at}; copy it again")
        return block if any(block) else None

    def _fields(self, block: bytes, at: int) -> tuple[str, int, bytes]:
        """Name, size and type of a header."""
        plain = block[:148] + b" " * 8 + block[156:]
        excess = sum(plain) - (_number(block[148:156]) or 0)
        # the checksum of old tars is a sum of signed bytes
        if excess and excess != 256 * sum(byte > 127 for byte in plain):
            raise UserError(f"{self.path}: not a tar, or damaged, at byte {at} (wrong checksum)")
        name, size = _text(block[:100]), _number(block[124:136])
        if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
            name = f"{prefix}/{name}"
        if size is None:
            raise UserError(f"{self.path}: damaged at byte {at}: no size of {name!r}")
        return name, size, block[156:157]

    def _end(self, start: int, size: int, name: str, most: int | None = None) -> int:
        """The offset after a member's content."""
        if most is not None and size > most:
            raise UserError(f"{self.path}: damaged at byte {start}: {size} bytes of header; at most {most}")
        if start + size > self._size:
            raise UserError(
                f"{self.path}: truncated, {name!r} of {size} bytes begins at byte {start} of "
                f"{self._size}; copy it again"
            )
        return start + -(-size // BLOCK) * BLOCK

    def _pax(self, content: bytes, at: int) -> dict:
        """Name and size from a pax header, whose lines are "length key=value"."""
        stated, start = {}, 0
        while start < len(content):
            length = content[start : start + 8].partition(b" ")[0]
            end = start + int(length) if length.isdigit() and len(length) < 8 else 0
            key, equals, value = content[start + len(length) + 1 : max(end - 1, 0)].partition(b"=")
            if not equals or content[end - 1 : end] != b"\n":
                raise UserError(f"{self.path}: damaged at byte {at}: broken pax header")
            if key == b"path":
                stated["name"] = _text(value)
            elif key == b"size":
                if not value.isdigit() or len(value) > 20:
                    raise UserError(f"{self.path}: damaged at byte {at}: no size in its pax header")
                stated["size"] = int(value)
            elif key.startswith(b"GNU.sparse"):
                raise UserError(f"{self.path}: holds sparse files (byte {at}); pack plain ones")
            start = end
        return stated

    def _bytes(self, at: int, size: int) -> bytes:
        self._file.seek(at)
        return self._file.read(size)


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")


def _number(raw: bytes) -> int | None:
    """A number field: octal digits, or GNU's base 256; None if it is neither, or negative."""
    if raw[0] == 0x80:
        return int.from_bytes(raw[1:], "big")
    digits = raw.split(b"\0", 1)[0].strip()
    return int(digits, 8) if digits and not digits.strip(b"01234567") else 0 if not digits else None
