"""An export from the model folder to answers, against the engine that answers from the folder itself."""

import configparser
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mindspore import Tensor
from mindspore.train import serialization

from mindspore_osum import files
from mindspore_osum.cli import main
from mindspore_osum.errors import UserError
from mindspore_osum.export import write
from mindspore_osum.export.runner import Exported
from mindspore_osum.folder import BUNDLED, TOKENIZER
from mindspore_osum.inference.engine import Engine
from mindspore_osum.inference.request import make_request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.models.ops import carried
from mindspore_osum.speech.audio import load_audio
from mindspore_osum.systems.osum.export import OsumExport
from mindspore_osum.systems.osum.template import load_template
from mindspore_osum.tasks import TASK_KEYS, answer_starts
from mindspore_osum.text.sequence import opening_ids
from mindspore_osum.text.template import Turn
from mindspore_osum.text.tokenizer import open_tokenizer
from tests.export.common import export_to
from tests.inference.common import SMALL, small_folder, train_tokenizer

ROOT = Path(__file__).resolve().parents[2]
RECORDINGS = sorted((BUNDLED.parent / "recordings").glob("*.wav"))[:2]
REQUESTS = [make_request("asr"), make_request(instruction="What does the speaker say?"), make_request("sttc")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model with random weights."""
    return small_folder(tmp_path_factory.mktemp("model") / "small")


SIZES = ["--seconds", "3", "--max-new-tokens", "30", "--request-tokens", "20"]


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    """It, exported for two recordings at a time."""
    return export_to(
        tmp_path_factory.mktemp("export") / "deploy", "--model", str(folder), "--batch-size", "2", *SIZES
    )


@pytest.fixture(scope="module")
def deploy(exported):
    return exported.folder


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
            result.raw,
            result.text,
            result.labels,
            result.cut,
            result.answer,
        )


def test_the_example_answers_in_float16(tmp_path, monkeypatch):
    """The bundled model in the type of a 310P says what it says in float32, and no NaN.

    Its weights lie beside their graphs, as MindSpore has it beyond a gigabyte; here everything is.
    """
    monkeypatch.setattr(serialization, "TOTAL_SAVE", 1)
    monkeypatch.setattr(OsumExport, "compare", lambda *args: {"tokens": 0.0})  # below, by what is said
    deploy = tmp_path / "half"
    assert main(["export", "--output", str(deploy), "--dtype", "float16", *SIZES]) == 0
    assert (deploy / "decode_graph.mindir").is_file() and (deploy / "decode_variables").is_dir()
    assert json.loads((deploy / "export.json").read_text("utf-8"))["model"]["dtype"] == "float16"
    program = ROOT / "examples" / "deployment" / "answer.py"
    command = [sys.executable, program, deploy, RECORDINGS[0], "no.wav", "--task", "asr"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert (done.returncode, done.stderr) == (1, "answer.py: no.wav: no such audio file\n")
    answer = json.loads(done.stdout)
    (expected,) = Engine("tiny").answer(RECORDINGS[:1], sampling=Sampling(max_new_tokens=30))
    assert answer["audio"] == str(RECORDINGS[0]) and answer["raw"] == expected.raw != ""


def test_masks_survive_float16():
    """As numbers, and hidden keys keep the weight 0."""
    cells, visible = carried.CELLS, np.float32(1000.0)
    masks = (
        cells.AttentionMask()(None, 3).asnumpy(),
        cells.Cache(1, 4, 1, 8).seen(Tensor(np.array([1], np.int32))).asnumpy(),
    )
    for mask in masks:
        assert np.isfinite(mask.astype(np.float16)).all() and set(np.unique(mask)) == {-1e4, 0}
    assert np.exp(np.float32(-1e4) - visible) == 0 == np.exp(np.float16(-1e4) + np.float16(visible))


def test_lite_computes_in_the_types_of_the_graphs(deploy):
    settings = configparser.ConfigParser()
    settings.read(deploy / "lite.cfg")
    assert settings["ascend_context"]["precision_mode"] == "enforce_origin"


def test_draws_are_the_engine_s(exported, engine):
    sampling = Sampling(max_new_tokens=30, temperature=1.5, top_k=50, seed=3)
    expected, _ = engine.answer(RECORDINGS, sampling=sampling)
    assert exported.answer(RECORDINGS[0], REQUESTS[0], sampling).raw == expected.raw


def test_longer_recordings_are_cut_at_pauses(exported):
    parts = [x for path in RECORDINGS for x in (load_audio(path), np.zeros(24_000, np.float32))]
    response = exported.answer((np.concatenate(parts), 16_000), REQUESTS[0], Sampling(max_new_tokens=12))
    assert len(response.segments) == 2 and all(s.seconds <= 3 for s in response.segments)


def test_requests_that_are_too_long_are_refused(exported):
    with pytest.raises(UserError, match=r"prompt of \d+ positions: .*deploy takes \d+; shorten the request"):
        exported.answer(RECORDINGS[0], make_request(instruction="what " * 200))


def rewrite(folder, **values) -> None:
    path = folder / "export.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), "utf-8")


def other_tokenizer(folder) -> None:
    """One with more pieces than the model."""
    data = train_tokenizer(pieces=600)
    (folder / "tokenizer.model").write_bytes(data)
    if (folder / "export.json").exists():
        files = json.loads((folder / "export.json").read_text("utf-8"))["files"]
        rewrite(folder, files=files | {"tokenizer.model": len(data)})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "export.json").unlink(), "not an exported folder (no export.json)"),
        (lambda f: (f / "export.json").write_text("[]"), "export.json: expected an object"),
        (lambda f: (f / "export.json").write_text('{"version": 1, "files": {}}'), "json: not a description"),
        (lambda f: rewrite(f, files={}), "export.json: not a description of `osum export` ('token"),
        (lambda f: rewrite(f, model=None), "export.json: model: expected a mapping of ModelConfig settings"),
        (lambda f: rewrite(f, version=2), "export.json: version 2, this program reads 1; export the model"),
        (lambda f: other_tokenizer(f), "tokenizer.model: 600 pieces, but the model has only 512; this"),
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


def test_an_export_that_cannot_be_read(deploy, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "open", refuse, raising=False)
    with pytest.raises(UserError, match="export.json: cannot read it .Permission denied"):
        Exported(deploy)


def test_a_tokenizer_of_another_model(folder, tmp_path, capfd):
    """Refused as by the engine, before anything is computed."""
    shutil.copytree(folder, tmp_path / "model")
    other_tokenizer(tmp_path / "model")
    assert main(["export", "--model", str(tmp_path / "model"), "--output", str(tmp_path / "out")]) == 1
    assert "600 pieces, but the model has only 512" in capfd.readouterr().err
    with pytest.raises(UserError, match="600 pieces, but the model has only 512"):
        Engine(tmp_path / "model")


@pytest.mark.parametrize("name", ["compact", "osum_pangu_published_inference"])
def test_requests_of_the_length_that_was_asked_for_fit(folder, name):
    """Also where <s> stands before the request."""
    tokenizer, words = open_tokenizer(folder / TOKENIZER), "turn on the light in the kitchen"
    texts = {"left": {"text": "you hear and write", "s2t_chat": "you"}, "assistant": "so"}
    template = replace(load_template(name), texts=texts)
    count = len(tokenizer.encode(words))
    sizes = OsumExport().sizes_for(SMALL, tokenizer, template, 2.0, count, 10, 1)
    opening = max((opening_ids(tokenizer, *answer_starts(key))[0] for key in TASK_KEYS), key=len)
    turn = Turn("text", {"request": words}, SMALL.tokens(sizes.frames), opening=opening)
    sequence = template.sequence(tokenizer, turn)
    assert len(sequence) == sizes.prompt


def test_a_file_that_is_no_graph(tmp_path):
    (tmp_path / "x.mindir").write_bytes(b"not a graph" * 100)
    with pytest.raises(UserError, match="x.mindir: MindSpore cannot load the graph"):
        write.load_graph(tmp_path / "x.mindir")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--seconds", "0"], "--seconds 0: recordings are 1 to 60 seconds at most"),
        (["--seconds", "0.5"], "--seconds 0.5: recordings are 1 to 60 seconds"),
        (["--seconds", "61"], "--seconds 61: recordings are 1 to 60 seconds"),
        (["--max-new-tokens", "9999"], "lower --seconds, --request-tokens or"),
        (["--batch-size", "0"], "--batch-size 0: must be 1 or more"),
        (["--model", "absent"], "absent: no such model folder"),
        (["--output", "full"], "full: is there already and is no export"),
        (["--output", "mixed"], "mixed/own/notes.txt: is not of the export there"),
        (["--output", "no/where"], "no: no such folder"),
    ],
)
def test_what_cannot_be_exported_is_one_line(args, message, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/notes.txt").touch()
    Path("mixed/own").mkdir(parents=True)
    Path("mixed/export.json").write_text('{"version": 1, "files": {"own/a.mindir": 1}}')
    Path("mixed/own/a.mindir").touch()
    Path("mixed/own/notes.txt").touch()
    assert main(["export", "--output", "out", *args]) == 1
    out, err = capfd.readouterr()
    assert message in err and "Traceback" not in err and not out
    assert not Path("out").exists()


def test_graphs_that_differ_are_refused(folder, deploy, exported):
    """The comparison is one: with another weight in the model it fails."""
    model = write._carried_model(folder)
    weight = model.decoder.model.norm.weight
    weight.set_data(weight * 1.01)
    with pytest.raises(UserError, match="differ from the model by more than 0.0001"):
        write.check(OsumExport().compare(model, exported.sizes, exported.graphs), "float32")


def test_nothing_is_left_of_an_export_that_fails(tmp_path):
    with pytest.raises(UserError), write._appearing(tmp_path / "out") as temp:
        (temp / "x").touch()
        raise UserError("no")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def old_export(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    return tmp_path / "out"


def test_an_export_is_replaced_where_a_link_leads(old_export, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(old_export)
    with write._appearing(link) as temp:
        (temp / "new").touch()
    assert link.is_symlink() and [path.name for path in old_export.iterdir()] == ["new"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "out"]


def test_a_replacement_that_fails_leaves_the_old_export(old_export, tmp_path, monkeypatch):
    replace = os.replace

    def broken(source, target):
        if str(source).endswith(".partial"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(UserError, match="cannot write there .No space"), write._appearing(old_export) as temp:
        (temp / "new").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_bundled_model_as_a_process(tmp_path, dtype):
    """At the default sizes."""
    command = [sys.executable, "-m", "mindspore_osum", "export", "--output", str(tmp_path / "out")]
    done = subprocess.run([*command, "--dtype", dtype], capture_output=True, text=True, timeout=600, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert all(f"{name:<8} differs by" in done.stdout for name in ("speech", "prefill", "decode"))
    response = Exported(tmp_path / "out").answer(RECORDINGS[0], REQUESTS[0])
    assert response.raw == Engine("tiny").answer(RECORDINGS[:1])[0].raw
