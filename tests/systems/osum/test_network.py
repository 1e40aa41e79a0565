"""The composite against PyTorch, and its independence of batch, padding, packing and execution mode.

Legend: N audio slots, B sequences, L positions, T mel frames, Z speech tokens a slot, D width, V vocabulary.
"""

from dataclasses import dataclass, replace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindspore_osum.systems.osum.network import OsumModel
from tests.models import reference
from tests.models.common import (
    SAME,
    SMALL,
    TOLERANCE,
    Parts,
    compare_gradients,
    error,
    fill,
    gradients,
    make_item,
    pack,
)
from tests.models.reference import torch

# frames, text before and after the speech
ITEMS = [make_item(SMALL, *sizes) for sizes in [(53, 4, 5, 20), (37, 3, 6, 21), (12, 5, 4, 22)]]
FRAMES, LENGTH = 56, 19  # of the padded bucket; more than the longest item has
ALONE = [[0], [1], [2]]


@dataclass
class Composite:
    """The model, its values, and what came out for all items in one padded batch."""

    parts: Parts
    values: dict[str, np.ndarray]
    loss: float
    z_NZD: np.ndarray
    len_N: list[int]
    x_BLD: np.ndarray
    logits_BLV: np.ndarray
    grads: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def composite():
    """Outputs and gradients of one compiled graph."""
    model = OsumModel(SMALL)
    values = fill(model, seed=12)
    parts = Parts(model)
    (loss, z, lengths, x, logits), grads = gradients(parts, *pack(ITEMS, ALONE, FRAMES, LENGTH))
    grads = {name.removeprefix("model."): grad for name, grad in grads.items()}
    return Composite(parts, values, float(loss), z, lengths.tolist(), x, logits, grads)


def run(parts: Parts, batch: list[Tensor]) -> list[np.ndarray]:
    return [out.asnumpy() for out in parts(*batch)]


def test_parts_are_torchs_one_by_one(composite):
    weights = reference.tensors(composite.values)
    assert composite.len_N == [-(-item.frames // 8) for item in ITEMS]
    for n, item in enumerate(ITEMS):
        z_ZD, x_LD, logits_LV = reference.logits(SMALL, weights, torch.tensor(item.mel_TF), item.ids)
        assert error(composite.z_NZD[n, : len(z_ZD)], z_ZD.detach().numpy()) <= TOLERANCE
        assert error(composite.x_BLD[n, : len(x_LD)], x_LD.detach().numpy()) <= TOLERANCE
        text = np.array(item.ids) >= 0
        exact = composite.values["decoder.model.embed_tokens.weight"][np.array(item.ids)[text]]
        assert np.array_equal(composite.x_BLD[n, : len(x_LD)][text], exact), "text embeddings are copied"
        assert error(composite.logits_BLV[n, : len(x_LD)], logits_LV.detach().numpy()) <= TOLERANCE


def test_loss_and_every_gradient_are_torchs(composite):
    weights = reference.tensors(composite.values, grad=True)
    loss = reference.loss(SMALL, weights, ITEMS)
    loss.backward()
    assert abs(composite.loss - loss.item()) <= TOLERANCE * loss.item()
    assert {name.split(".")[0] for name in weights} == {"encoder", "adapter", "decoder", "speech_token_embed"}
    compare_gradients(composite.grads, weights)


def test_padded_batch_is_exact_length_alone(composite):
    item = ITEMS[1]
    _, z, lengths, x, logits = run(composite.parts, pack([item], [[0]], item.frames, len(item.ids)))
    n = composite.len_N[1]
    assert lengths.tolist() == [n] and z.shape[1] == n
    assert error(composite.z_NZD[1, :n], z[0]) <= SAME
    assert error(composite.x_BLD[1, : len(item.ids)], x[0]) <= SAME
    assert error(composite.logits_BLV[1, : len(item.ids)], logits[0]) <= SAME


@pytest.fixture(scope="module")
def packed(composite):
    """Items 0 and 1 in the first sequence, item 2 in the second: the batch and what comes out."""
    batch = pack(ITEMS, [[0, 1], [2]], FRAMES, len(ITEMS[0].ids) + len(ITEMS[1].ids) + 3)
    return batch, run(composite.parts, batch)


def test_packed_is_unpacked(composite, packed):
    loss, z_NZD, _, _, logits_BLV = packed[1]
    assert abs(float(loss) - composite.loss) <= SAME * composite.loss
    assert error(z_NZD, composite.z_NZD) <= SAME
    first, second, third = (len(item.ids) for item in ITEMS)
    assert error(logits_BLV[0, :first], composite.logits_BLV[0, :first]) <= SAME
    assert error(logits_BLV[0, first : first + second], composite.logits_BLV[1, :second]) <= SAME
    assert error(logits_BLV[1, :third], composite.logits_BLV[2, :third]) <= SAME


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_segments_do_not_see_each_other(composite, packed, changed):
    before_BLV, vocabulary = packed[1][-1], SMALL.decoder.vocab_size
    items = list(ITEMS)
    ids = [(i + 1) % vocabulary if i >= 0 else i for i in ITEMS[changed].ids]
    items[changed] = replace(ITEMS[changed], mel_TF=-ITEMS[changed].mel_TF, ids=ids)
    after_BLV = run(composite.parts, pack(items, [[0, 1], [2]], FRAMES, before_BLV.shape[1]))[-1]
    first, second, third = (len(item.ids) for item in ITEMS)
    places = [(0, slice(0, first)), (0, slice(first, first + second)), (1, slice(0, third))]
    for n, place in enumerate(places):
        # to the bit
        assert np.array_equal(before_BLV[place], after_BLV[place]) == (n != changed), f"segment of item {n}"


def test_a_position_does_not_see_later_ones(composite, packed):
    batch, outputs = packed
    before_BLV = outputs[-1]
    ids_BL = batch[2].asnumpy()
    ids_BL[0, -1 - 3] = (ids_BL[0, -1 - 3] + 1) % SMALL.decoder.vocab_size  # the last token of item 1
    after_BLV = run(composite.parts, [*batch[:2], Tensor(ids_BL), *batch[3:]])[-1]
    assert np.array_equal(before_BLV[0, :-4], after_BLV[0, :-4])
    assert not np.array_equal(before_BLV[0, -4], after_BLV[0, -4])


def test_pynative_is_graph(composite):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        loss, z, lengths, x, logits = run(composite.parts, pack(ITEMS, ALONE, FRAMES, LENGTH))
    finally:
        ms.set_context(mode=ms.GRAPH_MODE)
    assert abs(float(loss) - composite.loss) <= SAME * composite.loss
    assert lengths.tolist() == composite.len_N
    for got, want in ((z, composite.z_NZD), (x, composite.x_BLD), (logits, composite.logits_BLV)):
        assert error(got, want) <= SAME
