"""Signals at bad moments: kept until the end of a block, or the end of the process if that takes long."""

import ctypes
import os
import signal
import subprocess
import sys
import time

import pytest

from mindspore_osum.interrupts import Terminated, steady, watched

# a block that waits without Python's help, as MindSpore does while it compiles; `%s` is what it holds
CHILD = """
import os, sys, time
from pathlib import Path
from mindspore_osum.interrupts import delete_unfinished, steady, unfinished, watched

def end(number):
    delete_unfinished()
    print("ended", flush=True)
    os._exit(128 + number)

half = Path(sys.argv[1])
half.touch()
unfinished.add(half)
with watched(end):
    try:
        with steady():
            print("in", flush=True)
            time.sleep(%s)
    except KeyboardInterrupt as stop:
        print(type(stop).__name__, flush=True)
"""


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


@pytest.mark.parametrize(
    "seconds, number, status, said",
    [
        (0.5, signal.SIGINT, 0, ["in", "KeyboardInterrupt"]),
        (30, signal.SIGINT, 130, ["in", "ended"]),
        (30, signal.SIGTERM, 143, ["in", "ended"]),
    ],
)
def test_nobody_waits_for_a_long_block(seconds, number, status, said, tmp_path):
    half = tmp_path / "half"
    command = [sys.executable, "-c", CHILD % seconds, str(half)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "in\n"
    child.send_signal(number)
    rest, _ = child.communicate(timeout=20)
    assert (child.returncode, ["in", *rest.split()]) == (status, said)
    assert half.exists() == (status == 0)
