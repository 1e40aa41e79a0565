"""One run at a time in a folder."""

import fcntl
from pathlib import Path

from mindspore_osum.errors import UserError
from mindspore_osum.training.report import writing

LOCK = "run.lock"  # never removed: otherwise two runs could each lock a file of that name


def locked(folder: Path):
    """Lock a folder, which is created if missing; returns the open lock file.

    The lock is held until every process that has the file open has closed it or ended.

    Raises
    ------
    UserError : another run holds the lock, or the folder cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / LOCK, "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UserError(f"{folder}: another run is at work there; wait, or take another folder") from None
    except OSError:
        pass  # a file system without locks
    return lock
