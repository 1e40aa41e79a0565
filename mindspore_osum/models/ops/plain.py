"""Attention, norms, rotation and gate from elementary operators: for CPU, and the reference of fused.py.

Legend: B batch, L queries, S keys or cache slots, H query heads, K key/value heads, G = H/K queries per key
head, E head size, N rows, D width.

Notable choices
- Grouped keys are not repeated: the G queries of a key head are extra rows of one matmul.
- Masks are added in float32, 0 for visible keys, `MASKED` for hidden ones, whose weight is then exactly 0.
- Softmax and norms are computed in float32 whatever the weights' type.
- Time-critical sums over the last axis are products with a column of ones: on CPU several times faster than
  ReduceSum, forward and backward.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindspore_osum.models.ops.common import causal_mask
from mindspore_osum.models.target import target

MASKED = -1e9  # exp(MASKED - max) is 0.0 in float32
LARGE = (
    1 << 20
)  # scores of a head; in answers a batch with as many attends in blocks that take one item's memory
BLOCK = 128  # queries whose causal attention is computed together
# whether models/joined.py saves launches: here as many slices would copy the parts of a joined product
JOINS = False


class AttentionMask(nn.Cell):
    """Convert a mask of common.py to additive float32, as `Attention` needs it; None means causal."""

    masked = MASKED

    def __init__(self):
        super().__init__()
        self.mul = ops.Mul()

    def construct(self, hidden, length: int):
        return self.mul(ops.cast(causal_mask(length) if hidden is None else hidden, ms.float32), self.masked)

    def shard(self, p, queries: int = 1):
        """Shard the batch of (B, 1, L, S) and, into `queries` parts, the queries."""
        self.mul.shard(((p.data_parallel, 1, queries, 1), ()))


attention_mask = AttentionMask()


class _Softmax(nn.Cell):
    """Softmax over the last axis, which is never sharded; MindSpore's, except for the gradient's sum."""

    def __init__(self):
        super().__init__()
        self.softmax, self.matmul = ops.Softmax(axis=-1), ops.MatMul()

    def construct(self, x):
        return self.softmax(x)

    def bprop(self, x, out, dout):
        """d = (dout - sum(dout * out)) * out."""
        n = x.shape[-1]
        total = self.matmul((dout * out).reshape((-1, n)), ops.ones((n, 1), x.dtype))
        return ((dout - total.reshape(x.shape[:-1] + (1,))) * out,)


def _with_mask(q_BHLE, k_BHSE, mask):
    """Queries and keys whose product includes the mask of keys (B or 1, 1, 1, S): one more column per head.

    Adding the mask would write and read all L x S scores again, a tenth of the encoder's time at 30 s.
    """
    b, h, length, _ = q_BHLE.shape
    keys = k_BHSE.shape[2]
    ones = ops.ones((b, h, length, 1), ms.float32)
    hidden = ops.broadcast_to(mask.reshape((-1, 1, keys, 1)), (b, h, keys, 1))
    return ops.concat((q_BHLE, ones), -1), ops.concat((k_BHSE, hidden), -1)


class Attention(nn.Cell):
    """softmax(q k^T / sqrt(E) + mask) v, with grouped keys.

    Parameters
    ----------
    causal : masks with a row for every query hide all keys after it.
    """

    def __init__(self, n_heads: int, n_kv_heads: int, head_dim: int, causal: bool = False):
        super().__init__()
        self.is_causal = causal
        self.n_kv_heads, self.head_dim = n_kv_heads, head_dim
        self.groups, self.scale = n_heads // n_kv_heads, head_dim**-0.5
        self.shrink = ops.Mul()
        self.scores = ops.BatchMatMul(transpose_b=True)
        self.add_mask = ops.Add()
        self.softmax = _Softmax()
        self.mix = ops.BatchMatMul()
        self.to_heads, self.join = ops.Transpose(), ops.Transpose()
        self.write = ops.ScatterUpdate()
        self.is_sharded = self.saves_memory = False

    def for_answers(self):
        """Without the gradient of its own; a batch of 30 s would take 576 MB for the scores of 8 heads."""
        self.softmax, self.saves_memory = ops.Softmax(axis=-1), target() == "CPU"

    def heads(self, x_BLHE):
        """(B, H, L, E); for one position a reshape suffices."""
        b, length, heads, e = x_BLHE.shape
        return self.to_heads(x_BLHE, (0, 2, 1, 3)) if length > 1 else x_BLHE.reshape((b, heads, 1, e))

    def construct(self, q_BLHE, k_BSKE, v_BSKE, mask):
        """Attend: q (B, L, H, E), k and v (B, S, K, E), mask of `attention_mask` -> (B, L, H*E)."""
        q_BHLE, k_BKSE, v_BKSE = self.heads(q_BLHE), self.heads(k_BSKE), self.heads(v_BSKE)
        b, _, length, _ = q_BHLE.shape
        if self.is_causal and not self.is_sharded and length > BLOCK and mask.shape[2] > 1:
            return self.causal(q_BHLE, k_BKSE, v_BKSE, mask)
        large = b > 1 and length * k_BKSE.shape[2] >= LARGE
        if self.saves_memory and large and self.groups == 1 and mask.shape[2] == 1:
            return self.blocks(q_BHLE, k_BKSE, v_BKSE, mask)
        return self.attend(q_BHLE, k_BKSE, v_BKSE, mask)

    def causal(self, q_BHLE, k_BKSE, v_BKSE, mask):
        """`attend` where a block of queries does not see the keys after it."""
        length, parts = q_BHLE.shape[2], []
        for first in range(0, length, BLOCK):
            end = min(first + BLOCK, length)
            rows, k, v = mask[:, :, first:end], k_BKSE, v_BKSE
            if end < length:  # slicing nothing, or two axes at once, copies element by element
                rows, k, v = rows[..., :end], k[:, :, :end], v[:, :, :end]
            parts.append(self.attend(q_BHLE[:, :, first:end], k, v, rows))
        return ops.concat(parts, 1)

    def blocks(self, q_BHLE, k_BKSE, v_BKSE, mask):
        """`attend` with a mask of keys, for a part of all items' queries after the other."""
        b, h, length, e = q_BHLE.shape
        block, parts = -(-length // b), []
        q, k = _with_mask(self.shrink(q_BHLE, self.scale), k_BKSE, mask)
        for first in range(0, length, block):
            end = min(first + block, length)
            parts.append(self.weigh(self.scores(q[:, :, first:end], k), v_BKSE, (b, h, end - first, e)))
        return ops.concat(parts, 1)

    def attend(self, q_BHLE, k_BKSE, v_BKSE, mask):
        """With an additive mask (B or 1, 1, L or 1, S)."""
        b, h, length, e = q_BHLE.shape
        k, s = k_BKSE.shape[1], k_BKSE.shape[2]
        if self.groups > 1:
            q_BHLE = q_BHLE.reshape((b, k, self.groups * length, e))
        q_BHLE = self.shrink(q_BHLE, self.scale)
        alike = mask.shape[2] == 1 and length > 1 and q_BHLE.dtype == ms.float32  # same for all queries
        if alike and not self.is_sharded:
            score = self.scores(*_with_mask(q_BHLE, k_BKSE, mask))
            return self.weigh(score, v_BKSE, (b, h, length, e))
        score = ops.cast(self.scores(q_BHLE, k_BKSE), ms.float32)
        if self.groups > 1:
            mb, _, ml, _ = mask.shape
            score = score.reshape((b, k, self.groups, length, s))
            score = self.add_mask(score, mask.reshape((mb, 1, 1, ml, s)))
            score = score.reshape((b, k, self.groups * length, s))
        else:
            score = self.add_mask(score, mask)
        return self.weigh(score, v_BKSE, (b, h, length, e))

    def weigh(self, score, v_BKSE, shape):
        """softmax(score) v as (B, L, H*E); `shape` is (B, H, L, E)."""
        b, h, length, e = shape
        weight = ops.cast(self.softmax(score), v_BKSE.dtype)
        out = self.mix(weight, v_BKSE).reshape(shape)
        if length > 1:
            out = self.join(out, (0, 2, 1, 3))
        return out.reshape((b, length, h * e))

    def shard(self, p, queries: int = 1):
        """Shard batch and heads, and the queries into `queries` parts; a mask has the full batch size."""
        self.is_sharded = True
        dp, mp = p.data_parallel, p.model_parallel
        if self.groups > 1:  # queries are rows of one matmul, whose layout follows the softmax's
            queries_of_group, score, mask = 1, (dp, mp, 1, queries, 1), (dp, 1, 1, queries, 1)
        else:
            queries_of_group, score, mask = queries, (dp, mp, queries, 1), (dp, 1, queries, 1)
        heads, keys = (dp, mp, queries_of_group, 1), (dp, mp, 1, 1)
        self.shrink.shard((heads, ()))
        self.scores.shard((heads, keys))
        self.add_mask.shard((score, mask))
        self.softmax.softmax.shard((heads,))
        self.mix.shard((heads, keys))
        self.to_heads.shard(((dp, queries, mp, 1),))
        self.join.shard(((dp, mp, queries, 1),))

    def cached(self, q_BLHE, k_BLKE, v_BLKE, mask, k_cache, v_cache, slots):
        """Write the new keys and values; a prompt (L > 1) fills the first slots and attends to itself, a
        single query attends to the cache. Returns (result, None, None), since the caches change in place."""
        b, length, k, e = k_BLKE.shape
        if length > 1:
            written = (_begin_with(self.heads(k_BLKE), k_cache), _begin_with(self.heads(v_BLKE), v_cache))
            # this result does not use the cache: order the write before it
            out = self.construct(ops.depend(q_BLHE, written), k_BLKE, v_BLKE, mask)
            return out, None, None
        k_rows = self.write(k_cache, slots, k_BLKE.reshape((-1, e)))
        v_rows = self.write(v_cache, slots, v_BLKE.reshape((-1, e)))
        shape = (b, k, -1, e)
        out = self.attend(self.heads(q_BLHE), k_rows.reshape(shape), v_rows.reshape(shape), mask)
        return out, None, None

    def keep(self, x_BSKE):
        """Keys or values that many queries attend to, one after the other, as `kept` reads them."""
        return self.heads(x_BSKE)

    def kept_shape(self, batch: int, keys: int) -> tuple[int, ...]:
        """The shape of what `keep` returns."""
        return batch, self.n_kv_heads, keys, self.head_dim

    def kept(self, q_BLHE, k_kept, v_kept, mask):
        """As `construct`, with keys and values from `keep`."""
        return self.attend(self.heads(q_BLHE), k_kept, v_kept, mask)


def _begin_with(x_BKLE, cache):
    """Write x to the first slots of every head of the cache in one copy; ScatterUpdate goes row by row."""
    b, k, length, e = x_BKLE.shape
    rows, old = x_BKLE.reshape((b * k, length * e)), cache.reshape((b * k, -1))
    if old.shape[1] > length * e:
        rows = ops.concat((rows, old[:, length * e :]), 1)
    return ops.assign(cache, rows.reshape(cache.shape))


class Cache(nn.Cell):
    """Layout of keys and values of B sequences of S slots: (B*K*S, E), row (b*K + k)*S + s."""

    masked = MASKED

    def __init__(self, batch: int, places: int, n_kv_heads: int, head_dim: int):
        super().__init__()
        self.shape = (batch * n_kv_heads * places, head_dim)
        heads_BK1 = np.arange(batch * n_kv_heads, dtype=np.int32).reshape(batch, -1, 1)
        self.first_slot_BK1 = Tensor(heads_BK1 * places)
        self.slot_1S = Tensor(np.arange(n_kv_heads * places, dtype=np.int32)[None])  # of a sequence
        self.place_1S = Tensor(np.arange(places, dtype=np.int32)[None])

    def slots(self, place_BL):
        """Rows of new keys at these positions of each sequence, in (batch, head, position) order."""
        return (self.first_slot_BK1 + place_BL.expand_dims(1)).reshape((-1,))

    def rows(self, sequence_M):
        """Where all slots of these sequences are on the first axis."""
        return (sequence_M.expand_dims(1) * self.slot_1S.shape[1] + self.slot_1S).reshape((-1,))

    def seen(self, position_B):
        """The mask of a query at `position_B`, which sees the slots up to its own: (B, 1, 1, S)."""
        hidden_BS = ops.cast(self.place_1S > position_B.expand_dims(1), ms.float32)
        return (hidden_BS * self.masked).expand_dims(1).expand_dims(1)


class RMSNorm(nn.Cell):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang & Sennrich 2019)."""

    def __init__(self, d: int, eps: float):
        super().__init__()
        self.eps, self.column_D1 = eps, Tensor(np.full((d, 1), 1 / d, np.float32))
        self.square, self.mean, self.add_eps = ops.Mul(), ops.MatMul(), ops.Add()
        self.rsqrt, self.scale, self.weigh = ops.Rsqrt(), ops.Mul(), ops.Mul()

    def normed(self, x_ND):
        """x / sqrt(mean(x^2) + eps)."""
        mean_N1 = self.mean(self.square(x_ND, x_ND), self.column_D1)
        return self.scale(x_ND, self.rsqrt(self.add_eps(mean_N1, self.eps)))

    def construct(self, x, weight):
        x_ND = self.normed(ops.cast(x, ms.float32).reshape((-1, x.shape[-1])))
        return self.weigh(ops.cast(x_ND, x.dtype).reshape(x.shape), weight)

    def added(self, x, y, weight):
        """The norm of x + y, and x + y."""
        x = x + y
        return self.construct(x, weight), x

    def shard(self, rows: int, rows_out: int = 0):
        """Shard the rows of x, which has two axes; those of the result into `rows_out` parts if given."""
        parts = (rows, 1)
        self.square.shard((parts, parts))
        self.mean.shard((parts, (1, 1)))
        self.add_eps.shard((parts, ()))
        self.rsqrt.shard((parts,))
        self.scale.shard((parts, parts))
        self.weigh.shard(((rows_out or rows, 1), (1,)))  # the input is gathered once for all consumers


class LayerNorm(RMSNorm):
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis (Ba et al. 2016)."""

    def __init__(self, d: int, eps: float):
        super().__init__(d, eps)
        self.first_mean, self.subtract, self.add_bias = ops.MatMul(), ops.Sub(), ops.Add()
        self.whole = None  # one operator, after `for_answers`

    def for_answers(self):
        """One operator where that is faster: CPU's, whose gradient is slow."""
        if target() == "CPU":
            self.whole = ops.LayerNorm(begin_norm_axis=-1, begin_params_axis=-1, epsilon=self.eps)

    def construct(self, x, weight, bias):
        if self.whole is not None:
            return self.whole(x, weight, bias)[0]
        x_ND = ops.cast(x, ms.float32).reshape((-1, x.shape[-1]))
        x_ND = self.normed(self.subtract(x_ND, self.first_mean(x_ND, self.column_D1)))
        return self.add_bias(self.weigh(ops.cast(x_ND, x.dtype).reshape(x.shape), weight), bias)

    def shard(self, rows: int):
        """As RMSNorm.shard."""
        super().shard(rows)
        parts = (rows, 1)
        self.first_mean.shard((parts, (1, 1)))
        self.subtract.shard((parts, parts))
        self.add_bias.shard((parts, (1,)))


class Rotary(nn.Cell):
    """Rotate each head's (first half, second half) pairs by the position's angles, in float32."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.negate = ops.StridedSlice(), ops.StridedSlice(), ops.Neg()
        self.join, self.by_cos, self.by_sin, self.add = ops.Concat(-1), ops.Mul(), ops.Mul(), ops.Add()
        self.turn, self.is_sharded = ops.MatMul(), False

    def construct(self, x_BLHE, cos_BL1E, sin_BL1E):
        (b, length, h, e), dtype = x_BLHE.shape, x_BLHE.dtype
        if (
            not self.is_sharded
        ):  # fewer launches, fewer passes over memory, and exact: a product with 0, 1 and -1
            x_BLHE = ops.cast(x_BLHE, ms.float32)
            rotated = self.turn(x_BLHE.reshape((-1, e)), Tensor(_turn(e))).reshape(x_BLHE.shape)
            return ops.cast(x_BLHE * cos_BL1E + rotated * sin_BL1E, dtype)
        ones = (1, 1, 1, 1)
        first = self.first(x_BLHE, (0, 0, 0, 0), (b, length, h, e // 2), ones)
        second = self.second(x_BLHE, (0, 0, 0, e // 2), (b, length, h, e), ones)
        rotated = self.join((self.negate(second), first))
        by_cos = self.by_cos(ops.cast(x_BLHE, ms.float32), cos_BL1E)
        return ops.cast(self.add(by_cos, self.by_sin(ops.cast(rotated, ms.float32), sin_BL1E)), dtype)

    def shard(self, p):
        """Shard batch, heads and positions."""
        self.is_sharded = True
        heads = (p.data_parallel, p.context_parallel, p.model_parallel, 1)
        angles = (p.data_parallel, p.context_parallel, 1, 1)
        for op in (self.first, self.second, self.negate):
            op.shard((heads,))
        for op in (self.join, self.add):
            op.shard((heads, heads))
        for op in (self.by_cos, self.by_sin):
            op.shard((heads, angles))


def _turn(e: int) -> np.ndarray:
    """(E, E) float32 matrix M with x M = (-second half, first half)."""
    half = np.eye(e // 2, dtype=np.float32)
    return np.block([[np.zeros_like(half), half], [-half, np.zeros_like(half)]])


class SwiGLU(nn.Cell):
    """silu(gate) * up (Shazeer 2020)."""

    def __init__(self):
        super().__init__()
        self.sigmoid, self.silu, self.mul = ops.Sigmoid(), ops.Mul(), ops.Mul()

    def construct(self, gate, up):
        return self.mul(self.silu(gate, self.sigmoid(gate)), up)

    def shard(self, p):
        """Shard the rows and the width."""
        parts = (p.rows, p.model_parallel)
        self.sigmoid.shard((parts,))
        for op in (self.silu, self.mul):
            op.shard((parts, parts))
