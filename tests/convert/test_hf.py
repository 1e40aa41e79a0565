"""Hugging Face folders and openai-whisper files made by their own libraries, in and out."""

import json
import shutil

import numpy as np
import pytest

from ckpt_convert.convert import convert
from ckpt_convert.settle import Settings
from mindspore_osum.errors import UserError
from mindspore_osum.folder import read_config
from mindspore_osum.models.llama.hugging_face import ATTENTION
from mindspore_osum.weights_io import open_weights
from tests.convert.common import save, torch

transformers = pytest.importorskip("transformers", reason="needs transformers to make Hugging Face folders")

WHISPER = dict(
    d_model=36,
    encoder_layers=2,
    encoder_attention_heads=3,
    encoder_ffn_dim=52,
    decoder_layers=1,
    decoder_attention_heads=3,
    decoder_ffn_dim=20,
    vocab_size=50,
    pad_token_id=0,
    max_source_positions=1500,
)
SIZES = dict(
    hidden_size=40,
    intermediate_size=56,
    num_hidden_layers=2,
    num_attention_heads=6,
    num_key_value_heads=2,
    head_dim=8,
    vocab_size=61,
    rope_theta=12345.0,
    max_position_embeddings=99,
    bos_token_id=1,
    eos_token_id=7,
    pad_token_id=0,
)
DECODERS = {
    "openpangu": ("LlamaConfig", SIZES | dict(attention_bias=True, rms_norm_eps=1e-5)),
    "llama": ("LlamaConfig", SIZES | dict(rms_norm_eps=1e-4)),
    "qwen2": ("Qwen2Config", SIZES | dict(hidden_size=48)),
    "qwen2 tied": ("Qwen2Config", SIZES | dict(hidden_size=48, tie_word_embeddings=True)),
    "qwen3": ("Qwen3Config", SIZES),
    "mistral": ("MistralConfig", SIZES | dict(sliding_window=None)),
}
START = Settings(overrides={"adapter": {"n_heads": 2}, "lora": {"rank": 3}, "speech_token_num": 7})


def randomise(model):
    """Give every parameter values of its own (biases start as zeros)."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    path = tmp_path_factory.mktemp("whisper")
    randomise(transformers.WhisperModel(transformers.WhisperConfig(**WHISPER))).save_pretrained(path)
    return path


def make_decoder(path, kind, **changes):
    name, values = DECODERS[kind]
    config = getattr(transformers, name)(**values | changes)
    model = randomise(transformers.AutoModelForCausalLM.from_config(config))
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def pangu(tmp_path_factory):
    """An openPangu folder: Llama with biases on q, k, v and o under its own model_type, without head_dim."""
    path = tmp_path_factory.mktemp("pangu")
    make_decoder(path, "openpangu", num_attention_heads=5, num_key_value_heads=1)
    values = json.loads((path / "config.json").read_text())
    values |= {"model_type": "PanguEmbedded", "bias": values.pop("attention_bias")}
    assert values.pop("head_dim") == 8
    (path / "config.json").write_text(json.dumps(values))
    return path


def same(weights, expected):
    """Every expected tensor is in `weights`, equal."""
    for name, tensor in expected.items():
        assert np.array_equal(weights.read(name), tensor.numpy()), name


@pytest.mark.parametrize("kind", DECODERS)
def test_decoder_in_and_out(whisper, tmp_path, kind):
    source = make_decoder(tmp_path / "hf", kind)
    report = convert(None, tmp_path / "m", encoder=whisper, decoder=source, settings=START)
    state = transformers.AutoModelForCausalLM.from_pretrained(source).state_dict()
    tied = kind == "qwen2 tied"
    if tied:
        state.pop("lm_head.weight")
    with open_weights(tmp_path / "m") as weights:
        same(weights, {f"decoder.{key}": value for key, value in state.items()})
    cfg = read_config(tmp_path / "m").decoder
    assert (cfg.rope_theta, cfg.head_dim, cfg.eos_id, cfg.max_positions) == (12345.0, 8, 7, 99)
    assert (cfg.qkv_bias, cfg.o_bias) == (
        {"openpangu": (True, True), "qwen2": (True, False)}.get(kind.split()[0], (False, False))
    )
    assert cfg.qk_norm == (kind == "qwen3") and cfg.tie_embeddings == tied
    assert cfg.norm_eps == DECODERS[kind][1].get("rms_norm_eps", 1e-6)
    assert not report.missing and not report.unexpected

    convert(tmp_path / "m", tmp_path / "merged", settings=Settings(merge_lora=True))  # LoRA starts as nothing
    convert(tmp_path / "merged", tmp_path / "back", form="hf_decoder")
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "back")
    ids = torch.arange(12)[None]
    with torch.no_grad():
        expected = transformers.AutoModelForCausalLM.from_pretrained(source)(ids).logits
        assert torch.equal(back(ids).logits, expected)


def test_a_backbone_of_llama_s_shape_is_one_row(whisper, tmp_path, monkeypatch):
    """docs/MODELS.md: another model_type, with biases on q, k and v, scores as transformers' model."""
    from mindspore import Tensor

    from mindspore_osum.folder import load_folder

    source = make_decoder(tmp_path / "hf", "qwen2")
    values = json.loads((source / "config.json").read_text()) | {"model_type": "invented"}
    config, changed = (source / "config.json").read_text(), json.dumps(values)
    (source / "config.json").write_text(changed)
    with pytest.raises(UserError, match="model_type 'invented' is not supported; known: .*qwen3"):
        convert(None, tmp_path / "m", encoder=whisper, decoder=source, settings=START)
    monkeypatch.setitem(ATTENTION, "invented", (True, False, False))
    convert(None, tmp_path / "m", encoder=whisper, decoder=source, settings=START)
    (source / "config.json").write_text(config)
    decoder = load_folder(tmp_path / "m").decoder
    ids = np.arange(12, dtype=np.int32)[None]
    later = Tensor(np.triu(np.ones((1, 1, 12, 12), bool), 1))
    hidden_BLD = decoder(decoder.embed(Tensor(ids)), Tensor(ids), later)
    with torch.no_grad():
        expected = transformers.AutoModelForCausalLM.from_pretrained(source)(torch.tensor(ids).long()).logits
    difference = np.abs(decoder.logits(hidden_BLD).asnumpy() - expected.numpy()).max()
    assert difference < 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize("model", ["WhisperModel", "WhisperForConditionalGeneration"])
def test_whisper_in_and_out(tmp_path, model):
    config = transformers.WhisperConfig(**WHISPER)
    made = randomise(getattr(transformers, model)(config)).eval()
    made.save_pretrained(tmp_path / "hf")
    decoder = make_decoder(tmp_path / "dec", "llama")
    report = convert(None, tmp_path / "m", encoder=tmp_path / "hf", decoder=decoder, settings=START)
    cfg = read_config(tmp_path / "m").encoder
    assert (cfg.d_model, cfg.n_layers, cfg.n_heads, cfg.d_ff, cfg.n_mels) == (36, 2, 3, 52, 80)
    assert cfg.pad_to_seconds == 30.0  # what a stock Whisper wants
    assert any("text decoder" in why for why in report.ignored.values())
    state = made.get_encoder().state_dict()
    with open_weights(tmp_path / "m") as weights:
        pairs = {
            "conv1.weight": "embed.conv.0.weight",
            "conv2.bias": "embed.conv.2.bias",
            "layers.1.self_attn.q_proj.weight": "encoders.1.self_attn.linear_q.weight",
            "layers.1.self_attn.k_proj.weight": "encoders.1.self_attn.linear_k.weight",
            "layers.1.self_attn.v_proj.bias": "encoders.1.self_attn.linear_v.bias",
            "layers.0.self_attn.out_proj.bias": "encoders.0.self_attn.linear_out.bias",
            "layers.0.self_attn_layer_norm.weight": "encoders.0.norm1.weight",
            "layers.0.final_layer_norm.bias": "encoders.0.norm2.bias",
            "layers.0.fc1.bias": "encoders.0.feed_forward.w_1.bias",
            "layers.0.fc2.weight": "encoders.0.feed_forward.w_2.weight",
            "layer_norm.weight": "after_norm.weight",
        }
        same(weights, {f"encoder.{ours}": state[theirs] for theirs, ours in pairs.items()})

    convert(tmp_path / "m", tmp_path / "back", form="hf_whisper")
    back = transformers.WhisperModel.from_pretrained(tmp_path / "back").get_encoder().eval()
    mel = torch.randn(1, 80, 3000)
    with torch.no_grad():
        difference = (back(mel).last_hidden_state - made.get_encoder()(mel).last_hidden_state).abs().max()
    assert float(difference) < 1e-4  # its positions are computed


OPENAI = {
    "conv1": "conv1",
    "conv2": "conv2",
    "ln_post": "layer_norm",
    "attn.query": "self_attn.q_proj",
    "attn.key": "self_attn.k_proj",
    "attn.value": "self_attn.v_proj",
    "attn.out": "self_attn.out_proj",
    "attn_ln": "self_attn_layer_norm",
    "mlp.0": "fc1",
    "mlp.2": "fc2",
    "mlp_ln": "final_layer_norm",
}


def openai_file(path, whisper):
    """A file as openai-whisper saves it, in half precision, with the values of a Hugging Face folder."""
    state = transformers.WhisperModel.from_pretrained(whisper).get_encoder().state_dict()
    made = {"encoder.positional_embedding": state["embed_positions.weight"]}
    for ours, theirs in OPENAI.items():
        inside = ours.startswith(("attn", "mlp"))
        for i in range(2 if inside else 1):
            for parameter in ("weight", "bias"):
                key = f"layers.{i}.{theirs}.{parameter}" if inside else f"{theirs}.{parameter}"
                if key in state:
                    made[
                        f"encoder.blocks.{i}.{ours}.{parameter}" if inside else f"encoder.{ours}.{parameter}"
                    ] = state[key]
    assert len(made) == len(state)
    made["decoder.token_embedding.weight"] = torch.ones(5, 36)
    dims = dict(
        n_mels=80,
        n_audio_ctx=1500,
        n_audio_state=36,
        n_audio_head=3,
        n_audio_layer=2,
        n_vocab=5,
        n_text_ctx=4,
        n_text_state=36,
        n_text_head=3,
        n_text_layer=1,
    )
    return save({"dims": dims, "model_state_dict": {k: v.half() for k, v in made.items()}}, path)


def test_openai_whisper_equals_hugging_face(whisper, pangu, tmp_path):
    source = openai_file(tmp_path / "tiny.pt", whisper)
    convert(None, tmp_path / "a", encoder=source, decoder=pangu, settings=START)
    convert(None, tmp_path / "b", encoder=whisper, decoder=pangu, settings=START)
    assert read_config(tmp_path / "a").encoder == read_config(tmp_path / "b").encoder
    with open_weights(tmp_path / "a") as one, open_weights(tmp_path / "b") as two:
        names = [name for name in one.infos if name.startswith("encoder.")]
        assert len(names) == 4 + 2 * 15 + 2
        for name in names:
            assert one.infos[name].dtype == "F16"
            assert np.array_equal(one.read(name), two.read(name).astype(np.float16)), name
    convert(tmp_path / "a", tmp_path / "back.pt", form="openai_whisper")
    back, first = torch.load(tmp_path / "back.pt"), torch.load(source)["model_state_dict"]
    assert set(back) == set(first) - {"decoder.token_embedding.weight"}
    assert all(torch.equal(back[k], first[k]) for k in back if k != "encoder.positional_embedding")


def test_stock_parts_are_completed_reproducibly(whisper, pangu, tmp_path):
    report = convert(None, tmp_path / "a", encoder=whisper, decoder=pangu, settings=START)
    convert(None, tmp_path / "b", encoder=whisper, decoder=pangu, settings=START)
    other = Settings(overrides=START.overrides, seed=1)
    convert(None, tmp_path / "c", encoder=whisper, decoder=pangu, settings=other)
    first, second, third = ((tmp_path / x / "model.safetensors").read_bytes() for x in "abc")
    assert first == second != third
    assert {name.partition(".")[0] for name in report.initialised} == {
        "adapter",
        "speech_token_embed",
        "decoder",
    }
    assert all("lora_" in name for name in report.initialised if name.startswith("decoder."))
    with open_weights(tmp_path / "a") as weights:
        for name in report.initialised:
            values = weights.read(name)
            assert bool(values.any()) != ("lora_B" in name or name.endswith(".bias")), name


def test_parts_of_whole_models(whisper, pangu, tmp_path):
    convert(None, tmp_path / "a", encoder=whisper, decoder=pangu, settings=START)
    convert(tmp_path / "a", tmp_path / "a.pt")
    report = convert(None, tmp_path / "b", encoder=whisper, decoder=tmp_path / "a")
    assert not any(
        name.startswith("decoder.") for name in report.initialised
    )  # LoRA comes with a whole model
    assert any(key.startswith("decoder:") for key in report.ignored)
    assert read_config(tmp_path / "b").lora == read_config(tmp_path / "a").lora
    taken = Settings(overrides={"encoder": {"n_heads": 3}} | START.overrides)
    convert(None, tmp_path / "c", encoder=tmp_path / "a.pt", decoder=pangu, settings=taken)
    with open_weights(tmp_path / "a") as one, open_weights(tmp_path / "c") as two:
        assert all(np.array_equal(one.raw(n), two.raw(n)) for n in one.infos if n.startswith("encoder."))


def test_parts_given_as_what_they_are_not(whisper, pangu, tmp_path):
    openai = openai_file(tmp_path / "tiny.pt", whisper)
    for paths, option in (
        (dict(source=pangu), "--decoder"),
        (dict(encoder=pangu), "--decoder"),
        (dict(decoder=openai), "--encoder"),
    ):
        with pytest.raises(UserError, match=f"give it with {option}"):
            convert(**{"source": None} | paths, output=tmp_path / "m")
    with pytest.raises(UserError, match="do not say: decoder.eos_id .50 tokens"):  # a whole Whisper
        convert(whisper, tmp_path / "m")
    with pytest.raises(UserError, match="decoder.embed_positions.weight. is missing"):
        convert(openai, tmp_path / "m")


def test_one_part_alone_is_not_a_model(whisper, pangu, tmp_path):
    with pytest.raises(UserError, match=r"missing: encoder\.embed\.conv\.0\.weight"):
        convert(None, tmp_path / "m", decoder=pangu, settings=START)
    with pytest.raises(UserError, match="missing: decoder"):
        convert(None, tmp_path / "m", encoder=whisper, settings=START)


def test_openpangu_with_its_frequencies(pangu, whisper, tmp_path):
    """openPangu's files hold inv_freq in float32 for every layer; it must be that of rope_theta."""
    from safetensors.torch import load_file, save_file

    frequencies = 12345.0 ** -(torch.arange(0, 8, 2) / 8)
    for scale in (1.0, 1.5):
        folder = tmp_path / f"with{scale}"
        shutil.copytree(pangu, folder)
        state = load_file(folder / "model.safetensors")
        state |= {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": frequencies * scale for i in range(2)}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    report = convert(None, tmp_path / "m", encoder=whisper, decoder=tmp_path / "with1.0", settings=START)
    assert sum("inv_freq" in key for key in report.ignored) == 2
    with pytest.raises(UserError, match="2 unexpected: decoder:model.layers.0.self_attn.rotary_emb.inv_freq"):
        convert(None, tmp_path / "n", encoder=whisper, decoder=tmp_path / "with1.5", settings=START)


def test_sharded_and_torch_folders(whisper, tmp_path):
    config = transformers.LlamaConfig(**DECODERS["openpangu"][1])
    model = randomise(transformers.LlamaForCausalLM(config))
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="20KB")
    assert (tmp_path / "many" / "model.safetensors.index.json").exists()
    (tmp_path / "old").mkdir()
    shutil.copy(tmp_path / "one" / "config.json", tmp_path / "old")
    torch.save(model.state_dict(), tmp_path / "old" / "pytorch_model.bin")
    shutil.copytree(tmp_path / "old", tmp_path / "old many")
    names = [f"pytorch_model-0000{i}-of-00002.bin" for i in (1, 2)]
    (tmp_path / "old many" / "pytorch_model.bin").unlink()
    items, weight_map = list(model.state_dict().items()), {}
    for file, part in zip(names, (items[:9], items[9:]), strict=True):
        torch.save(dict(part), tmp_path / "old many" / file)
        weight_map |= {key: file for key, _ in part}
    index = tmp_path / "old many" / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    written = []
    for name in ("one", "many", "old", "old many"):
        convert(None, tmp_path / f"{name}.m", encoder=whisper, decoder=tmp_path / name, settings=START)
        written.append((tmp_path / f"{name}.m" / "model.safetensors").read_bytes())
    assert written[0] == written[1] == written[2] == written[3]
    weight_map["lm_head.weight"] = names[0]
    index.write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(UserError, match="'lm_head.weight' of .* is in only one of the index and the file"):
        convert(None, tmp_path / "n", encoder=whisper, decoder=tmp_path / "old many", settings=START)


def test_tied_decoder_that_stores_its_head_too(whisper, tmp_path):
    from safetensors.torch import load_file, save_file

    source = make_decoder(tmp_path / "hf", "qwen2 tied")
    state = load_file(source / "model.safetensors")
    head = state["model.embed_tokens.weight"].clone()
    save_file(state | {"lm_head.weight": head}, source / "model.safetensors", metadata={"format": "pt"})
    report = convert(None, tmp_path / "m", encoder=whisper, decoder=source, settings=START)
    assert report.ignored["decoder:lm_head.weight"] == "tied to embed_tokens"
    head[0, 0] += 1
    save_file(state | {"lm_head.weight": head}, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="1 unexpected: decoder:lm_head.weight"):
        convert(None, tmp_path / "n", encoder=whisper, decoder=source, settings=START)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"encoder": 1}', "[" * 100_000])
def test_damaged_config(pangu, tmp_path, text):
    shutil.copytree(pangu, tmp_path / "p")
    (tmp_path / "p" / "config.json").write_text(text)
    with pytest.raises(UserError) as caught:
        convert(None, tmp_path / "m", decoder=tmp_path / "p")
    assert "\n" not in str(caught.value)
