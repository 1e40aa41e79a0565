"""Ctrl-C and SIGTERM where MindSpore is at work: they take effect at the next safe moment.

Notable choices
- An exception that is raised while MindSpore imports, compiles or runs comes out as another error or aborts
  the process, and from its first graph on MindSpore turns SIGINT into SIGTERM. So in a `steady` block SIGINT
  is blocked, also in threads started there, SIGTERM is noted, and both take effect at the block's end.
- A graph may compile for minutes. In `watched` a thread ends the process if a block goes on for `PATIENCE`
  seconds after the signal, or the second time it is asked to. Then no destructor runs, so it deletes what is
  in `unfinished`.
"""

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PATIENCE = 1.0  # seconds
POLL = 0.1  # seconds between two looks for signals

unfinished: set[Path] = set()
"""Temporary files and folders of this process, to be deleted when it is ended."""

_blocks = 0  # `steady` blocks that the main thread is in
_asked: list[int] = []  # signals of this `watched` block that reached the main thread


class Terminated(KeyboardInterrupt):
    """SIGTERM."""


@contextlib.contextmanager
def steady() -> Iterator[None]:
    """In this block of the main thread nothing is interrupted; what was asked meanwhile is raised after it.

    Raises
    ------
    KeyboardInterrupt : SIGINT arrived; `Terminated` for SIGTERM in `watched`.
    """
    global _blocks
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    _blocks += 1
    try:
        yield
    finally:
        _blocks -= 1
        if (handler := signal.getsignal(signal.SIGINT)) is not None:
            signal.signal(signal.SIGINT, handler)  # instead of MindSpore's
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if not _blocks and _asked:
            _raise(_asked[0])


@contextlib.contextmanager
def watched(end: Callable[[int], None]) -> Iterator[None]:
    """SIGTERM in this block raises `Terminated`, and neither it nor SIGINT has to wait for MindSpore.

    Parameters
    ----------
    end : called in another thread with the signal if the block does not end by itself; ends the process. Not
        called for a signal whose handler is one of the program's own.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _on_signal)
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    wakeup, over = signal.set_wakeup_fd(writer, warn_on_full_buffer=False), threading.Event()
    with steady():  # the thread inherits that SIGINT is blocked, and so can see it pending
        threading.Thread(target=_watch, args=(reader, over, end), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        _asked.clear()
        signal.set_wakeup_fd(wakeup)
        os.close(writer)
        for number, handler in before.items():
            signal.signal(number, handler)


def delete_unfinished() -> None:
    """Delete the temporary files and folders of this process."""
    for path in list(unfinished):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _on_signal(number, frame):
    _asked.append(number)
    if len(_asked) == 1 and not _blocks:  # more would interrupt how the first one ends
        _raise(number)


def _raise(number: int):
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def _watch(reader: int, over: threading.Event, end: Callable[[int], None]) -> None:
    """End the process if the main thread does not do so when it is asked to."""
    asked, since = [], time.monotonic()
    while not over.wait(POLL):
        with contextlib.suppress(BlockingIOError):
            asked += [number for number in os.read(reader, 64) if signal.getsignal(number) is _on_signal]
        # in the main thread's steady blocks SIGINT is pending. It is only looked at: taken from there, it
        # could reach a main thread that has left the block meanwhile
        pending = signal.SIGINT in signal.sigpending() and signal.getsignal(signal.SIGINT) is _on_signal
        first = asked[0] if asked else signal.SIGINT if pending else None
        since = since if first else time.monotonic()
        if first and (_blocks or len(asked) > 1) and time.monotonic() - since > PATIENCE:
            end(first)
    os.close(reader)
