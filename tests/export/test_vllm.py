"""`osum export --format vllm`: merged weights under the names of vLLM's decoder, and back."""

import errno
import json
from dataclasses import replace

import numpy as np
import pytest

from ckpt_convert.convert import convert
from mindspore_osum.cli import main
from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED, read_config, replaced, write_config
from mindspore_osum.hub import model_folder
from mindspore_osum.systems.osum.vllm import describe
from mindspore_osum.systems.registry import preset, system_of
from mindspore_osum.weights_io import TensorInfo, WeightsWriter, open_weights
from tests.faults import at_call
from tests.inference.common import SMALL, small_folder

torch = pytest.importorskip("torch", reason="needs PyTorch, whose bfloat16 is the reference")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small model with LoRA and random weights."""
    return small_folder(tmp_path_factory.mktemp("model") / "small")


@pytest.fixture(scope="module")
def exported(folder):
    target = folder.parent / "exported"
    assert main(["export", "--model", str(folder), "--output", str(target), "--format", "vllm"]) == 0
    return target


def read(folder) -> dict[str, np.ndarray]:
    with open_weights(folder) as weights:
        return {name: weights.read(name) for name in weights.infos}


def test_weights_are_the_merged_ones_under_the_decoders_names(folder, exported):
    ours, theirs, lora = read(folder), read(exported), SMALL.lora
    expected = {}
    for name, value in ours.items():
        if ".lora_" in name:
            continue
        if f"{name.removesuffix('weight')}lora_A.weight" in ours:
            a, b = (ours[f"{name.removesuffix('weight')}lora_{x}.weight"].astype(np.float64) for x in "AB")
            assert np.abs(b @ a).max() > 0.1  # the adapters change the weight
            value = (value + lora.alpha / lora.rank * (b @ a)).astype(np.float32)
        expected[name.removeprefix("decoder.")] = value
    assert theirs.keys() == expected.keys()
    for name, value in expected.items():
        assert np.array_equal(theirs[name], value), name
    decoder = {name.split(".")[0] for name in expected} - {"encoder", "adapter", "speech_token_embed"}
    assert decoder == {"model", "lm_head"}


def test_the_description_is_what_vllm_reads(exported):
    values = json.loads((exported / "config.json").read_text())
    assert values["architectures"] == ["OsumForConditionalGeneration"]
    assert {key: values[key] for key in ("hidden_size", "head_dim", "vocab_size", "audio_token_id")} == {
        "hidden_size": 48,
        "head_dim": 12,
        "vocab_size": 512,
        "audio_token_id": 512,
    }
    assert values["qkv_bias"] and values["bias"] and not values["mlp_bias"]
    assert not values.keys() & {"decoder", "text_config", "generator"}  # see systems/osum/vllm.py
    assert json.loads((exported / "generation_config.json").read_text())["eos_token_id"] == 4
    assert (exported / "tokenizer.model").read_bytes() == (
        exported.parent / "small" / "tokenizer.model"
    ).read_bytes()


def test_an_exported_folder_is_read_again(folder, exported, tmp_path):
    convert(exported, tmp_path / "back")
    assert main(["merge-lora", str(folder), str(tmp_path / "merged")]) == 0
    back, merged = read_config(tmp_path / "back"), read_config(tmp_path / "merged")
    assert replace(back, lora=merged.lora) == merged and back.lora.rank == 0
    ours, theirs = read(tmp_path / "back"), read(tmp_path / "merged")
    assert ours.keys() == theirs.keys() and all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_every_verb_takes_an_exported_folder(exported, tmp_path, monkeypatch):
    monkeypatch.setenv("OSUM_CACHE", str(tmp_path / "cache"))
    folder = model_folder(exported)  # what every verb calls
    assert folder != exported and read_config(folder).lora.rank == 0
    with open_weights(folder) as ours, open_weights(exported) as theirs:
        name = "model.layers.0.self_attn.q_proj.weight"
        assert np.array_equal(ours.read(f"decoder.{name}"), theirs.read(name))


def test_a_model_without_lora_keeps_its_numbers(tmp_path):
    """The bundled model is stored in float16 and computes in float32."""
    assert main(["export", "--format", "vllm", "--output", str(tmp_path / "tiny")]) == 0
    with open_weights(BUNDLED) as ours, open_weights(tmp_path / "tiny") as theirs:
        assert len(ours.infos) == len(theirs.infos)
        for name, info in ours.infos.items():
            key = name.removeprefix("decoder.")
            assert theirs.infos[key] == TensorInfo("F32", info.shape)
            assert np.array_equal(ours.read(name), theirs.read(key))


def test_weights_are_rounded_to_the_type_that_vllm_computes_in(folder, exported, capsys, tmp_path):
    target = tmp_path / "half"
    words = ["export", "--model", str(folder), "--output", str(target), "--format", "vllm"]
    assert main([*words, "--dtype", "bfloat16"]) == 0
    assert json.loads((target / "config.json").read_text())["dtype"] == "bfloat16"
    with open_weights(target) as found, open_weights(exported) as merged:
        for name, info in found.infos.items():
            expected = torch.from_numpy(np.array(merged.read(name))).bfloat16().float().numpy()
            assert info.dtype == "BF16" and np.array_equal(found.read(name), expected), name
    large = tmp_path / "large"
    replaced(folder, large, {"adapter.proj.bias": np.full(48, 1e5, np.float32)})
    capsys.readouterr()
    message, output = "adapter.proj.bias in float16", str(tmp_path / "new")
    refused(capsys, tmp_path, message, "--model", str(large), "--output", output, "--dtype", "float16")


def test_tensors_that_the_model_does_not_use_stay_behind(folder, tmp_path):
    source = tmp_path / "with_extras"
    source.mkdir()
    for file in folder.iterdir():
        (source / file.name).symlink_to(file)
    with WeightsWriter(source / "extras.safetensors", {"ln_speech.weight": TensorInfo("F32", (32,))}) as file:
        file.write("ln_speech.weight", np.ones(32, np.float32))
    convert(source, tmp_path / "published.safetensors")
    assert "ln_speech.weight" in read(tmp_path / "published.safetensors")
    assert main(["export", "--model", str(source), "--output", str(tmp_path / "e"), "--format", "vllm"]) == 0
    assert not any(name.startswith("ln_speech") for name in read(tmp_path / "e"))


def refused(capsys, tmp_path, message: str, *words: str) -> None:
    """The command ends in one line and leaves nothing new behind."""
    before = sorted(tmp_path.rglob("*"))
    assert main(["export", "--format", "vllm", *words]) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1, err
    assert sorted(tmp_path.rglob("*")) == before


def test_output_that_is_there_is_refused(folder, capsys, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    message = "full: exists already; nothing is overwritten"
    refused(capsys, tmp_path, message, "--model", str(folder), "--output", str(tmp_path / "full"))


@pytest.mark.parametrize(
    "flag, value", [("--batch-size", "2"), ("--seconds", "3"), ("--max-new-tokens", "9")]
)
def test_settings_of_graphs_are_refused(flag, value, capsys, tmp_path):
    output = str(tmp_path / "new")
    refused(capsys, tmp_path, f"{flag} is of --format mindir", flag, value, "--output", output)


def test_graphs_are_not_of_bfloat16(capsys, tmp_path):
    assert main(["export", "--dtype", "bfloat16", "--output", str(tmp_path / "new")]) == 1
    assert "--dtype bfloat16 is of --format vllm" in capsys.readouterr().err


def test_models_of_other_shapes_are_refused(folder, capsys, tmp_path):
    small = read_config(folder)
    with pytest.raises(UserError, match="norms on q and k"):
        describe(replace(small, decoder=replace(small.decoder, qk_norm=True)))
    with pytest.raises(UserError, match="a file that the exported folder would not have"):
        describe(replace(small, prompts="mine.yaml"))
    other, cfg = tmp_path / "other", preset("touch_asu_tiny")
    other.mkdir()
    shapes = system_of(cfg.model_type).shapes(cfg)
    with WeightsWriter(other, {name: TensorInfo("F32", shape) for name, shape in shapes.items()}) as file:
        for name, shape in shapes.items():
            file.write(name, np.zeros(shape, np.float32))
    write_config(other, cfg)
    message, output = "a touch_asu model has no form 'vllm'", str(tmp_path / "new")
    refused(capsys, tmp_path, message, "--model", str(other), "--output", output)


def test_a_tokenizer_that_the_plugin_does_not_read_is_refused(folder, capsys, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        (bare / name).symlink_to(folder / name)
    message, output = "needs tokenizer.model as its tokenizer, not none", str(tmp_path / "new")
    refused(capsys, tmp_path, message, "--model", str(bare), "--output", output)


def test_a_full_disk_leaves_nothing(folder, capsys, tmp_path):
    def full():
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "new"))

    for number in (3, 9):
        with at_call(number, full, {"write", "truncate", "ftruncate"}) as seen:
            refused(
                capsys,
                tmp_path,
                "No space left on device",
                *("--model", str(folder), "--output", str(tmp_path / "new")),
            )
        assert seen["calls"] >= number
