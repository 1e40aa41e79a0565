"""Verification: our cells against transformers on the same checkpoint, and that it notices a difference."""

import importlib.util
import shutil

import numpy as np
import pytest

from ckpt_convert.convert import convert
from ckpt_convert.settle import Settings
from ckpt_convert.verify import verify
from mindspore_osum.errors import UserError
from mindspore_osum.folder import read_config
from mindspore_osum.weights_io import WeightsWriter, open_weights
from tests.convert.common import OVERRIDES, published_state, save, torch
from tests.convert.test_hf import START, make_decoder, openai_file, pangu, whisper  # noqa: F401

SETTINGS = Settings(preset="osum_pangu_7b", overrides=OVERRIDES)


def published(tmp_path, dtype=torch.float32):
    """A published file with its positions, which the reference takes from there."""
    from mindspore_osum.models.positions import interleaved_sinusoids
    from mindspore_osum.models.whisper.network import sinusoids

    state = published_state(dtype)
    state["encoder.embed.pos_enc.pe"] = torch.from_numpy(sinusoids(200, 36))[None]
    state["speech_transformer.embed.pos_enc.pe"] = torch.from_numpy(interleaved_sinusoids(200, 36))[None]
    state |= {key: value.to(dtype) for key, value in state.items()}  # as model.to(dtype) leaves them
    return save(state, tmp_path / "a.pt")


def test_published_checkpoint_agrees(tmp_path):
    source = published(tmp_path)
    convert(source, tmp_path / "m", settings=SETTINGS)
    result = verify(source, tmp_path / "m")
    assert [stage.name for stage in result.stages] == ["encoder", "speech", "logits"]
    assert result.ok and result.tolerance == 1e-4, result.table()
    assert all(stage.largest > 0.01 for stage in result.stages) and "agree" in result.table()


@pytest.mark.slow
def test_changed_folder_does_not_agree(tmp_path):
    source = published(tmp_path)
    convert(source, tmp_path / "m", settings=SETTINGS)
    path = tmp_path / "m" / "model.safetensors"
    with open_weights(path) as weights:
        arrays = {name: np.array(weights.read(name)) for name in weights.infos}
        infos = dict(weights.infos)
    arrays["decoder.model.layers.1.self_attn.o_proj.bias"][:] = 0  # the tensor that conversions lose
    with WeightsWriter(path, infos) as writer:
        for name, values in arrays.items():
            writer.write(name, values)
    changed = verify(source, tmp_path / "m")
    assert not changed.ok and "DO NOT AGREE" in changed.table() and not changed.to_dict()["ok"]
    assert [s.difference > changed.tolerance * s.largest for s in changed.stages] == [False, False, True]
    first = verify(source, tmp_path / "m", layers=1)  # the change is in the second
    assert first.ok and len(first.stages) == 3, first.table()


@pytest.mark.slow
def test_golden_model_and_its_merged_form(shared, tmp_path):
    overrides = {"encoder": {"n_heads": 4}, "adapter": {"n_heads": 4}, "decoder": {"n_heads": 6, "eos_id": 4}}
    source = shared / "golden" / "model.pt"
    for name, merge in (("m", False), ("merged", True)):
        convert(
            source, tmp_path / name, settings=Settings("osum_pangu_7b", None, overrides, merge_lora=merge)
        )
        result = verify(source, tmp_path / name)
        assert result.ok and result.tolerance == 1e-4, result.table()


@pytest.mark.slow
def test_bfloat16_merged_is_within_its_rounding(tmp_path):
    source = published(tmp_path, torch.bfloat16)
    convert(source, tmp_path / "m", settings=SETTINGS)
    exact = verify(source, tmp_path / "m")
    assert exact.ok and exact.tolerance == 1e-4
    convert(tmp_path / "m", tmp_path / "n", settings=Settings(merge_lora=True))
    rounded = verify(source, tmp_path / "n")
    assert read_config(tmp_path / "n").dtype == "bfloat16"
    assert rounded.ok and rounded.stages[-1].difference > exact.stages[-1].difference


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["openpangu", "qwen2", "qwen2 tied", "qwen3", "llama"])
def test_decoders(whisper, tmp_path, kind):  # noqa: F811
    source = make_decoder(tmp_path / "hf", kind)
    convert(None, tmp_path / "m", encoder=whisper, decoder=source, settings=START)
    result = verify(source, tmp_path / "m")
    assert result.ok and [stage.name for stage in result.stages] == ["logits"], result.table()


@pytest.mark.slow
def test_stock_encoders_and_openpangu(whisper, pangu, tmp_path):  # noqa: F811
    source = openai_file(tmp_path / "tiny.pt", whisper)
    convert(None, tmp_path / "m", encoder=source, decoder=pangu, settings=START)
    for part, stage in ((source, "encoder"), (pangu, "logits")):
        result = verify(part, tmp_path / "m")
        assert result.ok and [s.name for s in result.stages] == [stage], result.table()
    convert(None, tmp_path / "n", encoder=whisper, decoder=pangu, settings=START)
    assert verify(whisper, tmp_path / "n").ok


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mindnlp") is None, reason="needs mindnlp (the mindnlp extra)")
def test_mindnlp_as_the_reference(tmp_path):
    source = published(tmp_path)
    convert(source, tmp_path / "m", settings=SETTINGS)
    result = verify(source, tmp_path / "m", by="mindnlp")
    assert result.ok and result.reference.startswith("mindnlp"), result.table()


def test_reference_that_cannot_run_is_one_line(tmp_path):
    source = published(tmp_path)
    convert(source, tmp_path / "m", settings=SETTINGS)
    shutil.copy(source, tmp_path / "cut.pt")
    with open(tmp_path / "cut.pt", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(UserError, match="cut.pt: the reference could not run") as caught:
        verify(tmp_path / "cut.pt", tmp_path / "m")
    assert "\n" not in str(caught.value)
