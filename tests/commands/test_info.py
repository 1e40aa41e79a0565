"""`osum info`: what a folder is, checked against the files themselves."""

import hashlib
import json
import math
import shutil
from dataclasses import replace

import pytest
from safetensors import safe_open

from mindspore_osum.cli import main
from mindspore_osum.commands.info import describe, nearest_preset, text_of
from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED, read_config, write_config
from mindspore_osum.systems.osum.presets import PRESETS
from mindspore_osum.systems.registry import preset, presets


@pytest.fixture
def folder(tmp_path):
    """A copy of the bundled model, with a licence."""
    shutil.copytree(BUNDLED, tmp_path / "model")
    (tmp_path / "model" / "LICENSE").write_text("free", encoding="utf-8")
    return tmp_path / "model"


def test_facts(folder):
    facts = describe(folder)
    with safe_open(folder / "model.safetensors", "numpy") as tensors:
        sizes = {name: math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys()}
    assert facts["tensors"] == len(sizes)
    parameters = facts["parameters"]
    assert parameters.pop("total") == sum(sizes.values()) == sum(parameters.values())
    for part in ("encoder", "adapter", "decoder"):
        assert parameters[part] == sum(n for name, n in sizes.items() if name.startswith(part + "."))
    assert facts["stored_as"] == {"float16": sum(sizes.values())}
    assert facts["licence"] == ["LICENSE"] and facts["tokenizer"]
    files = {file["name"]: file for file in facts["files"]}
    assert files.keys() == {"LICENSE", "config.json", "model.safetensors", "tokenizer.model"}
    for name, file in files.items():
        data = (folder / name).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert facts["bytes"] == sum(file["bytes"] for file in files.values())


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_recognised(name):
    cfg = preset(name)
    assert nearest_preset(cfg) == (name, {})
    other = replace(cfg, dtype="bfloat16", decoder=replace(cfg.decoder, vocab_size=77))
    differs = {"dtype": ["bfloat16", cfg.dtype], "decoder.vocab_size": [77, cfg.decoder.vocab_size]}
    assert nearest_preset(other) == (name, differs)


@pytest.mark.parametrize("name", presets())
def test_a_preset_of_any_system_is_its_own_nearest(name):  # encoders of two kinds have different sizes
    assert nearest_preset(preset(name)) == (name, {})


def test_a_model_of_its_own_has_no_preset():
    cfg = preset("tiny")
    changed = {name: 2 * getattr(cfg.encoder, name) for name in ("d_model", "d_ff", "n_layers")}
    cfg = replace(
        cfg,
        encoder=replace(cfg.encoder, **changed),
        speech_token_num=9,
        dtype="float16",
        adapter=replace(cfg.adapter, n_layers=5, d_ff=11, dropout=0.5, norm_eps=1.0),
        decoder=replace(cfg.decoder, n_layers=7, d_ff=13, rope_theta=3.0),
    )
    assert nearest_preset(cfg) == (None, {})


def test_command(folder, capsys):
    write_config(folder, replace(read_config(folder), prompts="osum_pangu"))
    assert main(["info", str(folder), "--no-hashes"]) == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (shown["model"], shown["prompts"], shown["licence"]) == (str(folder), "osum_pangu", "LICENSE")
    assert "prompts osum_pangu" in shown["preset"]
    assert main(["info", str(folder), "--json", "--no-hashes"]) == 0
    assert json.loads(capsys.readouterr().out) == describe(folder, hashes=False)
    assert main(["info"]) == 0
    assert str(BUNDLED) in capsys.readouterr().out
    assert text_of(describe(BUNDLED)).count("\nfile ") == 3


def test_misspelt_folders_get_suggestions(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder.parent)
    for word, near in (("modle", "model"), ("tinny", "tiny")):
        assert main(["info", word]) == 1
        error = capsys.readouterr().err
        assert "no such model folder; give one that" in error and f"did you mean {near!r}?" in error
    assert main(["info", "tiny", "--no-hashes"]) == 0
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match="not a model folder"):
        describe(folder)
