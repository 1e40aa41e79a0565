"""`osum data words --model`: a manifest's transcripts aligned by a Whisper, and taken up where it stopped."""

import json

import numpy as np
import pytest
import soundfile

from mindspore_osum import cli
from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.folder import BUNDLED
from mindspore_osum.systems.whisper_asr import alignment
from mindspore_osum.tasks import parse_answer

TEXTS = {"a": "Go, go on!", "b": "一 二", "c": "stop <SAD>", "d": "and on and on"}


@pytest.fixture
def manifest(tmp_path):
    lines = []
    for n, (key, text) in enumerate(TEXTS.items()):
        wave_N = np.random.default_rng(n).uniform(-0.3, 0.3, 16_000 + 7_000 * n)
        soundfile.write(tmp_path / f"{key}.wav", wave_N, 16_000)
        task = "<TRANSCRIBE> <EMOTION>" if "<" in text else "asr"
        lines.append({"key": key, "wav": f"{key}.wav", "txt": text, "task": task, "extra": {}})
    lines[1]["extra"] = {"lang": "zh"}
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return tmp_path / "set.jsonl"


@pytest.fixture
def words(small, capfd):
    """words(manifest, output, *options) -> status, output, errors."""

    def run(manifest, output, *options, model=small):
        given = ["data", "words", manifest, "--model", model, "--output", output, *options]
        return cli.main([*map(str, given)]), *capfd.readouterr()

    return run


def test_alignment_of_a_manifest(tmp_path, manifest, words, monkeypatch):
    status, out, err = words(manifest, tmp_path / "whole.jsonl", "--language", "en", "--batch-size", 2)
    assert status == 0 and "4 utterances with word times, 0 errors" in out, err
    found, problems = read_manifest(tmp_path / "whole.jsonl")
    assert not problems and [u.key for u in found] == [*TEXTS]
    parsed = {u.key: parse_answer(u.txt, u.task).words for u in found}
    assert [word.text for word in parsed["a"]] == ["Go,", "go", "on!"]
    assert [word.text for word in parsed["b"]] == ["一", "二"]
    assert [word.text for word in parsed["c"]] == ["stop"]
    for n, words_of in enumerate(parsed.values()):
        times = [second for word in words_of for second in (word.start, word.end)]
        assert times == sorted(times) and times[-1] <= (16_000 + 7_000 * n) / 16_000 + 0.02

    # one by one, and stopped after two of them
    aligned, asked = alignment.Aligner.align, []

    def stops(self, transcripts, rows=1):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.extend(transcripts)
        return aligned(self, transcripts, rows)

    path = tmp_path / "single.jsonl"
    monkeypatch.setattr(alignment.Aligner, "align", stops)
    status, _, err = words(manifest, path, "--language", "en", "--batch-size", 1)
    assert status == 130 and "go on with: osum data words" in err
    begun = tmp_path / "single.jsonl.begun"
    assert not path.exists() and len(begun.read_bytes().splitlines()) == 3
    status, _, err = words(manifest, path, "--language", "zh", "--batch-size", 1)
    assert status == 1 and f"{begun}: was begun by another command or with other settings" in err
    begun.write_bytes(begun.read_bytes() + b'{"key": "c", "wo')  # ended while it wrote
    again = []
    monkeypatch.setattr(
        alignment.Aligner, "align", lambda self, t, rows=1: again.extend(t) or aligned(self, t, rows)
    )
    assert words(manifest, path, "--language", "en", "--batch-size", 1)[0] == 0
    assert len(again) == 2 and not begun.exists()
    assert path.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        ({}, [], "set.jsonl:1: extra.lang is missing; give --language"),
        ({"extra": {"lang": "klingon"}}, [], "set.jsonl:1: language 'klingon' is unknown"),
        ({"wav": "long.wav", "extra": {"lang": "en"}}, [], "5.00 s of audio, the model takes at most 4 s"),
        ({"txt": "a < b", "extra": {"lang": "en"}}, [], "set.jsonl:1: 'a < b': < and > in a transcript"),
        ({}, ["--batch-size", "0"], "--batch-size 0: must be 1 or more"),
    ],
)
def test_what_cannot_be_aligned_is_one_line(tmp_path, manifest, words, change, options, says):
    soundfile.write(tmp_path / "long.wav", np.ones(80_000) / 9, 16_000)
    first = json.loads(manifest.read_text().splitlines()[0])
    manifest.write_text(json.dumps(first | change))
    status, _, err = words(manifest, tmp_path / "o.jsonl", *options)
    lines = [line for line in err.splitlines() if "loading" not in line]
    assert status == 1 and says in lines[0] and len(lines) == 1
    assert not (tmp_path / "o.jsonl").exists()


def test_a_model_without_an_aligner_is_refused(tmp_path, manifest, words):
    status, _, err = words(manifest, tmp_path / "o.jsonl", model=BUNDLED)
    assert status == 1 and "this model finds no word times; give --model a Whisper" in err
    assert not (tmp_path / "o.jsonl.begun").exists()
