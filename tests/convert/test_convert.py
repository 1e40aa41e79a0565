"""Published checkpoints to model folders and back: nothing lost, nothing silent, nothing half-written."""

import json
import os
import shutil

import numpy as np
import pytest

from ckpt_convert.convert import REPORT, convert
from ckpt_convert.report import ConversionError
from ckpt_convert.settle import Settings
from mindspore_osum.config import merge
from mindspore_osum.errors import UserError
from mindspore_osum.folder import read_config
from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.adapters.kinds import kinds
from mindspore_osum.systems.osum.system import SYSTEM
from mindspore_osum.weights_io import open_weights
from tests.convert.common import OVERRIDES, RANK, bits, published_state, same_states, save, torch

SETTINGS = Settings(preset="osum_pangu_7b", overrides=OVERRIDES)
LLM = "llama_model.base_model.model."


def settings(**changes):
    return Settings(**{"preset": "osum_pangu_7b", "overrides": OVERRIDES} | changes)


@pytest.fixture
def state():
    return published_state()


@pytest.fixture
def source(state, tmp_path):
    return save(state, tmp_path / "source.pt")


def load(path):
    return torch.load(path, weights_only=True)


def refused(message, *args, **kwargs):
    """The conversion ends in one line that has `message`, and leaves nothing new behind."""
    with pytest.raises(UserError) as caught:
        convert(*args, **kwargs)
    assert message in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


def test_golden_model_every_key_and_every_value(shared, tmp_path):
    golden = shared / "golden"
    described = json.loads((golden / "config.json").read_text())
    overrides = {
        "encoder": {"n_heads": described["encoder"]["attention_heads"]},
        "adapter": {"n_heads": described["adapter"]["speech_transformer"]["attention_heads"]},
        "decoder": {
            "n_heads": described["llm"]["num_attention_heads"],
            "eos_id": described["llm"]["eos_token_id"],
        },
    }
    report = convert(golden / "model.pt", tmp_path / "m", settings=settings(overrides=overrides))
    state = load(golden / "model.pt")
    assert len(report.mapped) + len(report.ignored) == len(state) == 201
    assert not report.missing and not report.unexpected and not report.wrong_shape and not report.initialised
    cfg, llm = read_config(tmp_path / "m"), described["llm"]
    assert (cfg.decoder.d_model, cfg.decoder.n_layers, cfg.decoder.head_dim) == (96, 3, llm["head_dim"])
    assert (cfg.decoder.n_kv_heads, cfg.decoder.rope_theta, cfg.lora.rank, cfg.lora.scale) == (
        2,
        1.6e7,
        64,
        0.5,
    )
    assert (cfg.speech_token_num, cfg.adapter.d_ff, cfg.encoder.d_ff, cfg.dtype) == (32, 160, 256, "float32")
    with open_weights(tmp_path / "m") as weights:
        assert set(weights.infos) == set(report.mapped.values())
        for key, name in report.mapped.items():
            assert np.array_equal(weights.read(name), state[key].numpy()), key
        embed = weights.read("decoder.model.embed_tokens.weight")
    assert np.array_equal(embed, state["embed_tokens.weight"].numpy())
    assert (tmp_path / "m" / "tokenizer.model").read_bytes() == (golden / "tokenizer.model").read_bytes()

    convert(tmp_path / "m", tmp_path / "back.pt", buffers=True)
    back = load(tmp_path / "back.pt")
    positions = [key for key in state if key.endswith(".pe")]
    for key in positions:
        assert back[key].shape == state[key].shape
        assert float((back.pop(key) - state.pop(key)).abs().max()) < 1e-4
    assert len(positions) == 2
    same_states(back, state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_round_trip_is_byte_identical(tmp_path, dtype, suffix):
    state = published_state(dtype)
    convert(save(state, tmp_path / "a.pt"), tmp_path / "m", settings=SETTINGS, shard_bytes=20_000)
    assert len(list((tmp_path / "m").glob("model-*.safetensors"))) > 3
    assert read_config(tmp_path / "m").dtype == str(dtype).removeprefix("torch.")
    convert(tmp_path / "m", tmp_path / f"b{suffix}")
    if suffix == ".pt":
        back = load(tmp_path / "b.pt")
    else:
        back = pytest.importorskip("safetensors.torch").load_file(tmp_path / "b.safetensors")
    same_states(back, state)
    # and what was written can be read again
    convert(tmp_path / f"b{suffix}", tmp_path / "n", settings=SETTINGS)
    with open_weights(tmp_path / "m") as first, open_weights(tmp_path / "n") as second:
        assert first.infos == second.infos
        assert all(np.array_equal(first.raw(name), second.raw(name)) for name in first.infos)


def test_lora_in_another_type_keeps_it(tmp_path):
    state = published_state(torch.bfloat16)
    state |= {key: value.float() for key, value in state.items() if ".lora_" in key}
    convert(save(state, tmp_path / "a.pt"), tmp_path / "m", settings=SETTINGS)
    assert read_config(tmp_path / "m").dtype == "bfloat16"
    convert(tmp_path / "m", tmp_path / "b.pt")
    same_states(load(tmp_path / "b.pt"), state)


SPELLINGS = {
    "module.": lambda key: f"module.{key}",
    "no base_layer": lambda key: key.replace(".base_layer.", "."),
    "no adapter name": lambda key: key.replace(".default.", "."),
    "compiled": lambda key: f"_orig_mod.{key}",
    "FSDP at some depth": lambda key: key.replace("layers.", "_fsdp_wrapped_module.layers.").replace(
        "encoders.1.", "encoders.1._checkpoint_wrapped_module."
    ),
    "DDP and compiled inside": lambda key: key.replace(".model.", ".model.module._orig_mod.", 1),
    "all three": lambda key: f"module.{key.replace('.base_layer.', '.').replace('.default.', '.')}",
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_spellings_give_the_same_folder(state, source, tmp_path, name):
    other = save({SPELLINGS[name](key): value for key, value in state.items()}, tmp_path / "other.pt")
    convert(source, tmp_path / "m", settings=SETTINGS)
    convert(other, tmp_path / "n", settings=SETTINGS)
    for file in ("model.safetensors", "extras.safetensors", "config.json"):
        assert (tmp_path / "m" / file).read_bytes() == (tmp_path / "n" / file).read_bytes()


def test_o_proj_bias_survives(state, source, tmp_path):
    key = f"{LLM}model.layers.1.self_attn.o_proj.base_layer.bias"
    convert(source, tmp_path / "m", settings=SETTINGS)
    with open_weights(tmp_path / "m") as weights:
        assert np.array_equal(
            weights.read("decoder.model.layers.1.self_attn.o_proj.bias"), state[key].numpy()
        )
    convert(tmp_path / "m", tmp_path / "merged", settings=Settings(merge_lora=True))
    convert(tmp_path / "merged", tmp_path / "hf", form="hf_decoder")
    with open_weights(tmp_path / "hf") as weights:
        assert np.array_equal(weights.read("model.layers.1.self_attn.o_proj.bias"), state[key].numpy())


def test_lost_o_proj_biases_are_missed(state, tmp_path):
    lost = save(
        {k: v for k, v in state.items() if not k.endswith("o_proj.base_layer.bias")}, tmp_path / "lost.pt"
    )
    error = refused(
        "2 missing: decoder.model.layers.0.self_attn.o_proj.bias", lost, tmp_path / "m", settings=SETTINGS
    )
    assert len(error.report.missing) == 2
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_merging_lora(tmp_path, dtype):
    state = published_state(dtype)
    report = convert(save(state, tmp_path / "a.pt"), tmp_path / "m", settings=settings(merge_lora=True))
    assert len(report.merged) == 2 * 6 and read_config(tmp_path / "m").lora.rank == 0
    with open_weights(tmp_path / "m") as weights:
        assert not any("lora_" in name for name in weights.infos)
        for name in report.merged:
            module = LLM + name.removeprefix("decoder.").removesuffix(".weight")
            w, a, b = (
                state[f"{module}.{part}.weight"].double()
                for part in ("base_layer", "lora_A.default", "lora_B.default")
            )
            expected = (w + 5.0 / RANK * b @ a).numpy()
            # numpy rounds float64 to float16 directly, torch by way of float32
            via = np.float16 if dtype == torch.float16 else np.float32
            rounded = torch.from_numpy(expected.astype(via)).to(dtype)
            assert np.array_equal(weights.raw(name), bits(rounded)), name
        up = weights.read("decoder.model.layers.0.mlp.up_proj.weight")
    assert np.array_equal(
        up, state[f"{LLM}model.layers.0.mlp.up_proj.weight"].float().numpy().astype(up.dtype)
    )
    convert(tmp_path / "m", tmp_path / "b.pt")
    assert set(load(tmp_path / "b.pt")) == set(published_state(lora=False))


Q0 = f"{LLM}model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    "dtype, value",
    [(torch.float32, float("nan")), (torch.bfloat16, -float("inf")), (torch.float16, float("inf"))],
    ids=str,
)
def test_numbers_that_are_none_are_refused_with_their_tensor(tmp_path, dtype, value):
    state = published_state(dtype)
    for key, merge_lora in ((f"{Q0}.base_layer.weight", False), (f"{Q0}.lora_B.default.weight", True)):
        bad = {**state, key: state[key].clone()}
        bad[key][1, 2] = value
        message = f"tensor {key}: number {bad[key].shape[1] + 3} of {bad[key].numel()} is {value}"
        given = settings(merge_lora=merge_lora)
        refused(message, save(bad, tmp_path / "a.pt"), tmp_path / "m", settings=given)
        assert not (tmp_path / "m").exists()


def test_merged_numbers_that_float16_cannot_hold_are_refused(tmp_path):
    state = published_state(torch.float16)
    for part in ("lora_A", "lora_B"):
        state[f"{Q0}.{part}.default.weight"].fill_(200.0)
    source = save(state, tmp_path / "a.pt")
    message = "base_layer.weight: with its adapters merged it reaches 2e+05, which F16 cannot hold"
    refused(message, source, tmp_path / "m", settings=settings(merge_lora=True))
    convert(source, tmp_path / "n", settings=SETTINGS)


def test_merging_large_matrices_in_blocks(monkeypatch, source, tmp_path):
    convert(source, tmp_path / "m", settings=settings(merge_lora=True))
    monkeypatch.setattr("ckpt_convert.merging._BLOCK", 100)
    convert(source, tmp_path / "n", settings=settings(merge_lora=True))
    with open_weights(tmp_path / "m") as one, open_weights(tmp_path / "n") as two:
        for name in one.infos:
            assert np.allclose(one.read(name), two.read(name), rtol=1e-6, atol=1e-7)


def test_checkpoint_without_lora(tmp_path):
    state = published_state(lora=False)
    report = convert(save(state, tmp_path / "a.pt"), tmp_path / "m", settings=SETTINGS)
    assert read_config(tmp_path / "m").lora.rank == 0
    assert "lora.rank 0 (preset 64)" in report.table()
    convert(tmp_path / "m", tmp_path / "b.pt")
    same_states(load(tmp_path / "b.pt"), state)
    refused("no LoRA", tmp_path / "m", tmp_path / "x", settings=Settings(merge_lora=True))


def test_extras_are_kept_and_not_part_of_the_model(state, source, tmp_path):
    convert(source, tmp_path / "m", settings=SETTINGS)
    with open_weights(tmp_path / "m" / "extras.safetensors") as extras:
        assert set(extras.infos) == {k for k in state if k.startswith(("ln_speech.", "speech_head."))}
    os.unlink(tmp_path / "m" / "extras.safetensors")
    convert(tmp_path / "m", tmp_path / "b.pt")
    assert set(state) - set(load(tmp_path / "b.pt")) == {
        k for k in state if k.startswith(("ln_speech.", "speech_head."))
    }


def test_extras_cannot_replace_weights(source, tmp_path):
    convert(source, tmp_path / "m", settings=SETTINGS)
    shutil.copy(tmp_path / "m" / "model.safetensors", tmp_path / "m" / "extras.safetensors")
    refused("not one of the tensors kept aside", tmp_path / "m", tmp_path / "b.pt")


@pytest.mark.parametrize("rows", [5, 5000])
def test_positions_are_checked(state, tmp_path, rows):
    # the published formulas in float64
    place, i = np.arange(rows, dtype=np.float64)[:, None], np.arange(18)
    whisper, plain = place * 10000.0 ** (-i / 17), place * 10000.0 ** (-2 * i / 36)
    tables = {
        "encoder.embed.pos_enc.pe": np.concatenate([np.sin(whisper), np.cos(whisper)], 1),
        "speech_transformer.embed.pos_enc.pe": np.stack([np.sin(plain), np.cos(plain)], -1).reshape(rows, 36),
    }
    state |= {key: torch.from_numpy(table.astype(np.float32))[None] for key, table in tables.items()}
    report = convert(save(state, tmp_path / "a.pt"), tmp_path / "m", settings=SETTINGS)
    assert set(tables) <= set(report.ignored)
    published = SYSTEM.forms(read_config(tmp_path / "m"))["published"]
    for key, table in tables.items():
        blocks = np.concatenate(list(published.blocks(published.other(key).computed, rows)))
        assert np.abs(blocks.reshape(rows, 36) - table).max() < 2e-3
        wrong = state | {key: state[key] + 0.05}
        error = refused("1 unexpected", save(wrong, tmp_path / "w.pt"), tmp_path / "x", settings=SETTINGS)
        assert "not those that this model's settings give" in error.report.unexpected[key]


def test_copies_are_checked(state, tmp_path):
    state["lm_head.weight"] = state["lm_head.weight"].clone()
    convert(save(state, tmp_path / "equal.pt"), tmp_path / "m", settings=SETTINGS)
    state["lm_head.weight"][3, 4] += 1e-3
    error = refused(
        "1 unexpected: lm_head.weight", save(state, tmp_path / "w.pt"), tmp_path / "x", settings=SETTINGS
    )
    assert "should be a copy" in error.report.unexpected["lm_head.weight"]


def test_missing_unexpected_and_wrong_shape(state, tmp_path):
    state["encoder.after_norm.weight"] = torch.ones(37)
    state["mystery.weight"] = torch.ones(2)
    del state[f"{LLM}model.norm.weight"]
    path = save(state, tmp_path / "a.pt")
    error = refused("--allow missing,unexpected,wrong-shape goes on", path, tmp_path / "m", settings=SETTINGS)
    assert isinstance(error, ConversionError)
    assert error.report.missing == ["decoder.model.norm.weight"]
    assert list(error.report.unexpected) == ["mystery.weight"]
    assert error.report.wrong_shape == {"encoder.after_norm.weight": "found (37,), expected (36,)"}
    for allowed in ("missing,unexpected", "missing,wrong-shape", "unexpected,wrong-shape"):
        refused("--allow", path, tmp_path / "m", settings=settings(allow=frozenset(allowed.split(","))))
    assert not (tmp_path / "m").exists()

    everything = settings(allow=frozenset(["missing", "unexpected", "wrong-shape"]))
    report = convert(path, tmp_path / "m", settings=everything)
    assert sorted(report.initialised) == ["decoder.model.norm.weight", "encoder.after_norm.weight"]
    for word in ("mystery.weight", "found (37,)", "decoder.model.norm.weight"):
        assert word in report.table()
    saved = json.loads((tmp_path / "m" / REPORT).read_text())
    assert saved["initialised"] == report.initialised and saved["mapped"] == report.mapped
    with open_weights(tmp_path / "m") as weights:
        assert np.array_equal(weights.read("encoder.after_norm.weight"), np.ones(36, np.float32))


def test_missing_layer_is_missed(state, tmp_path):
    state = {k: v for k, v in state.items() if "encoder.encoders.0." not in k or "feed_forward.w_1" in k}
    assert (
        len(
            refused(
                "missing", save(state, tmp_path / "a.pt"), tmp_path / "m", settings=SETTINGS
            ).report.missing
        )
        == 13
    )
    shorter = settings(overrides=merge(OVERRIDES, {"decoder": {"n_layers": 3}}))
    refused(
        "decoder.model.layers.2", save(published_state(), tmp_path / "b.pt"), tmp_path / "m", settings=shorter
    )


def test_integer_weights_are_refused(state, tmp_path):
    state[f"{LLM}model.layers.0.mlp.up_proj.weight"] = torch.ones(56, 40, dtype=torch.int8)
    refused("1 wrong-shape", save(state, tmp_path / "a.pt"), tmp_path / "m", settings=SETTINGS)


def test_two_keys_for_one_tensor(state, tmp_path):
    state["module.encoder.after_norm.bias"] = state["encoder.after_norm.bias"]
    refused("remove one", save(state, tmp_path / "a.pt"), tmp_path / "m", settings=SETTINGS)


def test_what_no_tensor_tells_is_asked_for_in_one_line(source, tmp_path):
    error = refused("its tensors do not say", source, tmp_path / "m")
    for need in ("encoder.n_heads", "adapter.n_heads", "decoder.n_heads", "lora.alpha", "rope_theta"):
        assert need in str(error)
    for part, key in (
        ("encoder", "n_heads"),
        ("adapter", "n_heads"),
        ("decoder", "n_heads"),
        ("lora", "alpha"),
    ):
        fewer = {name: dict(values) for name, values in OVERRIDES.items()}
        del fewer[part][key]
        assert (
            refused("tensors do not say", source, tmp_path / "m", settings=settings(overrides=fewer))
            is not None
        )
    refused("not osum_pangu_7b", source, tmp_path / "m", settings=Settings(overrides=OVERRIDES))


BAD_OVERRIDES = {
    "an unknown key": ({"decoder": {"nheads": 6}}, "did you mean 'n_heads'"),
    "text for a number": ({"decoder": {"n_heads": "six"}}, "expected int"),
    "a number for a section": ({"encoder": 3}, "expected a mapping"),
    "heads that do not divide": ({"decoder": {"n_heads": 7}}, "decoder.n_heads"),
    "no heads": ({"decoder": {"n_heads": 0}}, "decoder.n_heads"),
    "negative heads": ({"encoder": {"n_heads": -3}}, "must be positive"),
    "another width": ({"encoder": {"d_model": 48}}, "wrong-shape"),
}


@pytest.mark.parametrize("name", BAD_OVERRIDES)
def test_bad_overrides(source, tmp_path, name):
    values, message = BAD_OVERRIDES[name]
    refused(message, source, tmp_path / "m", settings=settings(overrides=merge(OVERRIDES, values)))
    assert not (tmp_path / "m").exists()


def test_configuration_from_a_file(source, tmp_path):
    convert(source, tmp_path / "m", settings=SETTINGS)
    config = tmp_path / "m" / "config.json"
    convert(source, tmp_path / "n", settings=Settings(config=str(config)))
    assert (tmp_path / "n" / "config.json").read_bytes() == config.read_bytes()
    longer = Settings(config=str(config), overrides={"encoder": {"n_layers": 3}})
    refused("15 missing", source, tmp_path / "x", settings=longer)
    (tmp_path / "bad.json").write_text("{")
    refused("not a JSON object", source, tmp_path / "x", settings=Settings(config=str(tmp_path / "bad.json")))
    (tmp_path / "bad.json").write_text("[]")
    refused(
        "expected an object", source, tmp_path / "x", settings=Settings(config=str(tmp_path / "bad.json"))
    )
    refused("cannot read", source, tmp_path / "x", settings=Settings(config=str(tmp_path / "gone.json")))


def test_wrong_places(source, tmp_path):
    convert(source, tmp_path / "m", settings=SETTINGS)
    refused("exists already", source, tmp_path / "m", settings=SETTINGS)
    refused("exists already", tmp_path / "m", source)
    refused("cannot write in", source, tmp_path / "m/config.json/x", settings=SETTINGS)
    refused("no such file", tmp_path / "gone.pt", tmp_path / "x")
    refused("no config.json", tmp_path, tmp_path / "x")
    refused("give one whole checkpoint", None, tmp_path / "x")
    refused("give one whole checkpoint", source, tmp_path / "x", encoder=source)
    refused("form 'hf' is unknown", source, tmp_path / "x", form="hf")
    refused("is a folder, not a .pt", source, tmp_path / "x.pt", form="folder")
    refused("is a file", tmp_path / "m", tmp_path / "x", form="published")
    refused("gone: cannot read it", source, tmp_path / "x", settings=SETTINGS, tokenizer=tmp_path / "gone")
    refused("no LoRA; add --merge-lora", tmp_path / "m", tmp_path / "x", form="hf_decoder")
    refused("--preset is for checkpoints without", tmp_path / "m", tmp_path / "x", settings=SETTINGS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m", "source.pt"]


def test_file_of_no_known_form(tmp_path):
    refused("of no known form", save({"a.weight": torch.ones(2)}, tmp_path / "a.pt"), tmp_path / "m")


def test_other_adapter_of_the_published_code_is_refused(state, tmp_path):
    state = {
        k: v
        for k, v in state.items()
        if not k.startswith(("down_sample_2", "speech_transformer", "speech_llama"))
    }
    state["down_sample_2.conv1d2.weight"] = torch.ones(4, 36, 5)
    state["down_sample_2.project.weight"] = torch.ones(40, 4)
    error = refused(
        "unexpected: down_sample_2", save(state, tmp_path / "a.pt"), tmp_path / "m", settings=SETTINGS
    )
    assert "adapter.proj.weight" in error.report.missing


@pytest.mark.parametrize("kind", [kind for kind in kinds() if kind != AdapterConfig().kind])
def test_only_the_released_adapter_has_a_published_form(source, tmp_path, kind):
    parts = settings(overrides=merge(OVERRIDES, {"adapter": {"kind": kind}}))
    convert(None, tmp_path / "m", encoder=source, decoder=source, settings=parts)
    refused("no name in the published form", tmp_path / "m", tmp_path / "b.pt")


def test_failure_while_writing_leaves_nothing(monkeypatch, source, tmp_path):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ckpt_convert.convert.write_config", full)
    refused("No space left", source, tmp_path / "m", settings=SETTINGS)
    monkeypatch.setattr("mindspore_osum.weights_io.WeightsWriter.write_raw", full)
    refused("No space left", source, tmp_path / "m", settings=SETTINGS)
    monkeypatch.setattr("ckpt_convert.torch_writer.TorchWriter.write_raw", full)
    refused("No space left", source, tmp_path / "b.pt", settings=SETTINGS)
    assert [p.name for p in tmp_path.iterdir()] == ["source.pt"]


def test_tokenizer_given_beside_or_absent(source, tmp_path):
    report = convert(source, tmp_path / "a", settings=SETTINGS)
    assert "no tokenizer was found" in report.table()
    beside, given = write_pieces(tmp_path / "tokenizer.model", 20), write_pieces(tmp_path / "other", 21)
    convert(source, tmp_path / "b", settings=SETTINGS)
    convert(source, tmp_path / "c", settings=SETTINGS, tokenizer=tmp_path / "other")
    assert [(tmp_path / f / "tokenizer.model").read_bytes() for f in "bc"] == [beside, given]


def test_what_is_no_tokenizer_of_the_model_is_refused(source, tmp_path):
    def wrong(message, pieces, **overrides):
        given = settings(overrides=merge(OVERRIDES, {"decoder": overrides}))
        refused(message, source, tmp_path / "m", settings=given, tokenizer=pieces)

    write_pieces(tmp_path / "small.model", 20)
    wrong("ends an answer, is none of the 20 pieces", tmp_path / "small.model", eos_id=20)
    wrong("ends an answer, is none of the 61 rows", None, eos_id=61)
    wrong("ends an answer, is none of the 61 rows", None, eos_id=-1)
    write_pieces(tmp_path / "large.model", 70)
    wrong("70 pieces, but the model has only 61", tmp_path / "large.model")
    wrong("no tokenizer in this folder", tmp_path)
    (tmp_path / "tokenizer.model").write_text("version https://git-lfs.github.com/spec/v1")
    for given in (tmp_path / "tokenizer.model", None):  # also where it lies beside the source
        wrong("not a SentencePiece model", given)


def write_pieces(path, count: int) -> bytes:
    """A SentencePiece model of so many pieces; its bytes."""
    from sentencepiece import sentencepiece_model_pb2 as pb

    model = pb.ModelProto()
    model.trainer_spec.model_type = 1
    for i in range(count):
        kind = 2 if i == 0 else 3 if i < 3 else 1
        model.pieces.add(piece=("<unk>", "<s>", "</s>")[i] if i < 3 else chr(0x4E00 + i), score=-i, type=kind)
    path.write_bytes(model.SerializeToString())
    return path.read_bytes()


def test_overrides_of_a_folder(source, tmp_path):
    convert(source, tmp_path / "m", settings=SETTINGS)
    convert(tmp_path / "m", tmp_path / "n", settings=Settings(overrides={"prompts": "compact"}))
    assert read_config(tmp_path / "n").prompts == "compact"
    assert (tmp_path / "n" / "model.safetensors").read_bytes() == (
        tmp_path / "m" / "model.safetensors"
    ).read_bytes()


def test_converted_folder_loads(source, tmp_path, state):
    from mindspore_osum.folder import load_folder

    convert(source, tmp_path / "m", settings=SETTINGS)
    params = dict(load_folder(tmp_path / "m").parameters_and_names())
    assert np.array_equal(params["adapter.proj.weight"].asnumpy(), state["speech_llama_proj.weight"].numpy())
