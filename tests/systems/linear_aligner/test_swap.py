"""`osum swap-llm`: encoder and aligner stay, the decoder is the other's; what does not fit is one line."""

import json
import shutil

import numpy as np
import pytest

from ckpt_convert.convert import convert
from ckpt_convert.settle import Settings
from mindspore_osum.cli import main
from mindspore_osum.folder import read_config, write_config
from mindspore_osum.systems.registry import preset
from mindspore_osum.weights_io import WeightsWriter, open_weights
from tests.systems.linear_aligner.common import converted
from tests.training.tones import write_tokenizer


@pytest.fixture(scope="module")
def folder(shared, tmp_path_factory):
    return converted(shared / "golden" / "linear_aligner", tmp_path_factory.mktemp("swap") / "model")


@pytest.fixture(scope="module")
def chat(folder, tmp_path_factory):
    """A Hugging Face folder of the same sizes with other weights, and another end token."""
    out = tmp_path_factory.mktemp("other") / "chat"
    convert(folder, out, form="hf_decoder", tokenizer=folder)
    changed(out, lambda values: values[::-1].copy())
    about = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps(about | {"eos_token_id": 7}))
    return out


def changed(path, change) -> None:
    """Rewrite the weights of a folder."""
    with open_weights(path) as weights:
        infos, values = dict(weights.infos), {name: change(weights.read(name)) for name in weights.infos}
    (path / "model.safetensors").unlink()
    with WeightsWriter(path, infos, {"format": "pt"}) as writer:
        for name, value in values.items():
            writer.write(name, value)


def arrays(path) -> dict[str, np.ndarray]:
    with open_weights(path) as weights:
        return {name: np.array(weights.read(name)) for name in weights.infos}


def test_the_decoder_is_the_other_s(folder, chat, tmp_path, capsys):
    assert main(["swap-llm", str(folder), "--decoder", str(chat), "-o", str(tmp_path / "new")]) == 0
    assert "the decoder given takes its place" in capsys.readouterr().out
    own, other, new = arrays(folder), arrays(chat), arrays(tmp_path / "new")
    assert new.keys() == own.keys()
    for name, value in new.items():
        want = other[name.removeprefix("decoder.")] if name.startswith("decoder.") else own[name]
        assert np.array_equal(value, want), name
    cfg = read_config(tmp_path / "new")
    assert cfg.decoder.eos_id == 7 and cfg.encoder == read_config(folder).encoder
    back = ["swap-llm", str(tmp_path / "new"), "--decoder", str(folder), "-o", str(tmp_path / "back")]
    assert main(back) == 0
    found = [(tmp_path / "back" / name).read_bytes() for name in ("config.json", "model.safetensors")]
    assert found == [(folder / name).read_bytes() for name in ("config.json", "model.safetensors")]


def test_lora_of_the_one_before_is_left_out(folder, chat, tmp_path, capsys):
    settings = Settings(overrides={"lora": {"rank": 2}}, allow=frozenset({"missing"}))
    convert(folder, tmp_path / "adapted", settings=settings)
    assert (
        main(["swap-llm", str(tmp_path / "adapted"), "--decoder", str(chat), "-o", str(tmp_path / "new")])
        == 0
    )
    assert "LoRA of rank 2 belonged to the other decoder and is left out" in capsys.readouterr().out
    assert not [name for name in arrays(tmp_path / "new") if "lora" in name]
    assert read_config(tmp_path / "new").lora.rank == 0


def wider(path):
    about = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(about | {"hidden_size": 60, "head_dim": 15}))


CASES = {
    "another width": (wider, r"its embeddings have 60 values, those that .* makes of speech 48"),
    "other tokens": (lambda path: write_tokenizer(path / "tokenizer.model"), "tokens are others than in"),
    "no tokenizer": (lambda path: (path / "tokenizer.model").unlink(), "no tokenizer beside it"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit(name, folder, chat, tmp_path, capsys):
    import re

    change, message = CASES[name]
    shutil.copytree(chat, tmp_path / "other")
    change(tmp_path / "other")
    asked = ["swap-llm", str(folder), "--decoder", str(tmp_path / "other"), "-o", str(tmp_path / "new")]
    assert main(asked) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(message, error) and not (tmp_path / "new").exists()


def test_a_checkpoint_is_converted_first(folder, chat, tmp_path, capsys):
    convert(folder, tmp_path / "whole.pt")
    assert (
        main(["swap-llm", str(tmp_path / "whole.pt"), "--decoder", str(chat), "-o", str(tmp_path / "new")])
        == 1
    )
    assert "not a model folder; convert it first" in capsys.readouterr().err


def test_a_whisper_has_no_llm_to_replace(tmp_path, capsys):
    (tmp_path / "whisper").mkdir()
    write_config(tmp_path / "whisper", preset("whisper_base"))
    asked = ["swap-llm", str(tmp_path / "whisper"), "--decoder", str(tmp_path / "any")]
    assert main([*asked, "-o", str(tmp_path / "new")]) == 1
    said = capsys.readouterr().err
    assert "the decoder of a whisper_asr model is no LLM" in said and said.count("\n") == 1
