"""What SentencePiece does not check in a model: how long the texts are that its normalisers write.

They replace a character by any text: a file of some megabytes could turn a request, or an answer, into
gigabytes. The file is a message of protobuf; only its lengths are read.
"""

import struct
from collections.abc import Iterator

from mindspore_osum.errors import UserError

_MAX_REPLACEMENT = 256  # bytes for a character; those of Unicode's normal forms have at most 33
_NORMALIZERS, _CHARSMAP = (3, 5), 2  # numbers of fields of ModelProto and NormalizerSpec


def check_sizes(data: bytes, where: str) -> None:
    """Refuse a model whose replacements are far longer than those of a language.

    Parameters
    ----------
    data : a file that SentencePiece could read.

    Raises
    ------
    UserError : a long replacement, or fields that cannot be followed.
    """
    try:
        for number, content in _fields(data):
            if number in _NORMALIZERS:
                for inner, charsmap in _fields(content):
                    if inner == _CHARSMAP and charsmap:
                        _check_replacements(charsmap, where)
    except (IndexError, struct.error):
        raise UserError(f"{where}: not a SentencePiece model, or damaged") from None


def _check_replacements(charsmap: bytes, where: str) -> None:
    """A trie, with its size in bytes in front, then texts that each end with a zero byte."""
    (size,) = struct.unpack_from("<I", charsmap)
    longest = max(map(len, charsmap[4 + size :].split(b"\0")))
    if longest > _MAX_REPLACEMENT:
        raise UserError(f"{where}: it replaces a character by {longest} bytes, at most {_MAX_REPLACEMENT}")


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of the fields of a message that have a length."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag & 7 == 0:
            _, at = _varint(data, at)
        elif tag & 7 == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise IndexError("a field ends after its message")
            yield tag >> 3, data[at : at + size]
            at += size
        elif tag & 7 in (1, 5):
            at += 8 if tag & 7 == 1 else 4
        else:
            raise IndexError("a group")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, and the byte after it."""
    value = shift = 0
    while (byte := data[at]) > 127:
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if shift > 63:
            raise IndexError("a number of more than ten bytes")
    return value | byte << shift, at + 1
