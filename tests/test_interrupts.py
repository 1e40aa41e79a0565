"""Signals at bad moments: kept until the end of a block, or the end of the process if that takes long."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

# a block that waits without Python's help, as MindSpore does while it compiles; `%s` is what it holds
CHILD = """
import os, signal, sys, time
from pathlib import Path
from mindspore_osum.interrupts import delete_unfinished, steady, unfinished, watched

def end(number):
    delete_unfinished()
    print("ended", flush=True)
    os._exit(128 + number)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background has it ignored
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


def test_signals_to_this_process():
    """In a process of their own: threads of MindSpore, once it is imported, would get the signals, too."""
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    path = Path(__file__).with_name("interrupts_alone.py")
    done = subprocess.run([*command, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "11 passed" in done.stdout, done.stdout + done.stderr


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
