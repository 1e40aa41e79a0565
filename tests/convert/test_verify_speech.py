"""Verification of a TouchASU and of a linear aligner: published files against their folders, a difference.

The references share no code with the cells or their key tables.
"""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs torch (extra: reference)")

from ckpt_convert.convert import convert  # noqa: E402
from ckpt_convert.settle import Settings  # noqa: E402
from ckpt_convert.verify import verify  # noqa: E402
from mindspore_osum.cli import main  # noqa: E402
from mindspore_osum.folder import BUNDLED, save_folder  # noqa: E402
from mindspore_osum.models.aligner.config import AlignerConfig  # noqa: E402
from mindspore_osum.systems.registry import preset, system_of  # noqa: E402
from mindspore_osum.systems.touch_asu.config import FRAMES  # noqa: E402
from mindspore_osum.weights_io import WeightsWriter, open_weights  # noqa: E402
from tests.models.common import fill  # noqa: E402
from tests.systems.linear_aligner.common import converted  # noqa: E402
from tests.systems.touch_asu.common import write_tokenizer  # noqa: E402

STAGES = ["encoder", "speech", "logits"]


def folder(cfg, out):
    """A model folder of random weights."""
    model = system_of(cfg.model_type).build(cfg)
    fill(model, seed=6)
    out.mkdir()
    whose = BUNDLED if cfg.model_type == "linear_aligner" else write_tokenizer(out.parent)
    save_folder(out, model, whose)
    return out


def agree(source, model, stages=tuple(STAGES), **more) -> None:
    result = verify(source, model, **more)
    assert result.ok and result.tolerance == 1e-4, result.table()
    assert [stage.name for stage in result.stages] == list(stages)
    assert all(stage.largest > 0.01 for stage in result.stages)


def published(cfg, tmp_path, form: str):
    """A folder of random weights, and a file made of it in a published form."""
    model = folder(cfg, tmp_path / "model")
    name = "file.pt" if form == "published" else "file.safetensors"
    convert(model, tmp_path / name, form=form)
    return tmp_path / name, model


@pytest.mark.parametrize("leftover", ["placeholder", pytest.param(FRAMES, marks=pytest.mark.slow)])
def test_a_touch_asu_with_firered(tmp_path, leftover):
    """LoRA, statistics of features, a last token that is not whole."""
    agree(*published(replace(preset("touch_asu_firered_tiny"), leftover=leftover), tmp_path, "published"))


def test_a_linear_aligner_of_fewer_dimensions_and_lora(tmp_path):
    """12 tokens: the last one is a mean over fewer frames, as 48 are no multiple of 7."""
    cfg = preset("tiny_aligner")
    cfg = replace(cfg, adapter=AlignerConfig(7, 20), lora=replace(cfg.lora, rank=3))
    source, model = published(cfg, tmp_path, "linear_aligner")
    agree(source, model)
    with open_weights(model) as weights:
        arrays, infos = {n: np.array(weights.read(n)) for n in weights.infos}, dict(weights.infos)
    arrays["adapter.proj.bias"][:] += 0.1
    with WeightsWriter(model / "model.safetensors", infos) as writer:
        for name, values in arrays.items():
            writer.write(name, values)
    changed = verify(source, model)
    assert [s.difference > changed.tolerance * s.largest for s in changed.stages] == [False, True, True]


@pytest.mark.slow
def test_golden_touch_asu_and_its_parts(shared, tmp_path):
    golden = shared / "golden" / "touch_asu"
    convert(golden / "checkpoint-1", tmp_path / "model", tokenizer=golden / "llm")
    agree(golden / "checkpoint-1", tmp_path / "model")
    agree(golden / "checkpoint-1", tmp_path / "model", layers=1)
    config = Settings(config=str(golden / "touch_asu_config.json"))
    parts = {"encoder": golden / "wenet/final.pt", "decoder": golden / "llm"}
    convert(None, tmp_path / "start", **parts, settings=config)
    agree(parts["encoder"], tmp_path / "start", ["encoder"], part="encoder")
    agree(parts["decoder"], tmp_path / "start", ["logits"], part="decoder")


@pytest.mark.slow
def test_golden_linear_aligner_by_the_verb(shared, tmp_path, capfd):
    golden = shared / "golden" / "linear_aligner"
    model = converted(golden, tmp_path / "model")
    assert main(["convert", str(model), "--output", str(tmp_path / "one.safetensors"), "--verify"]) == 0
    said = capfd.readouterr()
    assert all(f"  {name}" in said.out for name in STAGES) and "agree" in said.out
    asked = ["--encoder", golden / "whisper", "--decoder", golden / "llm"]
    asked += ["--aligner", golden / "aligner.safetensors", "--output", model, "--verify-only"]
    assert main(["convert", *map(str, asked)]) == 0
    said = capfd.readouterr()
    assert said.out.count("  agree") == 2 and "not compared alone" in said.err
