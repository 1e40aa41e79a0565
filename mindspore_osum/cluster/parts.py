"""Lines of a long job in parts on disk, with a manifest of what is done; merged in order at the end.

    OUT.parts/manifest.jsonl    what the job is, then a line for each part that is complete
    OUT.parts/000012.jsonl      the lines of a part
    OUT.parts/kept.jsonl        lines of earlier jobs, which go before them

A job that is stopped goes on with the parts that are missing. A folder of another job is refused, and left as
it is.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from mindspore_osum.data.pipeline.journal import Journal, check_begun
from mindspore_osum.errors import UserError
from mindspore_osum.files import replacing

MANIFEST, KEPT, LOCK = "manifest.jsonl", "kept.jsonl", "lock"


class Parts:
    """The parts of a job.

    Parameters
    ----------
    target : the file of all lines, beside which they are kept until then.
    job : all that the lines follow from, as JSON values.
    resume : whether a job that was begun goes on; else it is refused.
    kept : lines that go before those of the parts, with their line breaks; of a job that goes on, those that
        it began with are.

    Raises
    ------
    UserError : another job's parts are there, or one that is at work, or they cannot be written.
    """

    def __init__(self, target: Path, job: dict, resume: bool, kept: Iterable[str] = ()):
        self.target, self.folder = target, _folder(target)
        manifest = self.folder / MANIFEST
        with self._one_line(""):
            if not resume and has_parts(target):
                raise UserError(
                    f"{self.folder}: holds the parts of a job that was stopped; go on with --resume, or "
                    "remove it to begin anew"
                )
            if (
                not manifest.exists()
                and self.folder.exists()
                and not all(map(_is_own, os.listdir(self.folder)))
            ):
                raise UserError(f"{self.folder}: is there, and no folder of parts; take another --output")
            check_begun(manifest, job, self.folder)
            self.folder.mkdir(exist_ok=True)
            self._lock = open(self.folder / LOCK, "a")
            with contextlib.suppress(OSError):  # a file system without locks
                self._take_lock()
            if not has_parts(target):  # it may have been stopped before its first
                with replacing(self.folder / KEPT) as file:
                    file.writelines(line.encode("utf-8", "backslashreplace") for line in kept)
            self._manifest = Journal(manifest, job, self.folder)

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{self.folder}: another job is at work there; wait for it") from None

    def __len__(self) -> int:
        return len(self._manifest)

    def missing(self, count: int) -> list[int]:
        """Those of so many parts that are not complete."""
        return [n for n in range(count) if not self._complete(n)]

    def _complete(self, number: int) -> bool:
        """Whether a part is in the manifest, and its file as it was written."""
        if (name := _name(number)) not in self._manifest:
            return False
        path = self.folder / name
        return path.exists() and path.stat().st_size == self._manifest[name]["bytes"]

    def add(self, number: int, lines: Sequence[str], failed: Sequence[str] = ()) -> None:
        """A part is done: its lines, without line breaks, and what failed in it.

        Raises
        ------
        UserError : it cannot be written; the parts before stay.
        """
        data = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
        with self._one_line():
            with replacing(self.folder / _name(number)) as file:
                file.write(data)
            found = {"key": _name(number), "lines": len(lines), "bytes": len(data), "failed": list(failed)}
            self._manifest.add(found)

    def failed(self, count: int) -> list[str]:
        """What failed in so many parts, which are complete."""
        return [line for n in range(count) for line in self._manifest[_name(n)]["failed"]]

    def merge(self, count: int) -> None:
        """Write the target, what was kept and the lines of all parts in order, and remove the parts."""
        with self._one_line():
            with replacing(self.target) as whole:
                for name in (KEPT, *map(_name, range(count))):
                    with open(self.folder / name, "rb") as part:
                        shutil.copyfileobj(part, whole)
            self.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Let go of the folder; parts stay for the next time, and without any it is removed."""
        self._manifest.close()
        self._lock.close()
        if not len(self._manifest):
            for name in (KEPT, LOCK):
                (self.folder / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.folder.rmdir()

    @contextlib.contextmanager
    def _one_line(self, kept: str = "; what is done is kept") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            path = error.filename or self.folder
            raise UserError(f"{path}: cannot write there ({error.strerror}){kept}") from None


def kept_file(target: Path) -> Path | None:
    """Where the lines are that a job which was begun keeps; None if none was."""
    return _folder(target) / KEPT if has_parts(target) else None


def refuse_parts(target: Path) -> None:
    """UserError if a job on Ray was begun with this output: going on, it would replace other lines."""
    if has_parts(target):
        raise UserError(
            f"{_folder(target)}: holds the parts of a job that was stopped; go on with --engine ray "
            "--resume, or remove it to begin anew"
        )


def has_parts(target: Path) -> bool:
    """Whether parts of a job with this output are complete, and not merged yet."""
    try:
        with open(_folder(target) / MANIFEST, "rb") as file:
            return len(list(islice(file, 2))) == 2
    except (FileNotFoundError, NotADirectoryError):
        return False


def _folder(target: Path) -> Path:
    return target.with_name(target.name + ".parts")


def _is_own(name: str) -> bool:
    """Whether a job that was stopped before its manifest was there left a file of this name."""
    return name in (KEPT, LOCK) or name.startswith(".") and name.endswith(".partial")


def _name(number: int) -> str:
    return f"{number:06d}.jsonl"
