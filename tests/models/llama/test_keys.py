"""The decoder's table against its cells, and what is read off tensors."""

import math
from dataclasses import replace

import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.models.llama import config, keys
from mindspore_osum.models.llama.config import PROJECTIONS, DecoderConfig, LoraConfig
from mindspore_osum.models.table import Table, shapes, stand_in

SMALL = DecoderConfig(vocab_size=61, d_model=40, n_layers=2, n_heads=6, n_kv_heads=2, head_dim=8, d_ff=56)
DECODERS = {
    "openpangu": SMALL,
    "openpangu 7b": DecoderConfig(),
    "llama": replace(SMALL, qkv_bias=False, o_bias=False),
    "qwen2": replace(SMALL, o_bias=False, tie_embeddings=True),
    "qwen3": replace(SMALL, qkv_bias=False, o_bias=False, qk_norm=True),
}
LORAS = {"released": LoraConfig(), "none": LoraConfig(0), "every target": LoraConfig(2, targets=PROJECTIONS)}


def shapes_of(cfg: DecoderConfig, lora: LoraConfig) -> dict:
    return shapes([Table("decoder", keys.ROWS, keys.values(cfg, lora))])


@pytest.mark.parametrize("lora", LORAS.values(), ids=LORAS)
@pytest.mark.parametrize("cfg", DECODERS.values(), ids=DECODERS)
def test_shapes_are_those_of_the_cells(cfg, lora):
    pytest.importorskip("mindspore")
    from mindspore.nn.utils import no_init_parameters

    from mindspore_osum.models.llama.network import Decoder

    with no_init_parameters():
        cells = {f"decoder.{n}": tuple(p.shape) for n, p in Decoder(cfg, lora).parameters_and_names()}
    assert shapes_of(cfg, lora) == cells


@pytest.mark.parametrize(
    "name, parameters",
    [("qwen2-0.5b", 494_032_768), ("qwen2-1.5b", 1_543_714_304), ("qwen2-7b", 7_615_616_512)],
)
def test_named_decoders_have_the_published_number_of_parameters(name, parameters):
    found = shapes_of(config.DECODERS[name], LoraConfig(0))
    assert sum(math.prod(shape) for shape in found.values()) == parameters


SIZES = ("vocab_size", "d_model", "n_layers", "d_ff", "n_heads", "n_kv_heads", "head_dim")


@pytest.mark.parametrize("cfg", DECODERS.values(), ids=DECODERS)
@pytest.mark.parametrize("told", ["n_heads", "n_kv_heads", "head_dim"])
def test_sizes_are_read_back(cfg, told):
    needs = []
    given = {told: vars(cfg)[told]}
    read = keys.infer(shapes_of(cfg, LoraConfig(0)), "decoder.", DecoderConfig(), given, needs)
    assert read == {key: vars(cfg)[key] for key in SIZES} and not needs


def test_heads_nobody_tells_are_asked_for():
    needs = []
    read = keys.infer(shapes_of(SMALL, LoraConfig(0)), "decoder.", DecoderConfig(), {}, needs)
    assert len(needs) == 1 and "decoder.n_heads (q_proj has 48 rows, k_proj 16" in needs[0]
    assert "n_heads" not in read and read["d_ff"] == 56
    assert keys.infer({}, "decoder.", DecoderConfig(), {}, needs) == {}


@pytest.mark.parametrize("rank", [2, 64])
def test_lora_is_read_back(rank):
    needs, lora = [], LoraConfig(rank, targets=("down_proj", "q_proj"))
    read = keys.infer_lora(shapes_of(SMALL, lora), LoraConfig(), {}, needs)
    assert read == {"rank": rank, "targets": ["q_proj", "down_proj"]}
    assert len(needs) == (rank != LoraConfig().rank)  # of another rank, alpha is not that of the preset


@pytest.mark.parametrize("name", ["layers.0.self_attn.q_proj", "layers.0.mlp.gate_proj"])
def test_a_lost_tensor_that_sizes_are_read_off_is_named(name):
    found = shapes_of(SMALL, LoraConfig(0))
    del found[f"decoder.model.{name}.weight"]
    with pytest.raises(UserError, match=f"tensor 'decoder.model.{name}.weight' is missing"):
        keys.infer(found, "decoder.", DecoderConfig(), {}, [])


def test_a_tied_head_has_a_stand_in():
    tables = [Table("decoder", keys.ROWS)]
    assert stand_in(tables, "decoder.lm_head.weight") == "decoder.model.embed_tokens.weight"
    assert stand_in(tables, "decoder.model.norm.weight") is None


def test_adapters_alone():
    peft = keys.PEFT.of([Table("decoder", keys.ROWS)])
    assert len(peft.rows) == 2 * len(PROJECTIONS)
    key = "base_model.model.model.layers.7.mlp.up_proj.lora_B.weight"
    assert peft.ours(key) == "decoder.model.layers.7.mlp.up_proj.lora_B.weight"
    assert peft.theirs(peft.ours(key), adapted=True, peft=True) == key
    assert peft.ours("base_model.model.model.layers.7.mlp.up_proj.weight") is None
