"""Files of object stores beside those of this machine: addresses such as s3://bucket/folder/a.wav, by fsspec.

Notable choices
- A store is asked for ranges of bytes: manifests and the headers of tars are read as streams, a recording or
  a member of a tar is fetched with one request.
- Keys and endpoints are given to the store's own package, by its variables of the environment or
  fsspec's configuration, never in an address.
- A file that is not there is an error of the data, as on a disk; a store that cannot be reached ends the job
  (`Unreachable`): nothing is wrong with its recordings.
"""

import contextlib
import errno
import io
import os
import posixpath
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

from mindspore_osum.errors import Unreachable, UserError, one_line

STORES = {"s3": "s3fs", "oss": "ossfs", "obs": "obsfs"}
"""Scheme of an address, which is also the name of the extra, and the package behind it."""

MAX_FETCHED = 2**30
"""Bytes of a recording that is fetched: it is held in memory."""

_MANY = 20  # objects of a folder that are asked for one by one
_BLOCK = 2**18  # bytes of a request, at least, where a file is read as a stream


def is_address(name: str) -> bool:
    """Whether this is an address like https://..., and not a path."""
    return bool(re.match(r"[a-z][a-z0-9+.-]+://", name, re.IGNORECASE))


def not_fetched(name: str) -> UserError:
    """The error of an address that is none of a store."""
    known = ", ".join(STORES)
    return UserError(
        f"{name}: only addresses of object stores ({known}) are fetched; download it and give the file"
    )


def is_stored(name: str) -> bool:
    """Whether this is the address of an object in a store."""
    return bool(re.match(rf"({'|'.join(STORES)})://", name))


def joined(folder: "Path | Address", name: str) -> str:
    """A name in a folder; one that is an address stays as it is."""
    return name if is_stored(name) else str(folder / name)


def place(path: "str | os.PathLike | Address") -> "Path | Address":
    """A path or an address, as something that readers can open; UserError for other addresses."""
    name = os.fspath(path)
    if is_address(name) and not is_stored(name):
        raise not_fetched(name)
    if is_stored(name) and "@" in name.split("/")[2]:
        raise UserError(
            f"{name.partition('://')[0]}://...@...: keys are not given in an address; docs/SCALE.md has "
            "their variables"
        )
    return Address(name) if is_stored(name) else Path(name)


def fetch(address: str, offset: int | None = None, size: int | None = None) -> bytes:
    """The bytes of an object, or `size` of them from `offset` on.

    Raises
    ------
    FileNotFoundError : there is no such object.
    UserError : it is larger than `MAX_FETCHED`.
    Unreachable : the store does not give it.
    """
    source = Address(address)
    found = source.stat().st_size if size is None else size
    if found > MAX_FETCHED:
        raise UserError(f"{address}: {found} bytes, at most {MAX_FETCHED} are fetched; download it")
    if not found:
        return b""
    begin = offset or 0
    return source.ask(lambda store, key: store.cat_file(key, start=begin, end=begin + found))


def list_ahead(addresses: Iterable[str]) -> None:
    """Ask for the folders of many objects, so that nothing is asked for each of them."""
    folders = Counter(str(Address(address).parent) for address in addresses if is_stored(address))
    for folder in (folder for folder, count in folders.items() if count > _MANY):
        with contextlib.suppress(FileNotFoundError):
            Address(folder).ask(_listed)


def _listed(store, key: str) -> None:
    store.invalidate_cache(key)
    store.ls(key, detail=True)


class Address(os.PathLike):
    """An object in a store, with that part of pathlib's interface which readers use."""

    def __init__(self, address: str):
        self.scheme, _, key = address.partition("://")
        self._key = PurePosixPath(posixpath.normpath(key))

    def __fspath__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{self.scheme}://{self._key}"

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    def __eq__(self, other) -> bool:
        return isinstance(other, Address) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name) -> "Path | Address":
        name = os.fspath(name)
        inside = not is_stored(name) and not os.path.isabs(name)
        return Address(f"{self.scheme}://{self._key}/{name}") if inside else place(name)

    @property
    def name(self) -> str:
        return self._key.name

    @property
    def stem(self) -> str:
        return self._key.stem

    @property
    def suffix(self) -> str:
        return self._key.suffix

    @property
    def parent(self) -> "Address":
        return Address(f"{self.scheme}://{self._key.parent}")

    def exists(self) -> bool:
        """Whether there is such an object."""
        return self.is_file()

    def is_file(self) -> bool:
        """Whether there is such an object."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether names of objects go on behind this one."""
        return self.ask(lambda store, key: store.isdir(key))

    def stat(self) -> SimpleNamespace:
        """Size in bytes, time of the last change in ns, and the store's own digest (its ETag, or "")."""
        found = self.ask(lambda store, key: store.info(key))
        if found.get("type") == "directory":
            raise FileNotFoundError(errno.ENOENT, "no such object", str(self))
        time = found.get("LastModified") or found.get("last_modified") or 0
        # whole seconds, as the answer about one object has them; that about a folder may have more
        time = int(time.timestamp()) * 10**9 if hasattr(time, "timestamp") else 0
        etag = str(found.get("ETag") or found.get("etag") or "").strip('"')
        return SimpleNamespace(st_size=int(found["size"]), st_mtime_ns=time, digest=etag)

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """The object, to be read and sought in."""
        if mode != "rb":
            raise ValueError(f"{self}: objects are only read")
        options = {"block_size": _BLOCK, "cache_type": "readahead"}
        file = self.ask(lambda store, key: store.open(key, "rb", **options))
        return io.BufferedReader(_Stream(self, file), _BLOCK)

    def ask(self, what):
        """What a store answers to a request; its errors as those of this module."""
        store = _store(self.scheme)
        try:
            return what(store, str(self._key))
        except FileNotFoundError as error:
            if "bucket does not exist" in str(error):  # so none of its objects does
                raise Unreachable(f"{self}: {one_line(str(error), 200)}; check the address") from None
            raise FileNotFoundError(errno.ENOENT, "no such object in the store", str(self)) from None
        except Unreachable:
            raise
        except Exception as error:  # each package has its own
            raise Unreachable(f"{self}: {_reason(error)}") from None


class _Stream(io.RawIOBase):
    """An open object whose errors are those of this module."""

    def __init__(self, address: Address, file):
        self._address, self._file = address, file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer) -> int:
        data = self._address.ask(lambda store, key: self._file.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


@cache
def _store(scheme: str):
    """The file system of a scheme."""
    import fsspec

    try:
        return fsspec.filesystem(scheme)
    except ImportError as error:
        raise Unreachable(
            f"{scheme}://: needs the package {STORES[scheme]} ({one_line(str(error), 80)}); "
            f"pip install 'mindspore-osum[{scheme}]'"
        ) from None
    except Exception as error:
        raise Unreachable(f"{scheme}://: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, PermissionError):
        why = "the store refuses it, check the keys and the bucket's policy"
    else:
        why = "the store does not give it, check its endpoint, keys and the network"
    return f"{why} ({one_line(f'{type(error).__name__}: {error}', 200)})"
