"""The decoder against Hugging Face's Llama, Qwen2 and Qwen3, LoRA merged or not, with and without cache.

Legend: B batch, L positions, S cache places, D width, V vocabulary, K key heads, E head size.
"""

from dataclasses import dataclass, replace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn

from mindspore_osum.models.layers import Linear
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig
from mindspore_osum.models.llama.network import Decoder
from mindspore_osum.models.ops import segment_causal_mask
from tests.models import reference
from tests.models.common import SAME, TOLERANCE, Weighted, compare_gradients, error, fill, gradients, load
from tests.models.reference import F, torch

SIZES = DecoderConfig(
    vocab_size=61, d_model=40, n_layers=2, n_heads=6, n_kv_heads=2, head_dim=8, d_ff=56, rope_theta=1.6e7
)
EVERY = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PLAIN = LoraConfig(rank=0)
KINDS = {
    "openpangu": (SIZES, LoraConfig(rank=3, alpha=5.0, dropout=0.0, targets=EVERY)),
    "qwen2": (replace(SIZES, n_heads=5, n_kv_heads=1, o_bias=False, rope_theta=1e6, norm_eps=1e-6), PLAIN),
    "qwen3": (
        replace(SIZES, qkv_bias=False, o_bias=False, qk_norm=True, tie_embeddings=True, norm_eps=1e-6),
        PLAIN,
    ),
    "yi": (replace(SIZES, n_kv_heads=6, qkv_bias=False, o_bias=False, rope_theta=1e4), PLAIN),
}
LENGTHS, LENGTH = [11, 7], 11
FIRST_POSITIONS = [0, 900]


class Scores(nn.Cell):
    """Token ids to sum(logits * weight), a scalar for gradients; hidden states and logits."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def construct(self, weight_BLV, ids_BL, positions_BL, segments_BL):
        hidden_BLD = self.decoder(self.decoder.embed(ids_BL), positions_BL, segment_causal_mask(segments_BL))
        logits_BLV = self.decoder.logits(hidden_BLD)
        return (logits_BLV * weight_BLV).sum(), hidden_BLD, logits_BLV


def inputs() -> tuple[np.ndarray, ...]:
    """Weights, ids, positions and segments of two sequences, the second shorter and starting late."""
    rng, place_L = np.random.default_rng(6), np.arange(LENGTH)
    weight_BLV = rng.standard_normal((2, LENGTH, SIZES.vocab_size), np.float32)
    ids_BL = rng.integers(0, SIZES.vocab_size, (2, LENGTH))
    positions_BL = np.stack([place_L + first for first in FIRST_POSITIONS])
    segments_BL = (place_L < np.array(LENGTHS)[:, None]).astype(int)
    weight_BLV[segments_BL == 0] = 0
    return weight_BLV, *(a.astype(np.int32) for a in (ids_BL, positions_BL, segments_BL))


@dataclass
class Decoded:
    """A decoder and what it gave for `inputs`."""

    cfg: DecoderConfig
    lora: LoraConfig
    cell: Decoder
    values: dict[str, np.ndarray]
    hidden_BLD: np.ndarray
    logits_BLV: np.ndarray
    grads: dict[str, np.ndarray]


def run(cfg: DecoderConfig, lora: LoraConfig) -> Decoded:
    """Outputs and gradients of one compiled graph."""
    cell = Decoder(cfg, lora)
    values = fill(cell, seed=7)
    (_, hidden_BLD, logits_BLV), grads = gradients(Scores(cell), *map(Tensor, inputs()))
    grads = {name.removeprefix("decoder."): grad for name, grad in grads.items()}
    return Decoded(cfg, lora, cell, values, hidden_BLD, logits_BLV, grads)


@pytest.fixture(scope="module")
def openpangu():
    return run(*KINDS["openpangu"])


@pytest.mark.parametrize("kind", list(KINDS))
def test_outputs_and_gradients_are_hugging_faces(kind, request):
    ours = request.getfixturevalue(kind) if kind == "openpangu" else run(*KINDS[kind])
    weights = reference.tensors(ours.values, grad=True)
    weight_BLV, ids_BL, *_ = inputs()
    loss = 0.0
    for b, (n, first) in enumerate(zip(LENGTHS, FIRST_POSITIONS)):
        x_LD = weights["model.embed_tokens.weight"][torch.tensor(ids_BL[b, :n]).long()]
        hidden_LD, logits_LV = reference.decoder(ours.cfg, ours.lora, weights, x_LD, first)
        assert error(ours.hidden_BLD[b, :n], hidden_LD.detach().numpy()) <= TOLERANCE
        assert error(ours.logits_BLV[b, :n], logits_LV.detach().numpy()) <= TOLERANCE
        loss = loss + (logits_LV * torch.tensor(weight_BLV[b, :n])).sum()
    loss.backward()
    compare_gradients(ours.grads, weights)


@pytest.mark.parametrize("kind", list(KINDS))
def test_has_the_parameters_of_its_kind(kind):
    cfg, lora = KINDS[kind]
    names = [name for name, _ in Decoder(cfg, lora).parameters_and_names()]
    biases = {name.split(".")[-2] for name in names if name.endswith("bias")}
    assert biases == {*["q_proj", "k_proj", "v_proj"] * cfg.qkv_bias, *["o_proj"] * cfg.o_bias}
    assert {name.split(".")[-3] for name in names if "lora_" in name} == (set(EVERY) if lora.rank else set())
    assert ("lm_head.weight" in names) == (not cfg.tie_embeddings)


def test_lora_only_beside_its_targets():
    names = [
        name for name, _ in Decoder(SIZES, LoraConfig(rank=2, targets=("k_proj",))).parameters_and_names()
    ]
    adapted = {name for name in names if "lora_" in name}
    layers = [f"model.layers.{i}.self_attn.k_proj" for i in range(SIZES.n_layers)]
    assert adapted == {f"{layer}.lora_{x}.weight" for layer in layers for x in "AB"}


def test_merged_lora_is_the_same(openpangu):
    plain = Decoder(openpangu.cfg, PLAIN)
    folded = reference.merged(reference.tensors(openpangu.values), openpangu.lora)
    load(plain, {name: value.numpy() for name, value in folded.items()})
    _, hidden_BLD, logits_BLV = (out.asnumpy() for out in Scores(plain)(*map(Tensor, inputs())))
    for b, n in enumerate(LENGTHS):
        assert error(hidden_BLD[b, :n], openpangu.hidden_BLD[b, :n]) <= SAME
        assert error(logits_BLV[b, :n], openpangu.logits_BLV[b, :n]) <= SAME


class Cached(nn.Cell):
    """Decoder with a static cache of S places: a prompt first, then a token at a time."""

    def __init__(self, decoder, cfg, batch, places):
        super().__init__()
        self.decoder, self.cache = decoder, decoder.new_cache(batch, places)
        # what earlier sequences left there must not matter
        left = np.full(self.cache.shape, 1e4, np.float32)
        self.caches = ms.ParameterTuple(
            [Parameter(Tensor(left), name=f"cache{i}", requires_grad=False) for i in range(2 * cfg.n_layers)]
        )

    def construct(self, ids_BL, positions_BL, place_BL):
        x_BLD, slots = self.decoder.embed(ids_BL), self.cache.slots(place_BL)
        mask = self.cache.seen(place_BL[:, 0]) if ids_BL.shape[1] == 1 else None
        return self.decoder.logits(self.decoder.cached(x_BLD, positions_BL, mask, self.caches, slots)[0])


def test_cache_is_full_recomputation(openpangu):
    cfg = openpangu.cfg
    batch, places, prompt = 2, 13, 4
    _, ids_BL, positions_BL, _ = inputs()
    cached = Cached(openpangu.cell, cfg, batch, places)
    place_BL = np.arange(places, dtype=np.int32)[None].repeat(batch, 0)
    got = []
    for here in [slice(0, prompt), *(slice(place, place + 1) for place in range(prompt, min(LENGTHS)))]:
        got.append(cached(*(Tensor(a[:, here].copy()) for a in (ids_BL, positions_BL, place_BL))))
    got = np.concatenate([out.asnumpy() for out in got], 1)
    assert error(got, openpangu.logits_BLV[:, : min(LENGTHS)]) <= SAME


def test_lora_is_pefts_formula():
    lora = LoraConfig(rank=4, alpha=6.0, dropout=0.0)
    cell = Linear(10, 14, True, ms.float32, lora)
    w = reference.tensors(fill(cell, seed=9), grad=True)
    rng = np.random.default_rng(10)
    x, weight = rng.standard_normal((2, 3, 10), np.float32), rng.standard_normal((2, 3, 14), np.float32)
    (_, y), grads = gradients(Weighted(cell), Tensor(weight), Tensor(x))
    low = F.linear(F.linear(torch.tensor(x), w["lora_A.weight"]), w["lora_B.weight"])
    want = F.linear(torch.tensor(x), w["weight"], w["bias"]) + low * (lora.alpha / lora.rank)
    assert error(y, want.detach().numpy()) <= SAME
    (want * torch.tensor(weight)).sum().backward()
    compare_gradients({name.removeprefix("f."): grad for name, grad in grads.items()}, w)


def test_lora_dropout_only_in_training():
    cell = Linear(10, 14, True, ms.float32, LoraConfig(rank=4, alpha=6.0, dropout=0.5))
    fill(cell, seed=9)
    x = Tensor(np.random.default_rng(10).standard_normal((5, 10), np.float32))
    cell.set_train(False)
    still = cell(x).asnumpy()
    assert np.array_equal(still, cell(x).asnumpy())
    cell.set_train(True)
    first, second = cell(x).asnumpy(), cell(x).asnumpy()
    assert error(first, still) > 0.01 and error(second, first) > 0.01
