"""`osum transcribe --stream` as a process, with a pipe and a growing file."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from mindspore_osum.cli import main
from mindspore_osum.commands.transcribe_stream import CLEAR, _terminal
from mindspore_osum.results import Answer
from mindspore_osum.streaming.live import Heard
from tests.inference.common import small_folder
from tests.speech.voices import row, voice

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_folder(tmp_path_factory.mktemp("model") / "small")


def command(folder, *args) -> list[str]:
    how = ["--model", str(folder), "--max-new-tokens", "5", "--task", "asr"]
    return [sys.executable, "-m", "mindspore_osum", "transcribe", *map(str, args), *how]


def samples(*parts) -> bytes:
    return (row(list(parts))[0] * 32768).astype("<i2").tobytes()


def test_pipe(folder):
    """What is heard so far comes while the pipe is open, the final at the pause, the rest at Ctrl-C."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(
        command(folder, "--stream", "-", "--raw", 16_000, "--every", 0.5), cwd=ROOT, **pipes
    )
    try:
        process.stdin.write(samples(0.5, voice(2.0)))
        process.stdin.flush()
        first = json.loads(process.stdout.readline())  # nothing more is written until it is here
        assert not first["final"] and first.keys() == {"final", "start", "end", "text"}
        assert 0.2 < first["start"] < 0.6 and 1.5 < first["end"] <= 2.51
        process.stdin.write(samples(2.0))
        process.stdin.flush()
        while not (line := json.loads(process.stdout.readline()))["final"]:
            pass
        assert abs(line["end"] - 2.5) < 0.3 and line["start"] == first["start"] and "words" in line
        process.stdin.write(samples(voice(1.0)))
        process.stdin.flush()
        assert not json.loads(process.stdout.readline())["final"]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        lines = [line, *map(json.loads, out.splitlines())]
        assert lines[-1]["final"] and b"Traceback" not in err
        cut = sum(line["final"] and line["cut"] for line in lines)
        assert cut and err.count(b"osum: the answer was truncated at its limit\n") == cut
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_growing_file_on_a_terminal(folder, tmp_path):
    """A person sees one line that is written over until it is final."""
    path = tmp_path / "growing.pcm"
    path.write_bytes(samples(0.5, voice(1.5), 1.5))
    leader, follower = pty.openpty()
    # idle for longer than the first answer's graphs take to compile, on a busy machine too
    args = command(folder, "--stream", path, "--raw", 16_000, "--idle", 30)
    process = subprocess.Popen(args, cwd=ROOT, stdout=follower, stderr=subprocess.PIPE)
    os.close(follower)
    shown = b""
    try:
        while b"\n" not in shown:
            shown += os.read(leader, 4096)
        with open(path, "ab") as file:
            file.write(samples(voice(1.5), 1.5))
        while shown.count(b"\n") < 2:
            shown += os.read(leader, 4096)
        _, err = process.communicate(timeout=120)  # it ends by itself, as the file does not grow
        assert process.returncode == 0, err
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    lines = [text.rpartition("\x1b[K")[2] for text in shown.decode().split("\r\n")[:-1]]
    assert len(lines) == 2 and all(" - " in text for text in lines)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--stream", "absent.wav"], "absent.wav: no such file; a stream is"),
        (["a.wav", "--stream", "-"], "--stream excludes recordings"),
        (["--stream", "-", "--format", "srt"], "--stream excludes --format srt"),
        (["--stream", "-", "--resume", "--output", "x"], "--stream excludes --output, --resume"),
        (["--stream", "-", "--channels", "left"], "--stream excludes --channels"),
        (["--stream", "-", "--batch-size", "2", "--no-gate"], "--stream excludes --no-gate, --batch-size"),
        (["--stream", "-", "--max-words", "2"], "--stream excludes --max-words"),
        (["--stream", "-", "--raw", "1"], "--raw a rate from 1000"),
        (["--stream", "mic", "--raw", "8000"], "--raw is for bare samples; the microphone has a rate"),
        (["--stream", "-", "--idle", "2"], "--idle is for a file that is being written; --stream - ends by"),
        (["a.wav", "--confidence"], "--confidence is in json alone, not in txt: give --format json"),
        (["--stream", "-", "--pause", "9"], "pause 9.0: must be 0.1 to 5"),
        ([], "no recordings: give files"),
        (["a.wav", "--raw", "16000", "--pause", "2"], "--raw, --pause: for a stream only; give --stream"),
        (["a.wav", "--idle", "0"], "--idle: for a stream only"),
    ],
)
def test_wrong_command_lines_are_one_line(args, message, capsys):
    assert main(["transcribe", *args]) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_one_line_of_a_terminal_of_any_width():
    """The width is that of the terminal which is written to; without one it is the usual."""
    leader, follower = pty.openpty()
    heard = Heard(False, Answer(0.0, 1.0, "turn on the light 好 " + "x" * 200))
    try:
        for columns, shown in ((3, 0), (4, 0), (5, 1), (20, 16), (0, 76)):
            fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            text = _terminal(heard, follower).removeprefix(CLEAR).removesuffix(" ...")
            assert text == "x" * shown, columns
    finally:
        os.close(leader)
        os.close(follower)


def test_confidence_is_refused_where_a_person_reads(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert main(["transcribe", "--stream", "-", "--confidence"]) == 1
    assert "--confidence is in the JSON lines alone: give --format json" in capsys.readouterr().err


def test_labels_and_replies_are_shown_on_a_terminal():
    leader, follower = pty.openpty()
    try:
        answer = Answer(0.0, 1.0, "hello", labels={"age": "OLD"}, answer="good\nmorning")
        assert _terminal(Heard(True, answer), follower).endswith("  hello <OLD> reply: good morning\n")
    finally:
        os.close(leader)
        os.close(follower)


def test_a_stream_that_is_no_sound(folder):
    text = {"input": b"this is not sound", "capture_output": True, "timeout": 300}
    done = subprocess.run(command(folder, "--stream", "-"), cwd=ROOT, **text)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.splitlines()[-1].startswith(b"osum: standard input: not a wav stream")
    assert b"Traceback" not in done.stderr
