"""FireRed's encoder against WeNet's and FireRedASR's own numbers and against our PyTorch reference.

golden.json was made by WeNet's `FireRedConformerEncoder` (wenet-e2e/wenet, 0154699) and by FireRedASR's
`ConformerEncoder` (FireRedTeam/FireRedASR, 834635e) with the same weights, which agree to 1e-6: modules as
built from the settings of WeNet's converter, width 24, 3 heads, 2 layers, kernel 5; every tensor filled by
`value` below from WeNet's name of it; recordings one by one; random features of 47, 9, 30 and 1 frames, drawn
in this order. It holds what the encoder gives for each ("outputs", 5 decimals), each tensor's shape and name
with FireRedASR ("shapes", of the first layer) and five rows of the table of positions ("positions").

Legend: B batch, T fbank frames, U encoder frames, F bins, D width.
"""

import zlib
from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.nn.utils import no_init_parameters

from mindspore_osum.ascend import graphs, rules
from mindspore_osum.models.firered.config import FireRedConfig
from mindspore_osum.models.firered.network import FireRedEncoder
from mindspore_osum.models.graph_nodes import nodes
from tests.models.common import SAME, TOLERANCE, Weighted, compare_gradients, error, fill, gradients, load
from tests.models.firered.test_keys import GOLDEN, SMALL
from tests.models.reference import tensors, torch

reference = pytest.importorskip("mindspore_osum.models.firered.reference")

LENGTHS = [47, 9, 30, 1]


def value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The random values of golden.json's weights."""
    draw = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, np.float32)
    if "cmvn" in name or len(shape) == 1 and name.endswith("weight"):
        return 1 + np.float32(0.3) * draw
    return draw * np.float32(np.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.3)


def batch(lengths, n_mels: int, seed: int):
    """Random features of these lengths, drawn one after the other, with large values behind the end."""
    rng = np.random.default_rng(seed)
    items = [rng.standard_normal((n, n_mels), np.float32) for n in lengths]
    x_BTF = np.full((len(items), max(lengths), n_mels), 1e4, np.float32)
    for x_TF, item in zip(x_BTF, items, strict=True):
        x_TF[: len(item)] = item
    return items, Tensor(x_BTF), Tensor(np.array(lengths, np.int32))


class Frames(nn.Cell):
    """The encoder's frames alone."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def construct(self, mel_BTF, mel_len_B):
        return self.encoder(mel_BTF, mel_len_B)[0]


@pytest.fixture(scope="module")
def small():
    """The encoder of golden.json and its weights."""
    cell = FireRedEncoder(SMALL, positions=20)
    weights = {name: value(name, p.shape) for name, p in cell.parameters_and_names()}
    load(cell, weights)
    return cell, weights


def test_batch_is_the_published_code_one_by_one(small):
    cell, weights = small
    items, x_BTF, len_B = batch(LENGTHS, SMALL.n_mels, 5)
    out_BUD, frames_B = (out.asnumpy() for out in cell(x_BTF, len_B))
    assert frames_B.tolist() == [12, 3, 8, 1] and out_BUD.shape == (4, 12, SMALL.d_model)
    for item, out_UD, n in zip(items, out_BUD, frames_B, strict=True):
        assert error(out_UD[:n], GOLDEN["outputs"][str(len(item))]) <= TOLERANCE
        want_UD = reference.encode(SMALL, tensors(weights), torch.tensor(item))
        assert error(out_UD[:n], want_UD.numpy()) <= SAME
        assert not out_UD[n:].any(), "beyond the end must be zero"


def test_padded_bucket_is_exact_length(small):
    cell, _ = small
    _, x_BTF, len_B = batch(LENGTHS, SMALL.n_mels, 5)
    whole, (exact, _) = cell(x_BTF, len_B)[0].asnumpy(), cell(x_BTF[2:3, :30], len_B[2:3])
    assert error(whole[2, :8], exact.asnumpy()[0]) <= SAME


def test_gradients_are_the_reference_s():
    cfg = FireRedConfig(n_mels=20, d_model=12, n_layers=1, n_heads=2, d_ff=28, conv_channels=3, kernel=7)
    cell = FireRedEncoder(cfg, positions=9)
    weights = tensors(fill(cell, seed=3), grad=True)
    items, x_BTF, len_B = batch([23, 14], cfg.n_mels, 6)
    weight_BUD = np.random.default_rng(7).standard_normal((2, 6, 12), np.float32)
    trained = {name for name, p in cell.parameters_and_names() if p.requires_grad}
    assert set(weights) - trained == {"global_cmvn.mean", "global_cmvn.istd"}
    (loss, _), grads = gradients(Weighted(Frames(cell)), Tensor(weight_BUD), x_BTF, len_B)
    want = sum(
        (
            reference.encode(cfg, weights, torch.tensor(item)) * torch.tensor(weight)[: -(-len(item) // 4)]
        ).sum()
        for item, weight in zip(items, weight_BUD, strict=True)
    )
    want.backward()
    assert abs(loss - want.item()) <= TOLERANCE * abs(want.item())
    got = {name.removeprefix("f.encoder."): grad for name, grad in grads.items()}
    compare_gradients({k: got[k] for k in trained}, {k: weights[k] for k in trained})


class Step(nn.Cell):
    """Gradients of a sum of the frames."""

    def __init__(self, encoder):
        super().__init__()
        self.net, self.weights = Frames(encoder), ms.ParameterTuple(encoder.trainable_params())
        self.grad = ops.GradOperation(get_by_list=True)

    def construct(self, mel_BTF, mel_len_B):
        return self.grad(self.net, self.weights)(mel_BTF, mel_len_B)


def test_training_on_ascend_keeps_to_the_rules():
    with graphs.on_ascend(), no_init_parameters():
        step = Step(FireRedEncoder(replace(FireRedConfig(), n_layers=1), ms.bfloat16, positions=40))
        found = nodes(step, Tensor(np.ones((2, 150, 80), np.float32)), Tensor([150, 77], ms.int32))
    assert {"Conv2D", "Conv2DBackpropFilter", "SiLU", "SiLUGrad", "SigmoidGrad"} <= {n.name for n in found}
    assert [str(line) for line in rules.check("step", found)] == []
