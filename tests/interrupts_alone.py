"""What `test_interrupts` runs in a process of its own: signals to the process itself."""

import ctypes
import io
import os
import signal
import time

import numpy as np
import pytest
import soundfile

from mindspore_osum.cli import main
from mindspore_osum.folder import BUNDLED
from mindspore_osum.interrupts import Terminated, steady, watched
from mindspore_osum.speech.audio import load_audio

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


class Interrupting(io.BytesIO):
    """A recording during whose reading a signal arrives."""

    def __init__(self, data: bytes, number: int):
        super().__init__(data)
        self.number, self.reads = number, 0

    def read(self, size: int = -1) -> bytes:
        self.reads += 1
        if self.reads == 6:  # within the calls of a decoder, which begin with the second or third
            kill(self.number)
            time.sleep(0.01)
        return super().read(size)


@pytest.mark.parametrize("kind", ["WAV", "MP3"])
@pytest.mark.parametrize("number, error", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_decoder_loses_no_signal(kind, number, error, capfd):
    """Those of libsndfile and FFmpeg call Python, and print and forget what is raised there."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(16_000 * 60), 16_000, format=kind)
    with pytest.raises(error), watched(print):
        load_audio(Interrupting(file.getvalue(), number))
    assert not capfd.readouterr().err


def interrupted(*args, **named):
    """What a verb calls when Ctrl-C arrives."""
    kill(signal.SIGINT)
    time.sleep(5)


def test_chat_ends(monkeypatch, capfd):
    """While it waits for a line."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr("mindspore_osum.commands.chat.load_model", lambda args: None)
    monkeypatch.setattr("mindspore_osum.commands.chat._next_line", interrupted)
    assert main(["chat"]) == 130
    assert capfd.readouterr().err.splitlines()[-1] == "osum: interrupted"


def test_eval_ends_and_says_how_to_go_on(monkeypatch, capfd, tmp_path):
    monkeypatch.setattr("mindspore_osum.commands.eval.load_model", interrupted)
    manifest = BUNDLED.parent / "recordings" / "manifest.jsonl"
    assert main(["eval", "--manifest", str(manifest), "--output", str(tmp_path / "out")]) == 130
    said = capfd.readouterr().err.splitlines()[-1]
    assert said.startswith("osum: interrupted; go on with: osum eval ")
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_convert_leaves_nothing(monkeypatch, capfd, tmp_path):
    """When the weights are written and are about to get their name."""
    monkeypatch.setattr("os.replace", interrupted)
    assert main(["convert", str(BUNDLED), "--to", "published", "--output", str(tmp_path / "a.pt")]) == 130
    said = capfd.readouterr().err
    assert said.splitlines()[-1] == "osum: interrupted" and "Traceback" not in said
    assert not list(tmp_path.iterdir())
