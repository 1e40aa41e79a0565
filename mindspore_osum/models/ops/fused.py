"""The cells of plain.py with the fused operators of Ascend; same arguments and results.

Legend: B batch, L queries, S keys or cache slots, M blocks per sequence, H query heads, K key/value heads,
E head size, D width.

Notable choices
- FlashAttentionScore takes the full mask for padded or packed rows. Its TND layout would skip pairs of
  different segments, but needs their ends at compile time, and they change with every batch. For a purely
  causal mask (prefill) it takes the compressed form and skips the upper half.
- A new token attends by PagedAttention: the cache consists of blocks of `BLOCK` slots, contiguous for each
  sequence, and a query passes the number of visible slots instead of a mask. These operators do not support
  float32: in float32 decode is plain, all else fused.
- Head sizes are padded with zeros to a multiple of 16, as FlashAttentionScore requires.
- The operators accumulate softmax and norms in float32; rotation is called in float32, so that its angles are
  not rounded to the weights' type. LayerNorm is MindSpore's own on every device.
"""

from types import SimpleNamespace

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.ops.auto_generate import (
    FlashAttentionScore,
    PagedAttention,
    ReshapeAndCache,
    RmsNorm,
    RotaryPositionEmbedding,
    Swiglu,
)

from mindspore_osum.models.ops import plain

BLOCK = 64  # slots of a block; inference/generate.py makes caches of whole blocks
HEAD_MULTIPLE = 16
LEFT_UP_CAUSAL = 2  # FlashAttentionScore's sparse_mode; its mask is this triangle for every length
_LATER = np.triu(np.ones((2048, 2048), np.uint8), 1)


class AttentionMask(nn.Cell):
    """Expand a mask of common.py to a row for every query, for `Attention`; None stays None (causal)."""

    def __init__(self):
        super().__init__()
        self.either = ops.LogicalOr()  # with zeros: a broadcast that can be sharded

    def construct(self, hidden, length: int):
        if hidden is None or hidden.shape[2] == length:
            return hidden
        return self.either(hidden, Tensor(np.zeros((1, 1, length, 1), np.bool_)))

    def shard(self, p, queries: int = 1):
        """Shard the batch; a mask with a row for every query is already sharded."""
        self.either.shard(((p.data_parallel, 1, 1, 1), (1, 1, queries, 1)))


class FlashAttention(plain.Attention):
    """As plain.Attention."""

    def __init__(self, n_heads: int, n_kv_heads: int, head_dim: int, causal: bool = False):
        super().__init__(n_heads, n_kv_heads, head_dim, causal)
        self.head_dim, self.padding = head_dim, -head_dim % HEAD_MULTIPLE
        self.masked = FlashAttentionScore(n_heads, scale_value=self.scale, input_layout="BNSD")
        self.causal = FlashAttentionScore(
            n_heads, scale_value=self.scale, input_layout="BNSD", sparse_mode=LEFT_UP_CAUSAL
        )
        self.later = Tensor(_LATER)
        self.pad, self.cut = ops.Concat(-1), ops.StridedSlice()

    def padded(self, x_BHLE):
        """Pad each head with zeros: scores are unchanged, and the extra output columns are removed."""
        if self.padding == 0:
            return x_BHLE
        return self.pad((x_BHLE, ops.zeros(x_BHLE.shape[:-1] + (self.padding,), x_BHLE.dtype)))

    def construct(self, q_BHLE, k_BKSE, v_BKSE, mask):
        """As plain.Attention's."""
        q, k, v = self.padded(q_BHLE), self.padded(k_BKSE), self.padded(v_BKSE)
        if mask is None:
            out = self.causal(q, k, v, None, None, None, self.later, None, None, None)[3]
        else:
            out = self.masked(q, k, v, None, None, None, mask, None, None, None)[3]
        return self.joined(self.join(out, (0, 2, 1, 3)))

    def joined(self, x_BLHE):
        """(B, L, H*E) without the padding."""
        b, length, h, _ = x_BLHE.shape
        if self.padding > 0:
            x_BLHE = self.cut(x_BLHE, (0, 0, 0, 0), (b, length, h, self.head_dim), (1, 1, 1, 1))
        return x_BLHE.reshape((b, length, -1))

    def shard(self, p, queries: int = 1):
        """As plain.Attention's."""
        super().shard(p, queries)
        dp, mp = p.data_parallel, p.model_parallel
        heads, keys = (dp, mp, queries, 1), (dp, mp, 1, 1)
        self.pad.shard((heads, heads))
        self.masked.shard((heads, keys, keys, (dp, 1, queries, 1)))
        self.causal.shard((heads, keys, keys, (1, 1)))
        self.cut.shard(((dp, queries, mp, 1),))


class PagedFlashAttention(FlashAttention):
    """As plain.Attention, with a `PagedCache`; not in float32."""

    def __init__(self, n_heads: int, n_kv_heads: int, head_dim: int, causal: bool = False):
        super().__init__(n_heads, n_kv_heads, head_dim, causal)
        self.write = ReshapeAndCache()
        self.paged = PagedAttention(n_heads, self.scale, n_kv_heads)

    def rows(self, x_BHLE):
        """(B, L, H*E) with the padding, as the operators of the cache require."""
        b, _, length, _ = x_BHLE.shape
        return self.padded(x_BHLE).transpose((0, 2, 1, 3)).reshape((b, length, -1))

    def cached(self, q_BHLE, k_BKLE, v_BKLE, mask, k_cache, v_cache, slots):
        """As plain.Attention's."""
        written = self.write(self.rows(k_BKLE), self.rows(v_BKLE), k_cache, v_cache, slots)
        q_BHLE = ops.depend(q_BHLE, written)
        b, h, length, _ = q_BHLE.shape
        if length > 1:
            return self.construct(q_BHLE, k_BKLE, v_BKLE, mask), None, None
        tables_BM, seen_B = mask
        out = self.paged(self.rows(q_BHLE), k_cache, v_cache, tables_BM, seen_B)
        return self.joined(out.reshape((b, 1, h, -1))), None, None


class PagedCache(nn.Cell):
    """Layout of keys and values of B sequences of S slots: (B*S/BLOCK, BLOCK, K, E), slot s at b*S + s."""

    def __init__(self, batch: int, places: int, n_kv_heads: int, head_dim: int):
        super().__init__()
        if places % BLOCK:
            raise ValueError(f"a cache of {places} places is not made of whole blocks of {BLOCK}")
        blocks = batch * places // BLOCK
        self.shape = (blocks, BLOCK, n_kv_heads, head_dim + -head_dim % HEAD_MULTIPLE)
        self.first_slot_B1 = Tensor(np.arange(batch, dtype=np.int32)[:, None] * places)
        self.tables_BM = Tensor(np.arange(blocks, dtype=np.int32).reshape(batch, -1))

    def slots(self, place_BL):
        """Cache slots for new keys at these positions of each sequence, in (batch, position) order."""
        return (self.first_slot_B1 + place_BL).reshape((-1,))

    def seen(self, position_B):
        """The blocks of each sequence, and the number of slots that a query at `position_B` sees."""
        return self.tables_BM, position_B + 1


class RMSNorm(nn.Cell):
    """As plain.RMSNorm; weight in x's type."""

    def __init__(self, d: int, eps: float):
        super().__init__()
        self.norm = RmsNorm(eps)

    def construct(self, x, weight):
        return self.norm(x, weight)[0]

    def shard(self, rows: int, rows_out: int = 0):
        """As plain.RMSNorm.shard, for x with two axes; each consumer gathers the result."""
        self.norm.shard(((rows, 1), (1,)))


class LayerNorm(nn.Cell):
    """As plain.LayerNorm."""

    def __init__(self, d: int, eps: float):
        super().__init__()
        self.norm = ops.LayerNorm(begin_norm_axis=-1, begin_params_axis=-1, epsilon=eps)

    def construct(self, x, weight, bias):
        return self.norm(x, weight, bias)[0]

    def shard(self, rows: int):
        """As plain.RMSNorm.shard, for x with two axes."""
        self.norm.shard(((rows, 1), (1,), (1,)))


class Rotary(nn.Cell):
    """As plain.Rotary."""

    def __init__(self):
        super().__init__()
        self.rotate = RotaryPositionEmbedding()

    def construct(self, x_BHLE, cos_B1LE, sin_B1LE):
        return ops.cast(self.rotate(ops.cast(x_BHLE, ms.float32), cos_B1LE, sin_B1LE, 0), x_BHLE.dtype)

    def shard(self, p):
        """As plain.Rotary.shard."""
        dp, cp = p.data_parallel, p.context_parallel
        angles = (dp, 1, cp, 1)
        self.rotate.shard(((dp, p.model_parallel, cp, 1), angles, angles))


class SwiGLU(plain.SwiGLU):
    """As plain.SwiGLU; also with a sharded width, where every device has its part of both halves of the
    operator's input."""

    def __init__(self):
        super().__init__()
        self.swiglu, self.is_sharded = Swiglu(), False

    def construct(self, gate, up):
        if self.is_sharded:
            return super().construct(gate, up)
        return self.swiglu(ops.concat((gate, up), -1), -1)

    def shard(self, p):
        """As plain.SwiGLU.shard."""
        super().shard(p)
        self.is_sharded = True


_BOTH = {
    "AttentionMask": AttentionMask,
    "RMSNorm": RMSNorm,
    "LayerNorm": LayerNorm,
    "Rotary": Rotary,
    "SwiGLU": SwiGLU,
}
CELLS = SimpleNamespace(Attention=PagedFlashAttention, Cache=PagedCache, **_BOTH)
CELLS_FLOAT32 = SimpleNamespace(Attention=FlashAttention, Cache=plain.Cache, **_BOTH)
