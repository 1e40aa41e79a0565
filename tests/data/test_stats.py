"""`osum data stats`: counted by hand."""

import json

import numpy as np
import pytest
import soundfile

from mindspore_osum import cli
from mindspore_osum.text.tokenizer import open_tokenizer
from tests.data.formats.tars import sample, sound, write_tar
from tests.training.tones import write_tokenizer


@pytest.fixture
def folder(tmp_path):
    ages = {"<TRANSCRIBE> <AGE>": "ab<OLD>", "<TRANSCRIBE><AGE>": "abc<OLD>", "sap": "abcd<YOUTH>"}
    lines = [
        {"key": f"a{i}", "wav": f"{i}.wav", "txt": txt, "task": task}
        for i, (task, txt) in enumerate(ages.items())
    ]
    lines += [
        {"key": "b", "wav": "0.wav", "txt": "x", "task": "<TRANSCRIBE>", "end": 0.5},
        {"key": "t", "txt": "Paris", "task": "<TEXT2TEXT>", "extra": {"question": "?"}},
        {"key": "bad", "wav": "none.wav", "txt": "x", "task": "<TRANSCRIBE>"},
        {"key": "bad2", "wav": "0.wav", "txt": "x", "task": "<AGE>"},
    ]
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", np.zeros(16000 * (i + 1)), 16000)
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n{\n", "utf-8")
    return tmp_path


def stats(capsys, *args):
    status = cli.main(["data", "stats", *map(str, args)])
    return status, *capsys.readouterr()


def test_counts(folder, capsys):
    status, out, _ = stats(capsys, folder / "m.jsonl")
    assert status == 0 and out.splitlines() == [
        "utterances: 5, with a recording: 4, 0.00 h",
        "not usable: 3 (osum data validate says why)",
        "seconds of a recording: min 0.50, 5 % 0.57, 25 % 0.88, median 1.50, 75 % 2.25, 95 % 2.85, "
        "99 % 2.97, max 3.00, mean 1.62",
        "task <TRANSCRIBE> <AGE>: 3, 0.00 h",
        "task <TRANSCRIBE>: 1, 0.00 h",
        "task <TEXT2TEXT>: 1, 0.00 h",
        "age: OLD 2 (66.7%), ADULT 1 (33.3%)",
    ]


def test_tokens_and_plot(folder, capsys):
    write_tokenizer(folder / "tokenizer.model")
    tokenizer = open_tokenizer(folder / "tokenizer.model")
    labels = ["<asr><age>ab<OLD>", "<asr><age>abc<OLD>", "<asr><age>abcd<ADULT>", "<asr>x", "Paris"]
    tokens = [len(tokenizer.encode(label)) + 1 for label in labels]
    status, out, _ = stats(
        capsys, folder / "m.jsonl", "--tokenizer", folder / "tokenizer.model", "--plot", folder / "p.png"
    )
    line = next(line for line in out.splitlines() if line.startswith("tokens of an answer"))
    assert f"min {min(tokens)}, " in line and f"max {max(tokens)}, mean {np.mean(tokens):.0f}" in line
    assert status == 0 and (folder / "p.png").read_bytes().startswith(b"\x89PNG")
    status, _, err = stats(capsys, folder / "m.jsonl", "--plot", folder / "none/p.png")
    assert status == 1 and "cannot write the plot" in err


def test_shards_and_nothing(folder, capsys):
    write_tar(folder / "s.tar", [*sample("a", audio=sound(2.0)), *sample("b", audio=sound(4.0))])
    status, out, _ = stats(capsys, folder / "s.tar")
    assert status == 0 and out.splitlines()[0] == "utterances: 2, with a recording: 2, 0.00 h"
    assert "min 2.00" in out.splitlines()[1] and "max 4.00" in out.splitlines()[1]
    (folder / "e.jsonl").write_text("\n")
    assert stats(capsys, folder / "e.jsonl")[0] == 1
