"""--engine ray: what is refused before anything is written, without Ray; tests/cluster runs it."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import soundfile

from mindspore_osum.cli import main
from tests.speech.voices import voice


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """a.wav; the current folder, with nothing else in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    soundfile.write("a.wav", voice(0.8), 16_000)
    Path("m.jsonl").write_text('{"key": "a", "wav": "a.wav", "txt": "a", "task": "<TRANSCRIBE>"}\n')
    return tmp_path


def refused(capfd, *words) -> str:
    before = sorted(os.listdir())
    assert main(list(words)) == 1
    out, err = capfd.readouterr()
    assert not out and "Traceback" not in err and sorted(os.listdir()) == before
    return err


@pytest.mark.parametrize(
    "words, message",
    [
        (["annotate", "a.wav", "--replicas", "2"], "--replicas is of --engine ray"),
        (
            ["eval", "--manifest", "m.jsonl", "--output", "e", "--address", "h:1"],
            "--address is of --engine ray",
        ),
        (["infer", "a.wav", "--engine", "ray"], "give --output FILE"),
        (["annotate", "a.wav", "--engine", "ray"], "give --output FILE.jsonl"),
        (["transcribe", "a.wav", "--engine", "ray"], "give --output DIR"),
        (["infer", "-", "--engine", "ray", "--output", "o"], "replicas cannot read standard input"),
        (
            ["infer", "a.wav", "--engine", "ray", "--output", "o", "--replicas", "0"],
            "--replicas 0: must be 1",
        ),
        (
            ["infer", "a.wav", "--engine", "ray", "--output", "o", "--table"],
            "--table shows answers on a terminal",
        ),
        (
            ["eval", "--manifest", "m.jsonl", "--predictions", "p", "--output", "e", "--engine", "ray"],
            "leave out --engine",
        ),
    ],
)
def test_options_that_do_not_fit(capfd, words, message):
    assert message in refused(capfd, *words)


VERBS = [
    ["infer", "a.wav", "--output", "o.jsonl"],
    ["annotate", "a.wav", "--output", "o.jsonl"],
    ["transcribe", "a.wav", "--output", "."],
    ["eval", "--manifest", "m.jsonl", "--output", ".", "--no-plots"],
]


@pytest.mark.parametrize("words", VERBS, ids=lambda words: words[0])
def test_without_ray_the_extra_is_named(capfd, monkeypatch, words):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    assert main([*words, "--engine", "ray"]) == 1
    assert "pip install 'mindspore-osum[ray]'" in capfd.readouterr().err.splitlines()[-1]
    assert not [name for name in os.listdir() if name.startswith("o.jsonl")]


@pytest.mark.skipif(not find_spec("ray"), reason="needs the extra `ray`")
def test_a_dead_address(capfd):
    words = ["infer", "a.wav", "--output", "o.jsonl", "--engine", "ray", "--address", "127.0.0.1:1"]
    assert "127.0.0.1:1: no cluster answers there" in refused(capfd, *words)
