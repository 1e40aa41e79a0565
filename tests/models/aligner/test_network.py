"""The linear aligner against its definition in NumPy: means, packs, restricted dimensions, gradients.

Legend: B batch, U encoder frames, Z speech tokens, E encoder width.
"""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindspore_osum.models.aligner.config import AlignerConfig
from mindspore_osum.models.aligner.network import Aligner
from mindspore_osum.models.ops import frame_places
from tests.models.common import SAME, TOLERANCE, error, fill, gradients

D_IN, D_OUT = 14, 10
FRAMES, LENGTHS = 23, [23, 22, 13, 5, 1]


class Loss(nn.Cell):
    """sum(tokens * weight), a scalar for gradients; tokens and lengths."""

    def __init__(self, adapter):
        super().__init__()
        self.adapter = adapter

    def construct(self, weight_BZD, x_BUE, len_B):
        z_BZD, z_len_B = self.adapter(x_BUE, len_B)
        return (z_BZD * weight_BZD).sum(), z_BZD, z_len_B


def frames_of(seed: int) -> np.ndarray:
    """Random frames (B, U, E), zero beyond the end of each, as the encoder gives them."""
    x_BUE = np.random.default_rng(seed).standard_normal((len(LENGTHS), FRAMES, D_IN), np.float32)
    for x_UE, frames in zip(x_BUE, LENGTHS, strict=True):
        x_UE[frames:] = 0
    return x_BUE


def means(x_UE: np.ndarray, span: int) -> np.ndarray:
    """The mean of every `span` frames, of fewer at the end."""
    return np.stack([x_UE[i : i + span].mean(0) for i in range(0, len(x_UE), span)])


@pytest.mark.parametrize("span, dims", [(1, None), (4, None), (8, 7)])
def test_tokens_and_gradients_one_by_one(span, dims):
    cfg = AlignerConfig(span, dims)
    cell = Aligner(D_IN, D_OUT, cfg)
    values, x_BUE = fill(cell, seed=3), frames_of(4)
    weight, bias = values["proj.weight"], values["proj.bias"]
    weight_BZD = np.random.default_rng(5).standard_normal(
        (len(LENGTHS), cfg.tokens(FRAMES), D_OUT), np.float32
    )
    for weight_ZD, frames in zip(weight_BZD, LENGTHS, strict=True):
        weight_ZD[cfg.tokens(frames) :] = 0
    (_, z_BZD, len_B), grads = gradients(
        Loss(cell), Tensor(weight_BZD), Tensor(x_BUE), Tensor(LENGTHS, ms.int32)
    )
    assert len_B.tolist() == [cfg.tokens(frames) for frames in LENGTHS]
    want_weight, want_bias = np.zeros_like(weight), np.zeros_like(bias)
    for b, (frames, n) in enumerate(zip(LENGTHS, len_B, strict=True)):
        mean_ZE = means(x_BUE[b, :frames], span)
        want_ZD = np.zeros((n, D_OUT), np.float32)
        want_ZD[:, : len(bias)] = mean_ZE @ weight.T + bias
        assert error(z_BZD[b, :n], want_ZD) <= TOLERANCE
        want_weight += weight_BZD[b, :n, : len(bias)].T @ mean_ZE
        want_bias += weight_BZD[b, :n, : len(bias)].sum(0)
    assert error(grads["adapter.proj.weight"], want_weight) <= TOLERANCE
    assert error(grads["adapter.proj.bias"], want_bias) <= TOLERANCE


def test_a_pack_gives_the_tokens_of_each():
    """Recordings end to end in a row, each from a whole token on."""
    cfg = AlignerConfig(4)
    cell = Aligner(D_IN, D_OUT, cfg)
    fill(cell, seed=3)
    alone_BUE = frames_of(4)
    z_BZD = cell(Tensor(alone_BUE), Tensor(LENGTHS, ms.int32))[0].asnumpy()
    spans, x_1UE, at = [], np.zeros((1, 80, D_IN), np.float32), 0
    for x_UE, frames in zip(alone_BUE, LENGTHS, strict=True):
        spans.append((at, frames))
        x_1UE[0, at : at + frames] = x_UE[:frames]
        at += 4 * cfg.tokens(frames)
    places = frame_places(Tensor(np.array(spans, np.int32)), 1, 80)
    packed_1ZD, places_1Z = (out.asnumpy() for out in cell(Tensor(x_1UE), places))
    for b, (first, frames) in enumerate(spans):
        n = cfg.tokens(frames)
        assert error(packed_1ZD[0, first // 4 : first // 4 + n], z_BZD[b, :n]) <= SAME
        assert places_1Z[0, first // 4 : first // 4 + n].tolist() == list(range(n))
    assert (places_1Z[0, at // 4 :] == -1).all()
