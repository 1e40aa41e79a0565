"""What `test_interrupts` runs in a process of its own: signals to the process itself."""

import ctypes
import os
import signal
import time

import pytest

from mindspore_osum.interrupts import Terminated, steady, watched

# what started the tests may have SIGINT ignored (a job in the background of a script) or blocked
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def kill(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number, kind", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_block_ends_first(number, kind):
    done = []
    with pytest.raises(kind) as stop, watched(done.append), steady(), steady():
        kill(number)
        done.append("inner")
    assert stop.type is kind and done == ["inner"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_library_keeps_no_handler():
    """As MindSpore's, which makes SIGTERM of SIGINT from its first graph on; here one that does nothing."""
    with steady():
        ctypes.CDLL(None).signal(int(signal.SIGINT), 1)
    with pytest.raises(KeyboardInterrupt):
        kill(signal.SIGINT)
        time.sleep(1)


def test_the_second_does_not_disturb_how_the_first_ends():
    ends = []
    with pytest.raises(KeyboardInterrupt), watched(ends.append):
        try:
            kill(signal.SIGINT)
            time.sleep(1)
        finally:
            kill(signal.SIGINT)
            time.sleep(0.01)
            ends.append("cleaned up")
    assert ends == ["cleaned up"]
