"""TouchASU in and out: WEST's Trainer folder and JSON, its parts, and tables against cells."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ckpt_convert.convert import convert
from ckpt_convert.settle import Settings
from ckpt_convert.torch_reader import open_torch
from mindspore_osum.errors import UserError
from mindspore_osum.folder import read_config
from mindspore_osum.systems.registry import system_of
from mindspore_osum.weights_io import TensorInfo, WeightsWriter, open_weights

SYSTEM = system_of("touch_asu")


def same(one, other) -> None:
    """Every tensor of both is in the other, in the same type, shape and bytes."""
    assert one.infos == other.infos
    for name in one.infos:
        assert np.array_equal(one.raw(name), other.raw(name)), name


@pytest.mark.parametrize("name", SYSTEM.presets)
def test_tables_are_those_of_the_cells(name):
    from mindspore.nn.utils import no_init_parameters

    cfg = SYSTEM.presets[name]
    with no_init_parameters():
        cells = {name: tuple(param.shape) for name, param in SYSTEM.build(cfg).parameters_and_names()}
    assert SYSTEM.shapes(cfg) == cells


def test_trainer_folder_and_back(golden, folder, tmp_path):
    convert(folder, tmp_path / "back", form="published")
    with open_weights(golden / "checkpoint-1") as first, open_weights(tmp_path / "back") as back:
        same(first, back)
    for name in ("config.json", "generation_config.json"):
        first, back = (
            json.loads((p / name).read_text()) for p in (golden / "checkpoint-1", tmp_path / "back")
        )
        assert back == first, name
    assert (tmp_path / "back" / "tokenizer.json").is_file()
    with pytest.raises(UserError, match="do not say: encoder.n_heads .* decoder.n_heads "):
        convert(tmp_path / "back", tmp_path / "again")  # the LLM's folder is not beside this one
    told = {"n_heads": 4, "eos_id": 599, "max_positions": 1024}
    tiny = Settings(preset="touch_asu_tiny", overrides={"decoder": told, "encoder": {"n_heads": 2}})
    convert(tmp_path / "back", tmp_path / "again", settings=tiny)
    first, again = read_config(folder), read_config(tmp_path / "again")
    assert replace(again, decoder=replace(again.decoder, bos_id=597)) == first
    with open_weights(folder) as first, open_weights(tmp_path / "again") as again:
        same(first, again)


def test_json_and_parts(golden, folder, tmp_path):
    """The file that WEST's train.py takes, with the parts that it names."""
    config = Settings(config=str(golden / "touch_asu_config.json"))
    parts = {"encoder": golden / "wenet/final.pt", "decoder": golden / "llm"}
    convert(None, tmp_path / "start", **parts, settings=config)
    first, start = read_config(folder), read_config(tmp_path / "start")
    assert start == first
    with open_weights(folder) as whole, open_weights(tmp_path / "start") as joined:
        new = {name for name in whole.infos if name.startswith("adapter.") or ".lora_" in name}
        assert len(new) == 34
        for name in whole.infos.keys() - new:
            assert np.array_equal(whole.raw(name), joined.raw(name)), name


def test_the_encoder_alone(golden, folder, tmp_path):
    """Its positions are the stored ones, in every form."""
    convert(folder, tmp_path / "encoder.pt", form="wenet")
    with open_torch(tmp_path / "encoder.pt") as written, open_torch(golden / "wenet/final.pt") as whole:
        assert written.infos.keys() == {name for name in whole.infos if name.startswith("encoder.")}
        for name in written.infos:
            assert np.array_equal(written.raw(name), whole.raw(name)), name
    convert(folder, tmp_path / "hf", form="hf_whisper")
    with open_weights(tmp_path / "hf") as hugging_face, open_weights(folder) as ours:
        positions = hugging_face.read("encoder.embed_positions.weight")
        assert np.array_equal(positions, ours.read("encoder.embed_positions.weight"))
    parts = {"encoder": tmp_path / "hf", "decoder": golden / "llm"}
    told = {"encoder": {"n_heads": 2}, "adapter": {"d_hidden": 96}, "eos_ids": [599, 597]}
    tiny = Settings(preset="touch_asu_tiny", overrides=told | {"lora": {"rank": 32}})
    convert(None, tmp_path / "joined", **parts, settings=tiny)
    assert read_config(tmp_path / "joined").features.pad_to_seconds == 0  # Hugging Face's says 30


def test_older_trainer_folders(copied, tmp_path):
    """Until November 2025 the encoder's unused parts were saved too; without LoRA nothing is wrapped."""
    with open_weights(copied / "checkpoint-1") as weights:
        values = {name: weights.read(name) for name in weights.infos}
    more = {"encoder.decoder.embed.0.weight": np.zeros((2, 4), np.float32)}
    more |= {"encoder.ctc.ctc_lo.weight": np.zeros((2, 4), np.float32)}
    plain = {
        name.replace("base_model.model.", "").replace(".base_layer", ""): value
        for name, value in (values | more).items()
        if ".lora_" not in name
    }
    save(copied / "checkpoint-1", plain)
    described = json.loads((copied / "checkpoint-1/config.json").read_text())
    (copied / "checkpoint-1/config.json").write_text(json.dumps(described | {"lora_config": None}))
    report = convert(copied / "checkpoint-1", tmp_path / "model", tokenizer=copied / "llm")
    assert more.keys() <= report.ignored.keys() and read_config(tmp_path / "model").lora.rank == 0
    convert(tmp_path / "model", tmp_path / "back", form="published")
    with open_weights(tmp_path / "back") as back:
        assert back.infos.keys() == plain.keys() - more.keys()
    assert json.loads((tmp_path / "back/config.json").read_text())["lora_config"] is None


def save(folder, values: dict) -> None:
    """Write tensors as the folder's model.safetensors."""
    (folder / "model.safetensors").unlink()
    infos = {name: TensorInfo("F32", value.shape) for name, value in values.items()}
    with WeightsWriter(folder, infos, {"format": "pt"}) as writer:
        for name, value in values.items():
            writer.write(name, value)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"encoder_ds_rate": 4}, "encoder_ds_rate = '4' is not supported: the encoder 'wenet' has 2"),
        ({"lora_config": {"r": 32}}, "lora_config: key 'lora_alpha' is missing"),
        ({"encoder_projector_ds_rate": "4"}, "should be of type int"),
        ({"projector_hidden_size": 95}, "wrong-shape"),
        ({"llm_model_name_or_path": "nobody/has-this"}, "tensors do not say: decoder.n_heads"),
    ],
)
def test_what_is_refused(copied, tmp_path, change, message):
    path = copied / "checkpoint-1/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message) as caught:
        convert(copied / "checkpoint-1", tmp_path / "x", tokenizer=copied / "llm")
    assert "\n" not in str(caught.value) and not (tmp_path / "x").exists()


def test_a_json_whose_parts_are_not_there_is_refused(copied, tmp_path):
    path = copied / "touch_asu_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"wenet_model_name_or_path": "paraformer"}))
    with pytest.raises(UserError, match="wenet_model_name_or_path 'paraformer' is neither a folder"):
        convert(None, tmp_path / "x", decoder=copied / "llm", settings=Settings(config=str(path)))


def test_another_tokenizer_is_refused(golden, copied, tmp_path):
    path = copied / "llm/tokenizer.json"
    path.write_text(path.read_text("utf-8").replace("<|im_end|>", "<|xx_end|>"), "utf-8")
    for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        text = (copied / "llm" / name).read_text("utf-8").replace("<|im_end|>", "<|xx_end|>")
        (copied / "llm" / name).write_text(text, "utf-8")
    with pytest.raises(UserError, match=r"<\|im_end\|> is \[.*none of the model's eos_ids"):
        convert(golden / "checkpoint-1", tmp_path / "x", tokenizer=copied / "llm")
