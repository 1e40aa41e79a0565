"""Model folders: what is written is read back, in any type, and nothing else is taken for it."""

import json
import shutil

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.folder import load_folder, read_config, save_folder
from mindspore_osum.weights_io import TensorInfo, WeightsWriter, open_weights

NORM = "decoder.model.norm.weight"


def values_of(model) -> dict[str, np.ndarray]:
    return {name: param.asnumpy() for name, param in model.parameters_and_names()}


@pytest.fixture
def changed(model_folder, tmp_path):
    """changed(f) -> a copy of the model folder whose tensors {name: array} went through `f`, in place."""

    def make(change, dtype="F32"):
        target = tmp_path / "changed"
        shutil.copytree(model_folder, target)
        with open_weights(model_folder) as weights:
            values = {name: weights.read(name) for name in weights.infos}
        change(values)
        with WeightsWriter(target, {n: TensorInfo(dtype, v.shape) for n, v in values.items()}) as writer:
            for name, value in values.items():
                writer.write(name, value)
        return target

    return make


def test_round_trip(model, model_folder):
    loaded = load_folder(model_folder)
    assert loaded.cfg == model.cfg == read_config(model_folder)
    written, read = values_of(model), values_of(loaded)
    assert written.keys() == read.keys()
    assert all((written[name] == read[name]).all() for name in written)
    assert sorted(p.name for p in model_folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.model",
    ]


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F64"])
def test_other_types_on_disk(model, changed, dtype):
    """float32 in memory, rounded once to the type on disk."""
    folder = changed(lambda values: None, dtype)
    assert {info.dtype for info in open_weights(folder).infos.values()} == {dtype}
    read, exact = values_of(load_folder(folder)), values_of(model)
    bits = {"F16": 11, "BF16": 8, "F64": 24}[dtype]
    for name, value in read.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, exact[name], rtol=2.0**-bits, atol=2.0**-24)
    assert (read[NORM] == exact[NORM]).all() == (dtype == "F64")


def test_half_precision_in_memory(model, model_folder, tmp_path):
    """Computing in bfloat16, and writing such a model: the type of config.json is the type on disk."""
    half = load_folder(model_folder, "bfloat16")
    assert str(half.decoder.model.norm.weight.dtype) == "BFloat16"
    save_folder(tmp_path / "half", half, model_folder / "tokenizer.model")
    assert read_config(tmp_path / "half").dtype == "bfloat16"
    assert open_weights(tmp_path / "half").infos[NORM].dtype == "BF16"
    back = load_folder(tmp_path / "half", "float32")
    np.testing.assert_allclose(values_of(back)[NORM], values_of(model)[NORM], rtol=2.0**-8)


def test_saving_over_a_model_replaces_it(model, model_folder, tmp_path):
    """Also where the tokenizer to copy is the one that is already there; and leaves no other file."""
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    (folder / "model.safetensors").write_bytes(b"old")
    save_folder(folder, model, folder / "tokenizer.model")
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in model_folder.iterdir())
    for path in folder.iterdir():
        assert path.read_bytes() == (model_folder / path.name).read_bytes()


def test_interrupted_saving_leaves_the_old_model(model, model_folder, tmp_path, monkeypatch):
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fails(self, name, values):
        raise KeyboardInterrupt

    monkeypatch.setattr(WeightsWriter, "write", fails)
    with pytest.raises(KeyboardInterrupt):
        save_folder(folder, model, model_folder / "tokenizer.model")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda v: v.pop(NORM), f"1 missing: {NORM}"),
        (lambda v: v.update(extra=np.zeros(3)), "1 not in this model: extra"),
        (lambda v: v.update({NORM: v[NORM][:-1]}), rf"1 of another shape: {NORM} \[47\] instead of \[48\]"),
        (lambda v: v[NORM].__setitem__(3, np.nan), f"tensor {NORM}: number 4 of 48 is nan"),
        (lambda v: [v.pop(n) for n in list(v) if n.startswith("encoder")], r"missing: encoder.*, \.\.\."),
    ],
)
def test_wrong_tensors_are_named(changed, change, message):
    with pytest.raises(UserError, match=message) as caught:
        load_folder(changed(change))
    assert "\n" not in str(caught.value)


def test_whole_numbers_are_no_weights(changed):
    with pytest.raises(UserError, match="of a type for whole numbers"):
        load_folder(changed(lambda values: None, "I32"))


def test_numbers_beyond_float16_are_named(changed):
    folder = changed(lambda v: v[NORM].__setitem__(3, 1e5))
    assert values_of(load_folder(folder))[NORM][3] == 1e5
    with pytest.raises(UserError, match=f"tensor {NORM} in float16: number 4 of 48 is inf"):
        load_folder(folder, "float16")


def test_no_model_folder(model_folder, tmp_path):
    with pytest.raises(UserError, match="no such model folder"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no config.json"):
        load_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(UserError, match="a Hugging Face folder"):
        load_folder(tmp_path)
    shutil.copy(model_folder / "config.json", tmp_path)
    with pytest.raises(UserError, match="no model.safetensors"):
        load_folder(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x02" * 40)
    with pytest.raises(UserError, match="not a valid safetensors file"):
        load_folder(tmp_path)
