"""`osum chat`: what a line means, and the replies against those of the model itself."""

import io
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mindspore_osum.api import OSUM
from mindspore_osum.cli import main
from mindspore_osum.commands.chat import Talk, _recording, shown
from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED
from mindspore_osum.inference.conversation import Exchange
from mindspore_osum.inference.request import Request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.results import Answer, Response, Word
from mindspore_osum.tasks import TEXT2TEXT
from tests.inference.common import small_folder

ROOT = Path(__file__).resolve().parents[2]
RECORDING = BUNDLED.parent / "recordings" / "test_000000.wav"
SHORT = Sampling(max_new_tokens=6)
REQUEST = "What does the speaker say?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_folder(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def model(folder):
    return OSUM.load(folder)


@pytest.fixture
def talk(tmp_path, monkeypatch):
    """The current folder, with a recording in it."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(RECORDING, "a.wav")
    shutil.copy(RECORDING, "my talk.wav")


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("hello there", None),
        ("a.wav", ("a.wav", None)),
        ("a.wav  what's this? ", ("a.wav", "what's this?")),
        ("'my talk.wav' <asr><align>", ("my talk.wav", "<asr><align>")),
        ("absent.flac who speaks", ("absent.flac", "who speaks")),  # a misspelt recording is not words
        ("don't stop", None),
        ("what is a.wav", None),
        ("# 1", None),
    ],
)
def test_what_a_line_means(talk, line, meaning):
    assert _recording(line) == meaning


def test_replies_are_the_model_s(talk, folder, model, monkeypatch, capfd):
    """Words, a spoken turn and a request, through standard input and output; mistakes do not end the talk."""
    lines = [
        "hello there",
        "",
        "absent.wav",
        "/no/talk.wav who",
        "/new",
        "a.wav",
        "/bogus",
        f"a.wav {REQUEST}",
    ]
    lines += ["and you", "/quit", "never read"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    assert main(["chat", "--model", str(folder), "--max-new-tokens", "6"]) == 1
    out, err = capfd.readouterr()
    typed = "".join(model.engine.stream("words", Request("hello there", "text2text", TEXT2TEXT), SHORT))
    spoken = model("a.wav", task="sttc", sampling=SHORT)
    asked = model("a.wav", REQUEST, sampling=SHORT)
    history = (Exchange("text", REQUEST, asked.raw),)
    (after,) = model.each(["a.wav"], [Request("and you", "text2text", None, history=history)], sampling=SHORT)
    expected = [typed, shown(spoken), shown(asked), shown(after)]
    assert out == "".join(f"{text}\n" for text in expected)
    assert "\nosum: /no/talk.wav: no such audio file" in f"\n{err}"
    assert "absent.wav: no such audio file" in err and "/bogus: no such command; a line is a turn" in err
    assert "Traceback" not in err
    assert "a new recording: what was said before is left out" in err
    cut = 1 + spoken.cut + asked.cut + after.cut
    assert spoken.cut and err.count("osum: the reply was truncated at its limit\n") == cut


def test_turns_are_kept_as_far_as_they_fit(talk, model, monkeypatch, capfd):
    """The oldest turn goes first, and with it its recording; a line that fails changes nothing."""
    spoken = Talk(model, SHORT)
    for line in ("a.wav", "hello there"):
        list(spoken.reply(line))
    assert [turn.output_type for turn in spoken.turns] == ["s2t_chat", "text2text"]
    kept = list(spoken.turns)
    with pytest.raises(UserError, match="no such audio file"):
        list(spoken.reply("absent.wav"))
    assert spoken.turns == kept and capfd.readouterr().err == ""
    rooms = iter([5, 6])
    monkeypatch.setattr(model.engine, "room", lambda *_: next(rooms))
    asked = spoken._fitting(Request("and", "text2text", TEXT2TEXT))
    assert asked.history == tuple(kept[1:]) and asked.task == TEXT2TEXT and not model.engine.hears(asked)
    assert (
        capfd.readouterr().err
        == "osum: the model has no positions left: the oldest turn, with its recording, is left out\n"
    )


def test_labels_and_times_are_shown():
    words = [Word("good", 0.25, 0.5), Word("day", 0.5, 1.0)]
    segment = Answer(0, 1, "good day", labels={"age": "ADULT"}, words=words)
    assert shown(Response("a.wav", 1.0, [segment])) == "good (0.25-0.50) day (0.50-1.00)\n<ADULT>"
    assert shown(Response("a.wav", 1.0, [Answer(0, 1, answer="good day to you")])) == "good day to you"


def test_microphone_needs_its_library(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(UserError, match="the microphone needs sounddevice"):
        list(Talk(model, SHORT).reply("/mic"))


@pytest.mark.slow
def test_on_a_terminal(folder, tmp_path):
    """With a prompt; a mistake that a person has seen is no failure."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "mindspore_osum", "chat", "--model", str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, cwd=ROOT, stdin=follower, **pipes)
    os.write(leader, f"absent.wav\n{RECORDING}\n/quit\n".encode())
    out, err = process.communicate(timeout=600)
    os.close(leader)
    os.close(follower)
    assert process.returncode == 0, err
    assert b"absent.wav: no such audio file" in err and err.count(b"> ") == 3 and out.count(b"\n") >= 1
