"""Every kind of adapter against PyTorch, and their independence of padding.

Legend: B batch, U encoder frames, Z speech tokens, D encoder width.
"""

from dataclasses import dataclass

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.adapters.kinds import kinds, module_of
from mindspore_osum.models.positions import interleaved_sinusoids
from tests.models import reference
from tests.models.common import SAME, TOLERANCE, compare_gradients, error, fill, gradients
from tests.models.reference import torch

D_IN, D_OUT = 38, 26  # 38 is halved to 19 and 10: the 2-D form meets an odd width
FRAMES, LENGTHS = 23, [23, 22, 13, 5, 1]


class Loss(nn.Cell):
    """sum(tokens * weight), a scalar for gradients; tokens and lengths."""

    def __init__(self, adapter):
        super().__init__()
        self.adapter = adapter

    def construct(self, weight_BZD, x_BUD, len_B):
        z_BZD, z_len_B = self.adapter(x_BUD, len_B)
        return (z_BZD * weight_BZD).sum(), z_BZD, z_len_B


@dataclass
class Adapted:
    """An adapter, what went in (garbage beyond each item's end) and what came out."""

    cfg: AdapterConfig
    cell: nn.Cell
    values: dict[str, np.ndarray]
    x_BUD: np.ndarray
    weight_BZD: np.ndarray
    z_BZD: np.ndarray
    len_B: list[int]
    grads: dict[str, np.ndarray]


@pytest.fixture(scope="module", params=kinds())
def adapted(request):
    """Outputs and gradients of one compiled graph."""
    cfg = AdapterConfig(kind=request.param, n_layers=2, n_heads=2, d_ff=44, conv_channels=5)
    cell = module_of(cfg.kind, "network").Adapter(D_IN, D_OUT, cfg)
    values = fill(cell, seed=3)
    rng = np.random.default_rng(4)
    x_BUD = rng.standard_normal((len(LENGTHS), FRAMES, D_IN), np.float32)
    weight_BZD = rng.standard_normal((len(LENGTHS), (FRAMES + 3) // 4, D_OUT), np.float32)
    for weight_ZD, frames in zip(weight_BZD, LENGTHS):
        weight_ZD[(frames + 3) // 4 :] = 0
    (_, z_BZD, len_B), grads = gradients(
        Loss(cell), Tensor(weight_BZD), Tensor(x_BUD), Tensor(LENGTHS, ms.int32)
    )
    grads = {name.removeprefix("adapter."): grad for name, grad in grads.items()}
    return Adapted(cfg, cell, values, x_BUD, weight_BZD, z_BZD, len_B.tolist(), grads)


def test_batch_and_gradients_are_torchs_one_by_one(adapted):
    weights = reference.tensors(adapted.values, grad=True)
    assert adapted.len_B == [(n + 3) // 4 for n in LENGTHS]
    loss = 0.0
    for b, (frames, n) in enumerate(zip(LENGTHS, adapted.len_B)):
        want_ZD = reference.adapter(adapted.cfg, weights, torch.tensor(adapted.x_BUD[b, :frames]))
        assert error(adapted.z_BZD[b, :n], want_ZD.detach().numpy()) <= TOLERANCE
        loss = loss + (want_ZD * torch.tensor(adapted.weight_BZD[b, :n])).sum()
    loss.backward()
    compare_gradients(adapted.grads, weights)


def test_padded_bucket_is_exact_length(adapted):
    exact_BUD = Tensor(adapted.x_BUD[2:3, : LENGTHS[2]])
    z_BZD = adapted.cell(exact_BUD, Tensor(LENGTHS[2:3], ms.int32))[0].asnumpy()
    assert error(adapted.z_BZD[2, : adapted.len_B[2]], z_BZD[0]) <= SAME


@pytest.mark.parametrize("width", [38, 1024])
def test_positions_are_interleaved(width):
    want = reference.adapters.interleaved_positions(750, width).numpy()
    assert error(interleaved_sinusoids(750, width), want) <= TOLERANCE
