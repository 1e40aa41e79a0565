"""The whole way with a real model: a tiny one with random weights, asked about real recordings."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile

from mindspore_osum.cli import main
from mindspore_osum.errors import UserError
from mindspore_osum.evaluation.evalset import read_eval_set
from mindspore_osum.evaluation.measure import measure
from mindspore_osum.evaluation.predictions import open_run, read_predictions
from mindspore_osum.evaluation.run import answer_all
from tests.inference.common import SMALL, fill, train_tokenizer

TOKENS = 6


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    from mindspore_osum.folder import save_folder
    from mindspore_osum.systems.osum.network import OsumModel

    folder = tmp_path_factory.mktemp("model")
    model = OsumModel(SMALL)
    fill(model, seed=5)
    (folder / "trained.model").write_bytes(train_tokenizer(SMALL.decoder.vocab_size))
    save_folder(folder / "tiny", model, folder / "trained.model")
    return folder / "tiny"


@pytest.fixture
def manifest(write_lines, tmp_path):
    """Five recordings of up to 1.2 s and two tasks."""
    tasks = (("<TRANSCRIBE>", "turn on the light"), ("<TRANSCRIBE> <GENDER>", "hi<MALE>"))
    return write_lines("m.jsonl", recordings(tmp_path, [tasks[n % 2] for n in range(5)]))


def recordings(folder, tasks) -> list[dict]:
    """Manifest lines with a recording of its own each."""
    lines = []
    for n, (task, txt) in enumerate(tasks):
        seconds = (0.9, 0.3, 1.2, 0.5, 0.7)[n % 5]
        t = np.arange(round(16_000 * seconds)) / 16_000
        noise = np.random.default_rng(n).standard_normal(len(t))
        soundfile.write(folder / f"{n}.wav", 0.3 * np.sin(600 * (n + 1) * t) + 0.02 * noise, 16_000)
        lines.append({"key": f"k{n}", "wav": f"{n}.wav", "txt": txt, "task": task})
    return lines


def run(manifest, model_folder, out, *arguments) -> int:
    return main(
        [
            "eval",
            "--model",
            str(model_folder),
            "--manifest",
            str(manifest),
            "--output",
            str(out),
            "--no-plots",
            "--max-new-tokens",
            str(TOKENS),
            *arguments,
        ]
    )


def raws(path) -> dict:
    return {p.place: p.raw for p in read_predictions(path / "predictions.jsonl")}


EVERY_KIND = [
    ("<TRANSCRIBE>", "turn on the light"),
    ("<AGE> <GENDER>", "<OLD><MALE>"),
    ("<S2TCHAT>", "a lamp"),
    ("<TRANSCRIBE> <ALIGN>", "<0.10>hi<0.20>"),
    ("<TRANSCRIBE> <EMOTION>", "hi<SAD>"),
]
WORDS = {"key": "i", "txt": "<asr>", "task": "<INTENT_CLASSIFICATION>", "extra": {"intent": "how"}}


def test_scores_depend_on_neither_batches_nor_order(model_folder, write_lines, tmp_path):
    """Other neighbours, in batches that mix tasks, tags and sentences (the engine has one by one)."""
    from mindspore_osum.inference.engine import Engine
    from mindspore_osum.inference.sampling import Sampling

    manifest = write_lines("every.jsonl", [*recordings(tmp_path, EVERY_KIND), WORDS])
    engine, asked = Engine(model_folder), read_eval_set(str(manifest), ("fixed", "natural"))
    results = []
    for size, questions in ((3, asked.questions), (4, asked.questions[::-1])):
        out = tmp_path / str(size)
        out.mkdir()
        done, failed = answer_all(
            engine, questions, out, size, Sampling(max_new_tokens=TOKENS), lambda text: None
        )
        assert failed == {}
        assert raws(out) == {p.place: p.raw for p in done}
        result = measure(asked.join(done, {})[0])
        del result["speed"]
        results.append((raws(out), result))
    assert results[0] == results[1]
    assert len(results[0][0]) == 11
    assert len(set(results[0][0].values())) > 8  # the answers do depend on recording and request


def test_the_model_writes_its_tags_unless_they_are_forced(write_lines, tmp_path):
    """As in the papers; a run of one kind is not resumed as the other."""
    manifest = str(write_lines("every.jsonl", recordings(tmp_path, EVERY_KIND)))
    for forced in (False, True):
        asked = read_eval_set(manifest, ("fixed", "natural"), force_tags=forced)
        assert {question.request.force_tags for question in asked.questions} == {forced}
    for first, second in ((False, True), (True, False)):
        folder = tmp_path / str(first)
        open_run(folder, {"force_tags": first})
        assert open_run(folder, {"force_tags": first}) == []
        with pytest.raises(UserError, match="an evaluation with another force_tags"):
            open_run(folder, {"force_tags": second})
    (tmp_path / "older").mkdir()
    (tmp_path / "older" / "settings.json").write_text("{}")  # before there was such a setting
    assert open_run(tmp_path / "older", {"force_tags": False}) == []


def test_tags_against_natural_language_in_one_command(model_folder, manifest, tmp_path):
    """Table 3 from recordings to report: every utterance asked twice, compared in pairs, with an interval."""
    out = tmp_path / "out"
    assert run(manifest, model_folder, out, "--prompts", "both", "--batch-size", "4") == 0
    metrics = json.loads((out / "metrics.json").read_text("utf-8"))
    asked = {"fixed": set(), "natural": set()}
    for prediction in read_predictions(out / "predictions.jsonl"):
        asked[prediction.prompts].add(prediction.request)
    assert asked["fixed"] == {"<asr>", "<asr><gender>"} and len(asked["natural"]) == 5
    for task, metric, pairs in (("asr", "wer", 3), ("sgc", "accuracy", 2)):
        row = metrics["difference"][task]
        values = [metrics[mode][task][metric] for mode in ("fixed", "natural")]
        assert [row["fixed"], row["natural"]] == pytest.approx(values)
        assert row["difference"] == pytest.approx(values[1] - values[0])
        assert row["interval"][0] <= row["difference"] <= row["interval"][1]
        assert (row["metric"], row["pairs"]) == (metric, pairs)
    assert metrics["ifr"]["items"] == 5 and metrics["speed"]["answers"] == 10
    report = (out / "report.md").read_text("utf-8")
    assert "## Fixed instructions against natural language" in report
    assert "(OSUM-Pangu Table 3, natural prompts)" in report

    words = tmp_path / "words.yaml"
    words.write_text("asr: [write]\nsgc: [who]\n", encoding="utf-8")
    assert run(manifest, model_folder, out, "--prompts", "both", "--requests", str(words)) == 1


def test_a_run_is_taken_up_and_failures_are_tried_again(model_folder, manifest, tmp_path, capsys):
    out, wav = tmp_path / "out", tmp_path / "1.wav"
    good, file = wav.read_bytes(), tmp_path / "out" / "predictions.jsonl"
    wav.write_bytes(b"no audio at all")
    assert run(manifest, model_folder, out, "--batch-size", "2") == 1
    metrics = json.loads((out / "metrics.json").read_text("utf-8"))
    assert metrics["counts"]["missing_predictions"] == 1
    assert "1.wav: not audio" in (out / "report.md").read_text("utf-8")
    assert 0 < metrics["speed"]["rtf"]
    assert metrics["speed"]["audio_seconds"] == pytest.approx(3.3, abs=0.02)
    first = raws(out)
    assert len(first) == 4

    wav.write_bytes(good)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:2]) + lines[2][:20])  # as a kill in the middle of writing leaves it
    capsys.readouterr()
    assert run(manifest, model_folder, out, "--batch-size", "2") == 0
    assert "2 of 5 answers are there" in capsys.readouterr().err
    assert file.read_bytes().startswith(b"".join(lines[:2]))
    again = raws(out)
    assert len(file.read_bytes().splitlines()) == len(again) == 5
    assert {place: again[place] for place in first} == first

    assert run(manifest, model_folder, out) == 0  # all is there: scored again without the model
    assert "loading" not in capsys.readouterr().err
    assert run(manifest, model_folder, out, "--max-new-tokens", "7") == 1
    assert "another max_new_tokens" in capsys.readouterr().err


def test_a_folder_that_is_no_model_is_refused_before_anything_is_written(manifest, tmp_path, capsys):
    assert run(manifest, tmp_path, tmp_path / "out") == 1
    assert "not a model folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_killed_run_is_taken_up(model_folder, manifest, tmp_path):
    """kill -9 after the first answer; the second run has the same answers as one that was left in peace."""
    peace, out = tmp_path / "peace", tmp_path / "out"
    assert run(manifest, model_folder, peace, "--batch-size", "1") == 0
    command = [
        sys.executable,
        "-m",
        "mindspore_osum",
        "eval",
        "--model",
        str(model_folder),
        "--manifest",
        str(manifest),
        "--output",
        str(out),
        "--no-plots",
        "--max-new-tokens",
        str(TOKENS),
        "--batch-size",
        "1",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    file, deadline = out / "predictions.jsonl", time.monotonic() + 600
    while not (file.exists() and file.stat().st_size) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 0 < len(raws(out)) < 5
    assert run(manifest, model_folder, out, "--batch-size", "1") == 0
    assert raws(out) == raws(peace)
