"""The published form: both directions, decorations, completeness against a published key list, the cells."""

import json
from dataclasses import replace

import pytest

from ckpt_convert.plan import adapted
from mindspore_osum.config import from_dict, merge
from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.adapters.kinds import kinds
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig
from mindspore_osum.models.whisper.config import EncoderConfig
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.osum.system import SYSTEM

FORMS = SYSTEM.forms()
PUBLISHED, HF_DECODER = FORMS["published"], FORMS["hf_decoder"]

SMALL = ModelConfig(
    encoder=EncoderConfig(d_model=36, n_layers=2, n_heads=3, d_ff=52),
    adapter=AdapterConfig(n_layers=1, n_heads=2, d_ff=44),
    decoder=DecoderConfig(
        vocab_size=61, d_model=40, n_layers=2, n_heads=6, n_kv_heads=2, head_dim=8, d_ff=56
    ),
    lora=LoraConfig(rank=3, alpha=5.0, dropout=0.0),
    speech_token_num=7,
)
VARIANTS = {
    "openpangu": SMALL,
    "merged": replace(SMALL, lora=LoraConfig(rank=0)),
    "every target": replace(
        SMALL,
        lora=LoraConfig(
            2, targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
        ),
    ),
    "qwen2": replace(SMALL, decoder=replace(SMALL.decoder, o_bias=False, tie_embeddings=True)),
    "qwen3": replace(SMALL, decoder=replace(SMALL.decoder, qkv_bias=False, o_bias=False, qk_norm=True)),
}


def test_every_golden_key_is_accounted_for_and_comes_back(shared):
    keys = json.loads((shared / "golden" / "model_keys.json").read_text())
    assert len(keys) == 201
    mapped = {key: PUBLISHED.ours(key) for key in keys if PUBLISHED.ours(key)}
    assert len(mapped) == len(set(mapped.values())) == 193
    others = {key: PUBLISHED.other(key).kind for key in keys if key not in mapped}
    assert sorted(others.values()) == ["aside"] * 4 + ["copy"] * 2 + ["derived"] * 2
    expected = SYSTEM.shapes(ModelConfig())
    for key, name in mapped.items():
        assert PUBLISHED.theirs(name, adapted(name, expected), peft=True) == key


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_rows_are_one_to_one(form):
    assert len({ours for ours, _ in form.rows}) == len({theirs for _, theirs in form.rows}) == len(form.rows)
    for ours, theirs in form.rows:
        for i in ("0", "7", "33"):
            name, key = ours.replace("{i}", i), theirs.replace("{i}", i)
            assert form.ours(key) == name and form.theirs(name) == key
            assert form.other(key) is None or form.other(key).pattern == "decoder.*"


@pytest.mark.parametrize("cfg", VARIANTS.values(), ids=VARIANTS)
def test_every_parameter_of_a_model_has_a_published_name(cfg):
    expected = SYSTEM.shapes(cfg)
    for name in expected:
        key = PUBLISHED.theirs(name, adapted(name, expected), peft=cfg.lora.rank > 0)
        assert key is not None and PUBLISHED.ours(key) == name
        if name.startswith("decoder.") and "lora_" not in name:
            assert HF_DECODER.theirs(name) == name.removeprefix("decoder.")


@pytest.mark.parametrize(
    "key, name",
    [
        (
            "llama_model.base_model.model.model.layers.3.self_attn.o_proj.base_layer.bias",
            "self_attn.o_proj.bias",
        ),
        ("llama_model.base_model.model.model.layers.3.self_attn.o_proj.bias", "self_attn.o_proj.bias"),
        ("llama_model.model.layers.3.self_attn.o_proj.bias", "self_attn.o_proj.bias"),
        (
            "module.llama_model.base_model.model.model.layers.3.self_attn.o_proj.base_layer.bias",
            "self_attn.o_proj.bias",
        ),
        ("llama_model.base_model.model.model.layers.3.mlp.up_proj.weight", "mlp.up_proj.weight"),
        (
            "llama_model.base_model.model.model.layers.3.mlp.down_proj.lora_A.default.weight",
            "mlp.down_proj.lora_A.weight",
        ),
        (
            "llama_model.base_model.model.model.layers.3.mlp.down_proj.lora_B.weight",
            "mlp.down_proj.lora_B.weight",
        ),
        (
            "module.llama_model.model.layers.3.mlp.down_proj.lora_B.other.weight",
            "mlp.down_proj.lora_B.weight",
        ),
    ],
)
def test_spellings_of_peft_and_data_parallel(key, name):
    assert PUBLISHED.ours(key) == f"decoder.model.layers.3.{name}"


SPELLED_OUT = {
    "encoder.embed.conv.2.weight": "encoder.embed.conv.2.weight",
    "encoder.encoders.5.self_attn.linear_q.weight": "encoder.encoders.5.self_attn.linear_q.weight",
    "encoder.encoders.5.self_attn.linear_k.weight": "encoder.encoders.5.self_attn.linear_k.weight",
    "encoder.encoders.5.self_attn.linear_v.bias": "encoder.encoders.5.self_attn.linear_v.bias",
    "encoder.encoders.5.self_attn.linear_out.bias": "encoder.encoders.5.self_attn.linear_out.bias",
    "encoder.encoders.5.feed_forward.w_1.bias": "encoder.encoders.5.feed_forward.w_1.bias",
    "encoder.encoders.5.feed_forward.w_2.bias": "encoder.encoders.5.feed_forward.w_2.bias",
    "encoder.encoders.5.norm1.bias": "encoder.encoders.5.norm1.bias",
    "encoder.encoders.5.norm2.bias": "encoder.encoders.5.norm2.bias",
    "down_sample_2.conv.1.weight": "adapter.conv.0.weight",
    "down_sample_2.conv.4.weight": "adapter.conv.1.weight",
    "down_sample_2.conv.7.bias": "adapter.conv.2.bias",
    "speech_transformer.embed.out.0.weight": "adapter.transformer.embed.0.weight",
    "speech_transformer.embed.out.1.bias": "adapter.transformer.embed.1.bias",
    "speech_transformer.encoders.3.self_attn.linear_k.bias": "adapter.transformer.encoders.3.self_attn.linear_k.bias",
    "speech_transformer.encoders.3.feed_forward.w_2.bias": "adapter.transformer.encoders.3.feed_forward.w_2.bias",
    "speech_transformer.encoders.3.norm2.bias": "adapter.transformer.encoders.3.norm2.bias",
    "speech_transformer.after_norm.weight": "adapter.transformer.after_norm.weight",
    "speech_llama_proj.bias": "adapter.proj.bias",
    "speech_token_emded.weight": "speech_token_embed.weight",
    "llama_model.base_model.model.model.embed_tokens.weight": "decoder.model.embed_tokens.weight",
    "llama_model.base_model.model.model.norm.weight": "decoder.model.norm.weight",
    "llama_model.base_model.model.lm_head.weight": "decoder.lm_head.weight",
    "llama_model.base_model.model.model.layers.9.mlp.gate_proj.base_layer.weight": "decoder.model.layers.9.mlp.gate_proj.weight",
    "llama_model.base_model.model.model.layers.9.mlp.up_proj.weight": "decoder.model.layers.9.mlp.up_proj.weight",
    "llama_model.base_model.model.model.layers.9.input_layernorm.weight": "decoder.model.layers.9.input_layernorm.weight",
    "llama_model.base_model.model.model.layers.9.self_attn.k_proj.lora_B.default.weight": "decoder.model.layers.9.self_attn.k_proj.lora_B.weight",
}


def test_published_names_spelled_out():
    expected = SYSTEM.shapes(ModelConfig())
    for key, name in SPELLED_OUT.items():
        assert PUBLISHED.ours(key) == name
        assert PUBLISHED.theirs(name, adapted(name, expected), peft=True) == key


@pytest.mark.parametrize(
    "key",
    [
        "encoder.encoders.00.norm1.weight",
        "encoder.encoders.x.norm1.weight",
        "encoder.norm1.weight",
        "encoder.encoders.0.self_attn.linear_k.bias",
        "xencoder.after_norm.weight",
        "encoder.after_norm.weight2",
        "llama_model.model.layers.99999.mlp.up_proj.weight",
        "down_sample_2.conv.2.weight",
    ],
)
def test_keys_that_are_nobodys(key):
    assert PUBLISHED.ours(key) is None and PUBLISHED.other(key) is None


@pytest.mark.parametrize("cfg", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("kind", kinds())
def test_shapes_are_those_of_the_cells(cfg, kind):
    cfg = replace(cfg, adapter=replace(cfg.adapter, kind=kind, conv_channels=5))
    assert SYSTEM.shapes(cfg) == of_cells(cfg)


@pytest.mark.parametrize("name", SYSTEM.presets)
def test_shapes_of_every_preset_are_those_of_its_cells(name):
    assert SYSTEM.shapes(SYSTEM.presets[name]) == of_cells(SYSTEM.presets[name])


def of_cells(cfg: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the real parameters, without allocating them."""
    from mindspore.nn.utils import no_init_parameters

    with no_init_parameters():
        return {name: tuple(p.shape) for name, p in SYSTEM.build(cfg).parameters_and_names()}


# what no tensor tells of SMALL and its variants
TOLD = {
    "encoder": {"n_heads": 3},
    "adapter": {"n_heads": 2},
    "decoder": {"n_heads": 6},
    "lora": {"alpha": 5.0, "dropout": 0.0},
}


@pytest.mark.parametrize("cfg", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("kind", kinds())
def test_sizes_are_read_back_from_the_shapes(cfg, kind):
    cfg = replace(cfg, adapter=replace(cfg.adapter, kind=kind))
    dec = cfg.decoder
    stated = {"qkv_bias": dec.qkv_bias, "o_bias": dec.o_bias, "qk_norm": dec.qk_norm}
    told = merge(TOLD, {"decoder": stated | {"tie_embeddings": dec.tie_embeddings}})
    read, needs = SYSTEM.infer(SYSTEM.shapes(cfg), ModelConfig(), told, "")
    found = from_dict(ModelConfig, merge(merge(ModelConfig().to_dict(), read), told), "shapes")
    lora = replace(found.lora, alpha=cfg.lora.alpha, dropout=cfg.lora.dropout, targets=cfg.lora.targets)
    assert set(found.lora.targets) == set(cfg.lora.targets) or not cfg.lora.rank
    assert not needs and replace(found, lora=lora) == cfg


@pytest.mark.parametrize("name", SYSTEM.presets)
def test_a_preset_is_told_by_its_own_shapes(name):
    cfg = SYSTEM.presets[name]
    read, needs = SYSTEM.infer(SYSTEM.shapes(cfg), cfg, {}, name)
    assert not needs and from_dict(ModelConfig, merge(cfg.to_dict(), read), name) == cfg
