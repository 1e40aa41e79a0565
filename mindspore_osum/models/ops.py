"""The operators whose best form depends on the device, in one place.

Everything above this file is the same code on every device. Legend: B batch, L queries, S keys,
H query heads, K key/value heads, G = H/K queries a key head, E head size, D width.

Notable choices
- Attention takes grouped keys as they are: the G queries of a key head are extra rows of one matmul.
- Masks are additive float32, 0 where a key may be seen, `MASKED` elsewhere: a masked key weighs exactly 0.
- Softmax, norms and rotary angles are computed in float32 whatever the weights' type.
- Sums over the last axis that training waits for are products with a column of ones: on CPU several times
  faster than ReduceSum, in both directions.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

MASKED = -1e9  # exp(MASKED - max) is 0.0 in float32

matmul_t = ops.MatMul(transpose_b=True)
_matmul = ops.MatMul()
_scores = ops.BatchMatMul(transpose_b=True)
_mix = ops.BatchMatMul()


class _Softmax(nn.Cell):
    """Softmax over the last axis; MindSpore's own, but for the gradient's sum."""

    def __init__(self):
        super().__init__()
        self.softmax = ops.Softmax(axis=-1)

    def construct(self, x):
        return self.softmax(x)

    def bprop(self, x, out, dout):
        """d = (dout - sum(dout * out)) * out."""
        n = x.shape[-1]
        total = _matmul((dout * out).reshape((-1, n)), ops.ones((n, 1), x.dtype))
        return ((dout - total.reshape(x.shape[:-1] + (1,))) * out,)


_softmax = _Softmax()


def attention(q_BHLE, k_BKSE, v_BKSE, mask_B1LS, scale: float):
    """softmax(scale q k^T + mask) v, with grouped keys.

    Parameters
    ----------
    q_BHLE : queries; H a multiple of the K of the keys.
    k_BKSE, v_BKSE : keys and values.
    mask_B1LS : additive float32, (B or 1, 1, L or 1, S).

    Returns
    -------
    (B, L, H*E), in q's dtype.
    """
    b, h, length, e = q_BHLE.shape
    k, s = k_BKSE.shape[1], k_BKSE.shape[2]
    g = h // k
    if g > 1:
        q_BHLE = q_BHLE.reshape((b, k, g * length, e))
    score = ops.cast(_scores(q_BHLE * scale, k_BKSE), ms.float32)
    if g > 1:
        score = score.reshape((b, k, g, length, s)) + mask_B1LS.expand_dims(1)
        score = score.reshape((b, k, g * length, s))
    else:
        score = score + mask_B1LS
    weight = ops.cast(_softmax(score), v_BKSE.dtype)
    out = _mix(weight, v_BKSE).reshape((b, h, length, e))
    return out.transpose((0, 2, 1, 3)).reshape((b, length, h * e))


def mean_column(d: int) -> Tensor:
    """(d, 1) float32 of 1/d: a matrix times it is the mean of each row."""
    return Tensor(np.full((d, 1), 1 / d, np.float32))


def rms_norm(x, weight, eps: float, column_D1):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang & Sennrich 2019), in float32 inside."""
    x_ND = ops.cast(x, ms.float32).reshape((-1, x.shape[-1]))
    scale_N1 = ops.rsqrt(_matmul(x_ND * x_ND, column_D1) + eps)
    return ops.cast(x_ND * scale_N1, x.dtype).reshape(x.shape) * weight


def layer_norm(x, weight, bias, eps: float, column_D1):
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis (Ba et al. 2016), in float32."""
    x_ND = ops.cast(x, ms.float32).reshape((-1, x.shape[-1]))
    x_ND = x_ND - _matmul(x_ND, column_D1)
    scale_N1 = ops.rsqrt(_matmul(x_ND * x_ND, column_D1) + eps)
    return ops.cast(x_ND * scale_N1, x.dtype).reshape(x.shape) * weight + bias


def gelu(x):
    """x * Phi(x), the exact (erf) form that Whisper uses."""
    return x * 0.5 * (1.0 + ops.erf(x * 0.7071067811865476))


def rotary_tables(positions_BL, inv_freq: Tensor):
    """cos and sin of position * frequency, each (B, 1, L, E), float32 (Su et al. 2021, rotate-half form)."""
    angle = ops.cast(positions_BL, ms.float32).expand_dims(-1) * inv_freq
    angle = ops.concat((angle, angle), -1).expand_dims(1)
    return ops.cos(angle), ops.sin(angle)


def rotary(x_BHLE, cos_B1LE, sin_B1LE):
    """Rotate each head's (first half, second half) pairs by the position's angles."""
    half = x_BHLE.shape[-1] // 2
    rotated = ops.concat((-x_BHLE[..., half:], x_BHLE[..., :half]), -1)
    out = ops.cast(x_BHLE, ms.float32) * cos_B1LE + ops.cast(rotated, ms.float32) * sin_B1LE
    return ops.cast(out, x_BHLE.dtype)


def inverse_frequencies(head_dim: int, theta: float) -> Tensor:
    """theta^(-2i/E) for i < E/2, float32."""
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    return Tensor((1.0 / np.float32(theta) ** exponent).astype(np.float32))


def length_mask(length: int, lengths_B):
    """(B, length) float32: 1 for positions before each item's length, 0 after."""
    return ops.cast(ops.arange(0, length).expand_dims(0) < lengths_B.expand_dims(-1), ms.float32)


def key_mask(length: int, lengths_B):
    """Additive (B, 1, 1, length) mask that hides keys at or beyond each item's length."""
    return ((1.0 - length_mask(length, lengths_B)) * MASKED).expand_dims(1).expand_dims(1)


def segment_causal_mask(segments_BL):
    """Additive (B, 1, L, L) mask: a query sees itself and earlier keys of its own segment."""
    length = segments_BL.shape[1]
    place = ops.arange(0, length)
    causal = place.expand_dims(1) >= place.expand_dims(0)
    same = segments_BL.expand_dims(2) == segments_BL.expand_dims(1)
    allowed = ops.logical_and(same, causal.expand_dims(0))
    return ((1.0 - ops.cast(allowed, ms.float32)) * MASKED).expand_dims(1)
