"""Whisper in and out: openai-whisper's file, Hugging Face's folder, WeNet's names; tables against cells."""

import json
import shutil

import numpy as np
import pytest

from ckpt_convert.convert import convert
from ckpt_convert.settle import Settings
from ckpt_convert.torch_reader import open_torch
from mindspore_osum.errors import UserError
from mindspore_osum.folder import read_config
from mindspore_osum.systems.registry import preset, system_of
from mindspore_osum.weights_io import open_weights
from tests.systems.whisper_asr.common import write_tokenizer

SYSTEM = system_of("whisper_asr")


def same(one, other, names=None) -> None:
    """Every tensor of both is in the other, in the same type, shape and bytes."""
    assert one.infos == other.infos
    for name in one.infos:
        assert np.array_equal(one.raw(name), other.raw(name)), name


@pytest.mark.parametrize("name", ["whisper_tiny_en", "whisper_large_v3_turbo"])
def test_tables_are_those_of_the_cells(name):
    pytest.importorskip("mindspore")
    from mindspore.nn.utils import no_init_parameters

    cfg = preset(name)
    with no_init_parameters():
        cells = {name: tuple(param.shape) for name, param in SYSTEM.build(cfg).parameters_and_names()}
    assert SYSTEM.shapes(cfg) == cells


def test_openai_file_and_back(golden, folder, tmp_path):
    assert json.loads((folder / "config.json").read_text())["encoder"]["pad_to_seconds"] == 30
    convert(folder, tmp_path / "back.pt")
    with open_torch(golden / "tiny.pt") as first, open_torch(tmp_path / "back.pt") as back:
        same(first, back)
        assert first.extra == back.extra and back.extra["dims"]["n_vocab"] == 51865
    torch = pytest.importorskip("torch", reason="needs PyTorch to load the file")
    loaded = torch.load(tmp_path / "back.pt", weights_only=True)
    assert loaded["dims"] == first.extra["dims"] and len(loaded["model_state_dict"]) == len(first.infos)


def test_hugging_face_folder_and_back(golden, folder, tmp_path):
    source = tmp_path / "hf"
    shutil.copytree(golden / "hf", source)
    source.chmod(0o755)
    write_tokenizer(source)
    convert(source, tmp_path / "m")
    with open_weights(tmp_path / "m") as ours, open_weights(folder) as openai:
        same(ours, openai)
    cfg = read_config(tmp_path / "m")
    assert cfg.vocabulary.eot == 50257  # its config.json says 50256, which transformers does not use
    assert cfg.suppressed is None and cfg.alignment_heads == ((1, 0), (1, 1))
    convert(tmp_path / "m", tmp_path / "back", form="hf_whisper", shard_bytes=300_000)
    with open_weights(source) as first, open_weights(tmp_path / "back") as back:
        same(first, back)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()
    told, first = (
        json.loads((p / "generation_config.json").read_text()) for p in (tmp_path / "back", source)
    )
    assert {key: told[key] for key in first} == first
    convert(tmp_path / "back", tmp_path / "again")  # from shards
    assert read_config(tmp_path / "again") == cfg


def test_wenet_names_and_back(folder, tmp_path):
    convert(folder, tmp_path / "wenet.pt", form="wenet")
    with open_torch(tmp_path / "wenet.pt") as wenet:
        assert wenet.infos["decoder.embed.1.pe"].shape == (1, 448, 16)
        assert wenet.infos["encoder.embed.pos_enc.pe"].shape == (1, 1500, 16)
        assert "decoder.decoders.1.src_attn.linear_k.weight" in wenet.infos
    heads = Settings(overrides={"encoder": {"n_heads": 2}, "decoder": {"n_heads": 2}})
    convert(tmp_path / "wenet.pt", tmp_path / "m", settings=heads)  # no --preset: its keys say what it is
    with open_weights(tmp_path / "m") as back, open_weights(folder) as first:
        same(back, first)
    assert read_config(tmp_path / "m") == read_config(folder)


def test_what_is_refused(golden, folder, tmp_path):
    def refused(message, source, **how):
        with pytest.raises(UserError, match=message) as caught:
            convert(source, tmp_path / "x", **how)
        assert "\n" not in str(caught.value) and not (tmp_path / "x").exists()

    source = tmp_path / "hf"
    shutil.copytree(golden / "hf", source)
    source.chmod(0o755)
    (source / "config.json").chmod(0o644)
    values = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(values | {"decoder_layers": 3}))
    refused("missing", source)
    (source / "config.json").write_text(json.dumps(values | {"d_model": 32}))
    refused("wrong-shape", source)
    (source / "config.json").write_text(json.dumps(values))
    write_tokenizer(source)
    pieces = json.loads((source / "tokenizer.json").read_text())
    pieces["added_tokens"][0]["id"] = 50256  # that of the English vocabulary
    pieces["model"]["vocab"].popitem()
    (source / "tokenizer.json").write_text(json.dumps(pieces))
    refused("does not belong to this model", source)
    refused("give it with --encoder", None, decoder=folder)
