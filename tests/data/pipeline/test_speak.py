"""`osum data speak`: written questions through a program, which is a real one of this test."""

import json
import shlex
import sys

import pytest
import soundfile

from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.data.pipeline import speak
from mindspore_osum.data.pipeline.making import BEGUN, MANIFEST
from mindspore_osum.tasks import parse_answer

# a tone for each character, as long as the voice is slow; "fail" ends it, "dumb" makes nothing
PROGRAM = """
import argparse, json, sys
from pathlib import Path
import numpy as np, soundfile
parser = argparse.ArgumentParser()
parser.add_argument("--log", type=Path)
parser.add_argument("--batch", type=Path)
args = parser.parse_args()
print("speaking")
for line in map(json.loads, args.batch.read_text("utf-8").splitlines()):
    with open(args.log, "a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\\n")
    if "fail" in line["text"]:
        sys.exit(3)
    if "dumb" not in line["text"]:
        tone = [np.sin(np.arange(800 * line.get("slow", 1)) * ord(c) / 400) for c in line["text"]]
        soundfile.write(args.batch.parent / line["out"], np.concatenate(tone) / 2, 8000)
"""
LINES = [
    {
        "key": "q0",
        "txt": "It is Paris.",
        "task": "<TEXT2TEXT>",
        "extra": {"question": "Capital  of France?", "n": 1},
    },
    {"messages": [{"role": "user", "content": "谁？"}, {"role": "assistant", "content": "我"}]},
    {"instruction": "Say no", "output": "no", "input": ""},
]


@pytest.fixture
def program(tmp_path):
    (tmp_path / "tts.py").write_text(PROGRAM, "utf-8")
    return [sys.executable, tmp_path / "tts.py", "--log", tmp_path / "log"]


@pytest.fixture
def said(tmp_path):
    """What the program was asked, in order."""
    return lambda: [json.loads(line) for line in (tmp_path / "log").read_text("utf-8").splitlines()]


def command(path, tmp_path, program, *options):
    return [
        "speak",
        path,
        "--output",
        tmp_path / "o",
        *options,
        "--synthesizer",
        shlex.join(map(str, program)),
    ]


def test_questions_become_recordings(tmp_path, write_set, data, program, said):
    path = write_set("qa.jsonl", LINES)
    status, out, err = data(*command(path, tmp_path, program))
    assert status == 0 and "3 spoken questions, 0 errors" in out and "speaking" not in out, err
    found, problems = read_manifest(tmp_path / "o" / MANIFEST)
    assert not problems and [u.task for u in found] == ["<S2TCHAT>"] * 3
    assert [u.txt for u in found] == ["It is Paris.", "我", "no"]
    questions = ["Capital of France?", "谁？", "Say no"]
    assert [u.extra["transcript"] for u in found] == [line["text"] for line in said()] == questions
    assert found[0].extra["n"] == 1 and "question" not in found[0].extra
    for utt, question in zip(found, questions, strict=True):
        about = soundfile.info(utt.wav)
        assert (about.samplerate, about.frames) == (8000, 800 * len(question))
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [MANIFEST, "wav"]
    assert data("validate", tmp_path / "o" / MANIFEST)[0] == 0


def test_voices_are_drawn_by_key_and_seed(tmp_path, write_set, data, program, said):
    voices = [{"engine": "tone", "slow": n, "voice": f"v{n}"} for n in (1, 2, 3)]
    (tmp_path / "voices.jsonl").write_text("".join(json.dumps(v) + "\n" for v in voices))
    lines = [{**LINES[0], "key": f"q{n}"} for n in range(30)]
    options = ["--voices", tmp_path / "voices.jsonl", "--task", "<TRANSCRIBE> <S2TCHAT>", "--seed", "4"]
    assert data(*command(write_set("qa.jsonl", lines), tmp_path, program, *options))[0] == 0
    found, _ = read_manifest(tmp_path / "o" / MANIFEST)
    drawn = {u.key: u.extra["voice"] for u in found}
    assert {v["slow"] for v in drawn.values()} == {1, 2, 3}
    for utt, line in zip(found, said(), strict=True):
        assert {name: line[name] for name in voices[0]} == utt.extra["voice"]
        assert soundfile.info(utt.wav).frames == 800 * 18 * utt.extra["voice"]["slow"]
        answer = parse_answer(utt.txt, utt.task)
        assert (answer.text, answer.answer) == ("Capital of France?", "It is Paris.")
    path = write_set("reversed.jsonl", lines[::-1])
    again = [*command(path, tmp_path, program, *options[:-1], 4)]
    again[again.index(tmp_path / "o")] = tmp_path / "o2"
    assert data(*again)[0] == 0
    assert {u.key: u.extra["voice"] for u in read_manifest(tmp_path / "o2" / MANIFEST)[0]} == drawn


def test_a_failed_run_goes_on_after_the_last_batch(tmp_path, write_set, data, program, said, monkeypatch):
    monkeypatch.setattr(speak, "BATCH", 2)
    texts = ["a", "b", "fail", "d", "e"]
    lines = [{**LINES[0], "key": t, "extra": {"question": t}} for t in texts]
    path = write_set("qa.jsonl", lines)
    status, _, err = data(*command(path, tmp_path, program))
    assert status == 1 and "failed with status 3; see above" in err and "tts.py" in err
    assert not (tmp_path / "o" / MANIFEST).exists()
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == [BEGUN, "wav"]
    lines[2]["extra"]["question"] = "c"
    for change in ({"extra": {"question": "z"}}, {"txt": "other"}):  # of one that is spoken already
        write_set("qa.jsonl", [lines[0], lines[1] | change, *lines[2:]])
        status, _, err = data(*command(path, tmp_path, program))
        changed = f"{path}:2: its line has changed since {tmp_path}/o/{BEGUN} was begun; remove"
        assert status == 1 and changed in err
    write_set("qa.jsonl", lines)
    assert data(*command(path, tmp_path, program))[0] == 0
    assert [line["text"] for line in said()] == ["a", "b", "fail", "c", "d", "e"]
    assert [u.key for u in read_manifest(tmp_path / "o" / MANIFEST)[0]] == texts


def test_a_recording_of_no_numbers_is_an_error(tmp_path, write_set, data):
    (tmp_path / "nan.py").write_text(
        "import json, sys, numpy, soundfile\n"
        "from pathlib import Path\n"
        "batch = Path(sys.argv[-1])\n"
        "for line in map(json.loads, batch.read_text().splitlines()):\n"
        "    wave = numpy.full(4000, numpy.nan, 'float32')\n"
        "    soundfile.write(batch.parent / line['out'], wave, 8000, subtype='FLOAT', format='WAV')\n"
    )
    path = write_set("qa.jsonl", LINES[:1])
    status, _, err = data(*command(path, tmp_path, [sys.executable, tmp_path / "nan.py"]))
    assert status == 1 and f"{path}:1: " in err and "made no recording of it" in err and "finite" in err


def test_a_question_without_a_recording_is_an_error(tmp_path, write_set, data, program):
    lines = [LINES[0], {**LINES[0], "key": "q1", "extra": {"question": "dumb"}}]
    path = write_set("qa.jsonl", lines)
    status, _, err = data(*command(path, tmp_path, program))
    assert status == 1 and f"{path}:2: " in err and "made no recording of it" in err and err.count("\n") == 1
    status, out, _ = data(*command(path, tmp_path, program, "--max-errors", 1))
    assert status == 0 and "1 spoken questions, 1 errors left out" in out


@pytest.mark.parametrize(
    ("line", "options", "says"),
    [
        ({"task": "asr", "wav": "a.wav"}, [], "qa.jsonl:1: task asr: no written question with an answer"),
        ({"extra": {}}, [], "qa.jsonl:1: task <TEXT2TEXT> needs the user's words in extra.question"),
        ({}, ["--voices", "bad.jsonl"], "bad.jsonl:1: 'out' is not of a voice; leave it out"),
        ({}, ["--voices", "none.jsonl"], "none.jsonl: cannot read"),
    ],
)
def test_what_cannot_be_spoken_is_one_line(
    tmp_path, write_set, data, program, monkeypatch, line, options, says
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"voice": "x", "out": "../../y"}')
    path = write_set("qa.jsonl", [LINES[0] | line])
    status, _, err = data(*command(path, tmp_path, program, *options))
    assert status == 1 and says in err and err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_program_that_is_not_there(tmp_path, write_set, data):
    status, _, err = data(*command(write_set("qa.jsonl", LINES), tmp_path, ["no-such-program", "x y"]))
    assert status == 1 and "--synthesizer no-such-program 'x y': cannot run it (No such file" in err
    assert not (tmp_path / "o").exists()
