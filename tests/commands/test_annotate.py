"""`osum annotate`: JSON lines that survive an interruption, a table where a person looks."""

import json
from pathlib import Path

import pytest
import soundfile

from mindspore_osum.cli import main
from tests.inference.common import on_a_terminal
from tests.speech.voices import voice

PARTS = {
    "no_speech",
    "warnings",
    "audio",
    "seconds",
    "text",
    "tags",
    "labels",
    "label_counts",
    "probabilities",
    "words",
    "answer",
    "raw",
    "cut",
    "confidence",
    "rtf",
    "segments",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """a.wav, b.wav, c.wav; the current folder."""
    monkeypatch.chdir(tmp_path)
    for n, name in enumerate("abc"):
        soundfile.write(f"{name}.wav", voice(0.8 + 0.2 * n, pitch=100.0 + 40 * n), 16_000)
    return tmp_path


@pytest.fixture
def annotate(model_folder, capfd):
    """annotate(*args) -> (status, standard output, standard error)."""

    def run(*args):
        status = main(["annotate", *args, "--model", str(model_folder), "--max-new-tokens", "4"])
        return status, *capfd.readouterr()

    return run


def names(text: str) -> list[str]:
    return [json.loads(line)["audio"] for line in text.splitlines()]


def test_lines(folder, annotate):
    """One object a line, all eight tasks in three passes; fewer tasks in fewer."""
    status, out, err = annotate("a.wav", "b.wav")
    assert status == 0, err
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line.keys() for line in lines] == [PARTS, PARTS] and names(out) == ["a.wav", "b.wav"]
    ways = (["asr,gender,age"], ["sgc,sap"], ["sgc,sap", "--single"])
    combined, same, single = (json.loads(annotate("a.wav", "--tasks", *way)[1])["raw"] for way in ways)
    assert combined == same != single


def test_resume_after_an_interruption(folder, annotate):
    """What is whole is kept, a torn line and a failure are done again, and the file appears when complete."""
    whole = annotate("a.wav", "b.wav", "c.wav", "--output", "out.jsonl")
    assert whole[:2] == (0, "")
    first, second, third = Path("out.jsonl").read_text("utf-8").splitlines(keepends=True)
    assert not Path("out.jsonl.partial").exists()

    failed = json.dumps({"audio": "b.wav", "error": "b.wav: not there"}) + "\n"
    Path("out.jsonl").unlink()
    Path("out.jsonl.partial").write_text(first + failed + third[:40], encoding="utf-8")
    status, _, err = annotate("a.wav", "b.wav", "c.wav", "--output", "out.jsonl", "--resume")
    assert status == 0 and "1 recordings are there already" in err
    text = Path("out.jsonl").read_text("utf-8")
    assert text.startswith(first) and names(text) == ["a.wav", "b.wav", "c.wav"]
    again = [json.loads(line) | {"rtf": 0} for line in text.splitlines()]
    assert again == [json.loads(line) | {"rtf": 0} for line in (first, second, third)]

    status, _, err = annotate("a.wav", "b.wav", "c.wav", "--output", "out.jsonl", "--resume")
    assert status == 0 and "loading" not in err and Path("out.jsonl").read_text("utf-8") == text


def test_failures(folder, annotate):
    status, out, err = annotate("a.wav", "absent.wav")
    assert status == 1 and "absent.wav: no such audio file" in err
    assert [json.loads(line).get("error") is None for line in out.splitlines()] == [True, False]


@pytest.mark.parametrize(
    "args, message",
    [
        (["--resume"], "--resume continues the file of --output"),
        (["--tasks", "asr,agee"], "task 'agee'"),
        (["--output", "absent/x.jsonl"], "absent/x.jsonl: cannot write there"),
        (["--output", "."], ".: is a folder; give --output the name of a file"),
        (["--output", "notes.txt", "--resume"], "notes.txt:1: not a line of `osum annotate`"),
        (["--model", "nowhere"], "nowhere: no such model folder"),
    ],
)
def test_mistakes_are_one_line(folder, model_folder, capfd, args, message):
    Path("notes.txt").write_text("my notes\nof today\n", encoding="utf-8")
    how = [] if "--model" in args else ["--model", str(model_folder)]
    assert main(["annotate", "a.wav", *args, *how]) == 1
    out, err = capfd.readouterr()
    assert message in err and "Traceback" not in err and not out
    assert Path("notes.txt").read_text("utf-8") == "my notes\nof today\n"
    assert not Path("notes.txt.partial").exists()


@pytest.mark.slow
def test_a_person_sees_a_card_and_a_bar(folder, model_folder):
    """On a terminal: readable responses on standard output, and progress with its rate on standard error."""
    shown = on_a_terminal("annotate", "a.wav", "b.wav", "--tasks", "asr", "--model", str(model_folder))
    assert "\na.wav  0.8 s" in shown.replace("\r", "\n") and "b.wav  1.0 s" in shown
    assert "of sound [" in shown and '"audio"' not in shown
