"""What a long command has done, line by line, so that the same command goes on where it was stopped."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mindspore_osum.errors import UserError
from mindspore_osum.files import json_object, replacing

if TYPE_CHECKING:
    from mindspore_osum.data.formats.manifest import Utterance

_BLOCK = 1 << 20  # bytes
_MOST_SETTINGS = 64 << 20  # bytes
_SOURCE = "source_digest"


class Journal:
    """A file of JSON objects with a "key", whose first line are the settings of the command.

    Parameters
    ----------
    path : it is continued where it is there already; a line that is not complete is dropped.
    settings : what the lines follow from.
    anew : what to remove to begin anew, if it is more than the file.

    Raises
    ------
    UserError : it was begun with other settings, or is damaged.
    OSError : it cannot be read or written.
    """

    def __init__(self, path: Path, settings: dict, anew: Path | None = None):
        self.path, self._anew = path, f"remove {anew or 'it'} to begin anew"
        check_begun(path, settings, anew)
        if not _has_lines(path):
            with replacing(path) as file:
                file.write(_first(settings))
        self._places: dict[str, int] = {}  # key -> its first byte
        at = 0
        for number, line in enumerate(open_lines(path), 1):
            if number > 1:
                self._places[self._key(line, number)] = at
            at += len(line)
        self._file = open(path, "rb+", buffering=0)

    def _key(self, line: bytes, number: int) -> str:
        where = f"{self.path}:{number}"
        try:
            key = json_object(line, where)["key"]
            if not isinstance(key, str):
                raise KeyError
        except (UserError, KeyError):
            raise UserError(
                f"{where}: no line of this command, so the file is damaged; {self._anew}"
            ) from None
        return key

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> dict:
        """The object of a key."""
        with open(self.path, "rb") as file:
            file.seek(self._places[key])
            return json_object(file.readline(), f"{self.path}: {key}")

    def check(self, key: str, source: "Utterance") -> None:
        """Refuse to take up what was made of a source whose line has changed since."""
        if self[key].get(_SOURCE) != digest_of(source):
            raise UserError(f"{source.where}: its line has changed since {self.path} was begun; {self._anew}")

    def add(self, values: dict, source: "Utterance | None" = None) -> None:
        """Append an object; it is on the disk, or in the system's care, when this returns.

        Parameters
        ----------
        source : the utterance that it was made of, so that `check` knows it again.
        """
        of = {} if source is None else {_SOURCE: digest_of(source)}
        line = _line(values | of)
        at = self._file.seek(0, os.SEEK_END)
        left = memoryview(line)
        while left:
            left = left[self._file.write(left) :]
        self._places[values["key"]] = at

    def lines(self) -> Iterator[bytes]:
        """The lines of objects, in order, without what is known of their sources."""
        lines = open_lines(self.path)
        next(lines)
        for line in lines:
            values = json.loads(line)
            values.pop(_SOURCE, None)
            yield _line(values)

    def close(self) -> None:
        """Close the file; it stays for the next time, if there is anything in it."""
        self._file.close()
        if not self._places:
            self.path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Close and delete it: all is done."""
        self._file.close()
        self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def journal_beside(out: Path, settings: dict) -> Iterator[Journal]:
    """The journal OUT.begun of an output; it is removed when the block ends, and kept if that fails.

    Raises
    ------
    UserError : as `Journal`; it cannot be written.
    """
    begun = out.with_name(out.name + ".begun")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        journal = Journal(begun, settings)
        try:
            yield journal
        finally:
            journal.close()
        journal.remove()
    except OSError as error:
        raise UserError(f"{error.filename or begun}: cannot write there ({error.strerror})") from None


def digest_of(utt: "Utterance") -> str:
    """What tells an utterance of a source from another one of its key: all of its line, and its recording."""
    from mindspore_osum.data.formats.store import line_digest

    return f"{line_digest(utt).hex()} {utt.wav}"


def _line(values: dict) -> bytes:
    return json.dumps(values, ensure_ascii=False).encode("utf-8") + b"\n"


def check_begun(path: Path, settings: dict, anew: Path | None = None) -> None:
    """UserError, and nothing is changed, if a file is there that was not begun with these settings."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        found = file.readline(_MOST_SETTINGS)
    first = _first(settings)
    if found == first or not found.endswith(b"\n") and first.startswith(found):  # stopped at its beginning
        return
    try:
        then = json.loads(found)["settings"]
        other = sorted(key for key in {**then, **settings} if then.get(key) != settings.get(key))
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: is there, and of something else; take another --output") from None
    raise UserError(
        f"{path}: was begun by another command or with other settings ({', '.join(other)}); give the same "
        f"ones, or remove {anew or 'it'} to begin anew"
    )


def _first(settings: dict) -> bytes:
    return json.dumps({"settings": settings}, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def _has_lines(path: Path) -> bool:
    """Whether a file is there and has a complete line; what follows its last one is cut off."""
    if not path.exists():
        return False
    with open(path, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _BLOCK)
            file.seek(start)
            if found := file.read(end - start).rfind(b"\n") + 1:
                file.truncate(start + found)
                return True
            end = start
        return False


def open_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, with their line breaks."""
    with open(path, "rb") as file:
        yield from file
