"""Attention, norms, rotation and gate from elementary operators: for CPU, and the reference of fused.py.

Legend: B batch, L queries, S keys or cache places, H query heads, K key/value heads, G = H/K queries a key
head, E head size, N rows, D width.

Notable choices
- Attention takes grouped keys as they are: the G queries of a key head are extra rows of one matmul.
- Masks are added in float32, 0 where a key may be seen, `MASKED` elsewhere: a masked key weighs exactly 0.
- Softmax and norms are computed in float32 whatever the weights' type.
- Sums over the last axis that training waits for are products with a column: on CPU several times faster
  than ReduceSum, in both directions.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindspore_osum.models.ops.common import causal_mask

MASKED = -1e9  # exp(MASKED - max) is 0.0 in float32

_matmul = ops.MatMul()


def attention_mask(hidden, length: int):
    """What `Attention` takes for a mask of common.py, additive float32; None stands for the causal one."""
    return ops.cast(causal_mask(length) if hidden is None else hidden, ms.float32) * MASKED


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


class Attention(nn.Cell):
    """softmax(q k^T / sqrt(E) + mask) v, with grouped keys."""

    def __init__(self, n_heads: int, n_kv_heads: int, head_dim: int):
        super().__init__()
        self.groups, self.scale = n_heads // n_kv_heads, head_dim**-0.5
        self.scores = ops.BatchMatMul(transpose_b=True)
        self.softmax = _Softmax()
        self.mix = ops.BatchMatMul()
        self.write = ops.ScatterUpdate()

    def construct(self, q_BHLE, k_BKSE, v_BKSE, mask):
        """Attend: q (B, H, L, E), k and v (B, K, S, E), mask of `attention_mask` -> (B, L, H*E)."""
        return self.attend(q_BHLE, k_BKSE, v_BKSE, mask)

    def attend(self, q_BHLE, k_BKSE, v_BKSE, mask):
        """With an additive mask (B or 1, 1, L or 1, S)."""
        b, h, length, e = q_BHLE.shape
        k, s = k_BKSE.shape[1], k_BKSE.shape[2]
        if self.groups > 1:
            q_BHLE = q_BHLE.reshape((b, k, self.groups * length, e))
        score = ops.cast(self.scores(q_BHLE * self.scale, k_BKSE), ms.float32)
        if self.groups > 1:
            score = score.reshape((b, k, self.groups, length, s)) + mask.expand_dims(1)
            score = score.reshape((b, k, self.groups * length, s))
        else:
            score = score + mask
        weight = ops.cast(self.softmax(score), v_BKSE.dtype)
        out = self.mix(weight, v_BKSE).reshape((b, h, length, e))
        return out.transpose((0, 2, 1, 3)).reshape((b, length, h * e))

    def cached(self, q_BHLE, k_BKLE, v_BKLE, mask, k_cache, v_cache, slots):
        """Write the new keys and values; a prompt (L > 1) attends to itself, a single query to the cache."""
        b, _, length, e = q_BHLE.shape
        k_rows = self.write(k_cache, slots, k_BKLE.reshape((-1, e)))
        v_rows = self.write(v_cache, slots, v_BKLE.reshape((-1, e)))
        if length > 1:
            # nothing of the rows is used: order the write before what is
            return self.construct(ops.depend(q_BHLE, (k_rows, v_rows)), k_BKLE, v_BKLE, mask)
        shape = (b, k_BKLE.shape[1], -1, e)
        return self.attend(q_BHLE, k_rows.reshape(shape), v_rows.reshape(shape), mask)


class Cache(nn.Cell):
    """Where keys and values of B sequences of S places lie: (B*K*S, E), row (b*K + k)*S + s."""

    def __init__(self, batch: int, places: int, n_kv_heads: int, head_dim: int):
        super().__init__()
        self.shape = (batch * n_kv_heads * places, head_dim)
        heads_BK1 = np.arange(batch * n_kv_heads, dtype=np.int32).reshape(batch, -1, 1)
        self.first_slot_BK1 = Tensor(heads_BK1 * places)
        self.place_1S = Tensor(np.arange(places, dtype=np.int32)[None])

    def slots(self, place_BL):
        """Rows of new keys at these places of each sequence, in (batch, head, position) order."""
        return (self.first_slot_BK1 + place_BL.expand_dims(1)).reshape((-1,))

    def seen(self, position_B):
        """The mask of a query at `position_B`, which sees the places up to its own: (B, 1, 1, S)."""
        hidden_BS = ops.cast(self.place_1S > position_B.expand_dims(1), ms.float32)
        return (hidden_BS * MASKED).expand_dims(1).expand_dims(1)


class RMSNorm(nn.Cell):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang & Sennrich 2019)."""

    def __init__(self, d: int, eps: float):
        super().__init__()
        self.eps, self.column_D1 = eps, Tensor(np.full((d, 1), 1 / d, np.float32))

    def construct(self, x, weight):
        x_ND = ops.cast(x, ms.float32).reshape((-1, x.shape[-1]))
        scale_N1 = ops.rsqrt(_matmul(x_ND * x_ND, self.column_D1) + self.eps)
        return ops.cast(x_ND * scale_N1, x.dtype).reshape(x.shape) * weight


class LayerNorm(nn.Cell):
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis (Ba et al. 2016)."""

    def __init__(self, d: int, eps: float):
        super().__init__()
        self.eps, self.column_D1 = eps, Tensor(np.full((d, 1), 1 / d, np.float32))

    def construct(self, x, weight, bias):
        x_ND = ops.cast(x, ms.float32).reshape((-1, x.shape[-1]))
        x_ND = x_ND - _matmul(x_ND, self.column_D1)
        scale_N1 = ops.rsqrt(_matmul(x_ND * x_ND, self.column_D1) + self.eps)
        return ops.cast(x_ND * scale_N1, x.dtype).reshape(x.shape) * weight + bias


class Rotary(nn.Cell):
    """Rotate each head's (first half, second half) pairs by the position's angles, in float32."""

    def construct(self, x_BHLE, cos_B1LE, sin_B1LE):
        half = x_BHLE.shape[-1] // 2
        rotated = ops.concat((-x_BHLE[..., half:], x_BHLE[..., :half]), -1)
        out = ops.cast(x_BHLE, ms.float32) * cos_B1LE + ops.cast(rotated, ms.float32) * sin_B1LE
        return ops.cast(out, x_BHLE.dtype)


class SwiGLU(nn.Cell):
    """silu(gate) * up (Shazeer 2020)."""

    def construct(self, gate, up):
        return gate * ops.sigmoid(gate) * up
