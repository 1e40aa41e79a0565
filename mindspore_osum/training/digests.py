"""Digests of a checkpoint's files: whether what is read is what was written.

    state.json              "digests": {file: digest} of the files beside it, and "digest" of its own values
    shard_00000.json        "digest" of shard_00000.safetensors (training/shards.py)

Notable choices
- XXH3 (128 bits) is faster than disks, and finds every flipped bit. It is no protection against somebody who
  changes a file and its digest: a checkpoint, like a job, comes from whom you trust with the run.
- Each process digests its own large file, so that the first one reads only small ones of the others.
- No file is opened by a name that a file holds: the names found in the folder are looked up.
"""

import json
from pathlib import Path

import xxhash

from mindspore_osum.errors import UserError
from mindspore_osum.files import open_regular

_BLOCK = 1 << 22  # bytes read at once


class Damaged(UserError):
    """A file of a checkpoint is not what was written, or cannot be read; an older checkpoint may be whole."""


def digest_of(path: Path) -> str:
    """Digest of a file's bytes.

    Raises
    ------
    OSError, UserError : it cannot be read, or is no regular file.
    """
    total, block = xxhash.xxh3_128(), memoryview(bytearray(_BLOCK))
    with open_regular(path) as file:
        while size := file.readinto(block):
            total.update(block[:size])
    return total.hexdigest()


def check(path: Path, digest: object) -> None:
    """Raise `Damaged` unless a file has the digest that it had when it was written."""
    try:
        found = digest_of(path)
    except OSError as error:
        raise Damaged(f"{path}: cannot be read ({error.strerror})") from None
    except UserError as error:
        raise Damaged(str(error)) from None
    if found != digest:
        raise Damaged(f"{path}: damaged, its bytes are not those that were written")


def of_values(values: dict) -> str:
    """Digest of the values of a JSON object, without its own "digest"."""
    rest = {key: value for key, value in values.items() if key != "digest"}
    return xxhash.xxh3_128_hexdigest(json.dumps(rest, sort_keys=True).encode())
