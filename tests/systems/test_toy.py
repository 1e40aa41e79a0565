"""The proof that this is a house for many systems: one comes in a package of its own, no file is touched."""

import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import mindspore_osum
from ckpt_convert.torch_reader import open_torch
from ckpt_convert.torch_writer import TorchWriter
from mindspore_osum.cli import main
from mindspore_osum.errors import UserError
from mindspore_osum.systems import registry
from mindspore_osum.text.tokenizer import open_tokenizer
from mindspore_osum.weights_io import TensorInfo
from tests.training.tones import make_world, random_words

PACKAGE = Path(__file__).parent / "toy" / "toy_ear"
PRESET = "toy_ear_xs"


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """The folder of an environment in which the package is installed, and its system."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(PACKAGE, site / "toy_ear", ignore=shutil.ignore_patterns("__pycache__"))
    info = site / "toy_ear-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-ear\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mindspore_osum.systems]\ntoy_ear = toy_ear.system:SYSTEM\n")
    sys.path.insert(0, str(site))
    importlib.invalidate_caches()
    registry.all_systems.cache_clear()
    yield registry.system_of("toy_ear")
    sys.path.remove(str(site))
    registry.all_systems.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy_ear"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """words.jsonl of four recordings of tones, each letter a word, and a tokenizer."""
    folder = make_world(tmp_path_factory.mktemp("world"), random_words(4))
    lines = [json.loads(line) for line in (folder / "words.jsonl").read_text().splitlines()]
    for line in lines:
        line["txt"] = " ".join(line["txt"])
    (folder / "words.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def published(toy, tmp_path_factory):
    """A published checkpoint: a `.pt` with random weights under names that are not ours."""
    path, cfg = tmp_path_factory.mktemp("published") / "toy.pt", toy.presets[PRESET]
    form, rng = toy.forms(cfg)["published"], np.random.default_rng(0)
    values = {
        form.theirs(name): rng.standard_normal(shape, np.float32) / 8
        for name, shape in toy.shapes(cfg).items()
    }
    with TorchWriter(path, {key: TensorInfo("F32", v.shape) for key, v in values.items()}, {}) as writer:
        for key, value in values.items():
            writer.write_raw(key, value.reshape(-1).view(np.uint8))
    return path


@pytest.fixture(scope="module")
def folder(world, published, tmp_path_factory):
    """The checkpoint as a model folder."""
    out, pieces = tmp_path_factory.mktemp("converted") / "model", str(world / "tokenizer.model")
    assert main(["convert", str(published), "-o", str(out), "--tokenizer", pieces]) == 0
    return out


def test_the_package_has_nothing_of_another_system():
    for path in PACKAGE.glob("*.py"):
        assert "systems.osum" not in path.read_text("utf-8"), path


def test_tables_are_those_of_the_cells(toy):
    cfg = toy.presets[PRESET]
    cells = {name: tuple(param.shape) for name, param in toy.build(cfg).parameters_and_names()}
    assert toy.shapes(cfg) == cells


def test_converts_both_ways(toy, published, folder, tmp_path, capsys):
    assert json.loads((folder / "config.json").read_text())["model_type"] == "toy_ear"
    keys = set(open_torch(published).infos)
    assert {"front.linear.weight", "lm.blocks.0.attention.q_proj.bias", "lm.lm_head.weight"} < keys
    assert main(["convert", str(folder), "-o", str(tmp_path / "back.pt")]) == 0
    assert (tmp_path / "back.pt").read_bytes() == published.read_bytes()
    capsys.readouterr()
    assert main(["info", str(folder), "--json", "--no-hashes"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["preset"], facts["differs"]) == (PRESET, {})
    assert facts["parameters"].keys() == {"total", "ear", "decoder"}
    assert main(["info", str(folder), "--no-hashes"]) == 0


def job(world, out, **over) -> Path:
    """A job of two steps, as a file."""
    pieces = open_tokenizer(world / "tokenizer.model").vocab_size
    values = {
        "output_dir": str(out),
        "device": "CPU",
        "model": {"start": PRESET, "overrides": {"decoder": {"vocab_size": pieces}}},
        "tokenizer": str(world / "tokenizer.model"),
        "data": {"train": [{"name": "words", "path": str(world / "words.jsonl")}]},
        "batch": {"size": 4, "seconds": [0.66], "text_tokens": 40},
        "schedule": {"warmup_steps": 1},
        "steps": 2,
        "log_every": 1,
    }
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(values | over))
    return path


@pytest.fixture(scope="module")
def run(toy, world, tmp_path_factory):
    """The folder of two steps of training from the preset."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "--config", str(job(world, out))]) == 0
    return out


def test_trains(toy, run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "ce" in line]
    assert len(steps) == 2 and all(0 < line["ce"] < 20 for line in steps)
    assert (run / "model" / "config.json").is_file()


def test_infers(world, run, tmp_path):
    asked, out = ["infer", str(world / "0.wav"), "--model", str(run / "model")], tmp_path / "out.jsonl"
    assert main([*asked, "--max-new-tokens", "4", "--output", str(out)]) == 0
    said = json.loads(out.read_text())
    assert said["text"] == said["raw"].replace("_", " ").strip() and "error" not in said
    assert main([*asked, "--task", "sttc", "--output", str(tmp_path / "chat.jsonl")]) == 1
    said = json.loads((tmp_path / "chat.jsonl").read_text())
    assert "output type 's2t_chat': choose one of text" in said["error"]


def test_is_looked_into(world, run):
    osum = mindspore_osum.OSUM.load(str(run / "model"))
    inputs = osum.inputs(str(world / "0.wav"))
    assert osum.logits(inputs).shape == (*inputs["token_ids_BL"].shape, osum.model.cfg.decoder.vocab_size)
    with pytest.raises(UserError, match="toy_ear: this system shows nothing before the decoder"):
        osum.encode(str(world / "0.wav"))


def test_what_it_has_not_is_refused(world, run, tmp_path, capsys):
    """One line each: the toy knows no costs, no graphs to export and no reference."""
    assert main(["plan", "--config", str(job(world, tmp_path / "run"))]) == 1
    assert main(["export", "--model", str(run / "model"), "--output", str(tmp_path / "graphs")]) == 1
    assert main(["convert", str(run / "model"), "-o", str(tmp_path / "x.pt"), "--verify"]) == 1
    found = [line for line in capsys.readouterr().err.splitlines() if "toy_ear" in line]
    for line, part in zip(found, ("cannot be planned", "cannot be exported", "to verify"), strict=True):
        assert part in line


def evaluated(world, folder, out) -> dict:
    """metrics.json of an evaluation."""
    manifest = ["--manifest", str(world / "words.jsonl"), "--output", str(out)]
    assert main(["eval", "--model", str(folder), *manifest, "--max-new-tokens", "4", "--no-plots"]) == 0
    return json.loads((out / "metrics.json").read_text())


def test_evaluates(world, run, tmp_path):
    """Scores are of what the system reads in an answer: `a_b` is two words."""
    assert evaluated(world, run / "model", tmp_path)["fixed"]["asr"]["wer"] > 0
    lines, answers = (world / "words.jsonl").read_text().splitlines(), tmp_path / "predictions.jsonl"
    texts = {line["key"]: line["txt"] for line in map(json.loads, lines)}
    said = [json.loads(line) for line in answers.read_text().splitlines()]
    said = [line | {"raw": texts[line["key"]].replace(" ", "_")} for line in said]
    answers.write_text("".join(json.dumps(line) + "\n" for line in said))
    assert evaluated(world, run / "model", tmp_path)["fixed"]["asr"]["wer"] == 0  # nothing is asked again
