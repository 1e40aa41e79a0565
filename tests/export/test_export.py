"""An export from the model folder to answers, against the engine that answers from the folder itself."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mindspore_osum.cli import main
from mindspore_osum.errors import UserError
from mindspore_osum.export import write
from mindspore_osum.export.graphs import Sizes, graphs_of
from mindspore_osum.export.runner import Exported
from mindspore_osum.folder import BUNDLED
from mindspore_osum.inference.engine import Engine
from mindspore_osum.inference.request import make_request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.speech.audio import load_audio
from tests.inference.common import small_folder

ROOT = Path(__file__).resolve().parents[2]
RECORDINGS = sorted((BUNDLED.parent / "recordings").glob("*.wav"))[:2]
REQUESTS = [make_request("asr"), make_request(instruction="What does the speaker say?"), make_request("sttc")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model with random weights."""
    return small_folder(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def deploy(folder, tmp_path_factory):
    """It, exported for two recordings of 3 s at a time."""
    target = tmp_path_factory.mktemp("export") / "deploy"
    sizes = ["--seconds", "3", "--max-new-tokens", "30", "--request-tokens", "20", "--batch-size", "2"]
    assert main(["export", "--model", str(folder), "--output", str(target), *sizes]) == 0
    return target


@pytest.fixture(scope="module")
def exported(deploy):
    return Exported(deploy)


@pytest.fixture(scope="module")
def engine(folder):
    return Engine(folder)


def test_it_was_compared(deploy):
    facts = json.loads((deploy / "export.json").read_text("utf-8"))
    assert facts["compared"].keys() == {"speech", "prefill", "decode"}
    assert max(facts["compared"].values()) <= 1e-4
    assert facts["files"] == {p.name: p.stat().st_size for p in deploy.iterdir() if p.name != "export.json"}
    assert list(deploy.parent.iterdir()) == [deploy]  # nothing is left of the work


@pytest.mark.parametrize("request_", REQUESTS, ids=["asr", "words", "chat"])
def test_answers_are_the_engine_s(exported, engine, request_):
    """The same words, labels and end: through files, padding and a cache of another kind."""
    sampling = Sampling(max_new_tokens=30)
    expected = engine.answer(RECORDINGS, requests=[request_] * 2, sampling=sampling)
    for path, result in zip(RECORDINGS, expected):
        response = exported.answer(path, request_, sampling)
        (segment,) = response.segments
        assert (segment.raw, segment.text, segment.labels, segment.cut, response.answer) == (
            result.raw, result.text, result.labels, result.cut, result.answer
        )  # fmt: skip


def test_draws_are_the_engine_s(exported, engine):
    sampling = Sampling(max_new_tokens=30, temperature=1.5, top_k=50, seed=3)
    expected, _ = engine.answer(RECORDINGS, sampling=sampling)
    assert exported.answer(RECORDINGS[0], REQUESTS[0], sampling).raw == expected.raw


def test_longer_recordings_are_cut_at_pauses(exported):
    parts = [x for path in RECORDINGS for x in (load_audio(path), np.zeros(24_000, np.float32))]
    response = exported.answer((np.concatenate(parts), 16_000), REQUESTS[0], Sampling(max_new_tokens=12))
    assert len(response.segments) == 2 and all(s.seconds <= 3 for s in response.segments)


def test_example(deploy):
    program = ROOT / "examples" / "deployment" / "answer.py"
    command = [sys.executable, program, deploy, RECORDINGS[0], "no.wav"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert (done.returncode, done.stderr) == (1, "answer.py: no.wav: no such audio file\n")
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["audio"] == str(RECORDINGS[0])


def test_requests_that_are_too_long_are_refused(exported):
    with pytest.raises(UserError, match=r"prompt of \d+ positions: .*deploy takes \d+; shorten the request"):
        exported.answer(RECORDINGS[0], make_request(instruction="what " * 200))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "export.json").unlink(), "not an exported folder (no export.json)"),
        (lambda f: (f / "export.json").write_text("[]"), "export.json: not a description"),
        (lambda f: (f / "decode.mindir").unlink(), "decode.mindir: missing, or not of the size"),
        (lambda f: (f / "prefill.mindir").write_bytes(b"x"), "prefill.mindir: missing, or not of the size"),
    ],
)
def test_damaged_folders_are_refused(deploy, tmp_path, damage, message):
    shutil.copytree(deploy, tmp_path / "copy")
    damage(tmp_path / "copy")
    with pytest.raises(UserError) as error:
        Exported(tmp_path / "copy")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_no_graph(tmp_path):
    (tmp_path / "x.mindir").write_bytes(b"not a graph" * 100)
    with pytest.raises(UserError, match="x.mindir: MindSpore cannot load the graph"):
        write.load_graph(tmp_path / "x.mindir")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--seconds", "0"], "--seconds 0: recordings are above 0 and at most 60 seconds"),
        (["--max-new-tokens", "9999"], "lower --seconds, --request-tokens or"),
        (["--batch-size", "0"], "--batch-size 0: must be 1 or more"),
        (["--model", "absent"], "absent: no such model folder"),
        (["--output", "full"], "full: is there already and is no export"),
        (["--output", "no/where"], "no: no such folder"),
    ],
)
def test_what_cannot_be_exported_is_one_line(args, message, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/notes.txt").touch()
    assert main(["export", "--output", "out", *args]) == 1
    out, err = capfd.readouterr()
    assert message in err and "Traceback" not in err and not out
    assert not Path("out").exists()


def test_graphs_that_differ_are_refused(folder, deploy, exported):
    """The comparison is one: with another weight in the model it fails."""
    model = write._plain_model(folder, "float32")
    weight = model.decoder.model.norm.weight
    weight.set_data(weight * 1.01)
    paths = {name: deploy / f"{name}.mindir" for name in exported.graphs}
    with pytest.raises(UserError, match="differ from the model by more than 0.0001"):
        write.compare(model, exported.sizes, paths)


def test_nothing_is_left_of_an_export_that_fails(tmp_path):
    with pytest.raises(UserError), write._appearing(tmp_path / "out") as temp:
        (temp / "x").touch()
        raise UserError("no")
    assert not list(tmp_path.iterdir())


def test_large_weights_lie_beside_their_graph(folder, tmp_path, monkeypatch):
    """MindSpore splits what is larger than a gigabyte; here everything is."""
    from mindspore.train import serialization

    monkeypatch.setattr(serialization, "TOTAL_SAVE", 1)
    cell, inputs = graphs_of(write._plain_model(folder, "float32"), Sizes(1, 80, 30, 40))["decode"]
    assert write._write(cell, inputs, tmp_path, "decode") == "decode_graph.mindir"
    assert (tmp_path / "decode_variables").is_dir()
    scores = write.load_graph(tmp_path / "decode_graph.mindir")(*inputs)[0].asnumpy()
    assert np.array_equal(scores, cell(*inputs)[0].asnumpy())


@pytest.mark.slow
def test_the_bundled_model_as_a_process(tmp_path):
    """At the default sizes."""
    command = [sys.executable, "-m", "mindspore_osum", "export", "--output", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert all(f"{name:<8} differs by" in done.stdout for name in ("speech", "prefill", "decode"))
    response = Exported(tmp_path / "out").answer(RECORDINGS[0], REQUESTS[0])
    assert response.raw == Engine("tiny").answer(RECORDINGS[:1])[0].raw
