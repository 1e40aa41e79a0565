"""The files that an index was made of, and whether one has changed since.

Notable choices
- Size and time of a file are compared first. Only where the time alone differs, as after copying, its digest
  is computed anew: of a manifest or list that of its bytes, of a shard that of what it says, and where.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import xxhash

from mindspore_osum.data.formats.manifest import Skipped, Utterance
from mindspore_osum.data.formats.sources import Shard, read_listed
from mindspore_osum.data.formats.store import line_digest
from mindspore_osum.errors import UserError
from mindspore_osum.speech.opening import FilePart
from mindspore_osum.stores import Address, place

_PIECE = 2**22  # bytes read at once


@dataclass(frozen=True)
class Stamp:
    """A source when it was read.

    Attributes
    ----------
    path : of the file.
    combined : for a shard, the list that replaces its texts; else None.
    size, time : bytes, -1 where there is no file, and nanoseconds of its last change.
    digest : of its bytes, or of what the shard says.
    """

    path: str
    combined: str | None
    size: int
    time: int
    digest: str = ""


def stamp_of(path: str | os.PathLike, combined: str | os.PathLike | None = None) -> Stamp:
    """Size and time of a file, without a digest; UserError if they cannot be told."""
    combined = combined and str(combined)
    try:
        found = place(path).stat()
    except FileNotFoundError:
        return Stamp(str(path), combined, -1, 0)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return Stamp(str(path), combined, found.st_size, found.st_mtime_ns)


def bytes_digest(path: str | os.PathLike) -> str:
    """The digest of a manifest or list; of one in an object store that of the store."""
    source, digest = place(path), xxhash.xxh3_128()
    if isinstance(source, Address):
        return source.stat().digest
    with open(source, "rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


class ShardDigest:
    """The digest of a shard, from its items in their order."""

    def __init__(self):
        self._digest = xxhash.xxh3_128()

    def add(self, item: Utterance | Skipped) -> None:
        """Take one more item."""
        if isinstance(item, Skipped):
            self._digest.update(item.reason.encode())
            return
        self._digest.update(line_digest(item))
        if isinstance(item.wav, FilePart):
            self._digest.update(f"{item.wav.offset} {item.wav.size} {item.wav.name}".encode())

    def hexdigest(self) -> str:
        """The digest so far."""
        return self._digest.hexdigest()


def change(then: Stamp, path: Path, combined: Path | None) -> str:
    """What has changed in the file at `path` since; "" if nothing has."""
    now = stamp_of(path)
    if now.size < 0 <= then.size:
        return "is not there any more"
    if now.size != then.size:
        return f"has {now.size} bytes, not {then.size}"
    if now.time == then.time or _digest(then, path, combined) == then.digest:
        return ""
    return "has other contents"


def _digest(then: Stamp, path: Path, combined: Path | None) -> str:
    if path.suffix != ".tar" or isinstance(path, Address):
        return bytes_digest(path)
    digest = ShardDigest()
    for item in read_listed(Shard(path, combined, str(path))):
        digest.add(item)
    return digest.hexdigest()
