"""The cells of plain.py with the fused operators of Ascend; same arguments and results.

Legend: B batch, L queries, S keys or cache slots, H query heads, K key/value heads, E head size, D width.

Notable choices
- FlashAttentionScore takes the full mask for padded or packed rows. Its TND layout would skip pairs of
  different segments, but needs their ends at compile time, and they change with every batch. For a purely
  causal mask (prefill) it takes the compressed form and skips the upper half.
- The cache is static: KVCacheScatterUpdate writes new keys into its slots, at positions that are on the
  device, and a new token attends by IncreFlashAttention with a mask of the slots. No length is read by the
  host. IncreFlashAttention does not support float32: in float32 decode is plain, all else fused.
- Heads stay the third axis (layouts BSND and BSH): nothing is transposed, and RotaryPositionEmbedding takes
  any number of heads for one position, which it refuses in the layout BNSD.
- Head sizes are padded with zeros to a multiple of 16, as FlashAttentionScore requires.
- The operators accumulate softmax and norms in float32; rotation is called in float32, so that its angles are
  not rounded to the weights' type. LayerNorm is MindSpore's own on every device.
"""

from types import SimpleNamespace

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.ops.auto_generate import (
    AddRmsNorm,
    FlashAttentionScore,
    IncreFlashAttention,
    KVCacheScatterUpdate,
    RmsNorm,
    RotaryPositionEmbedding,
    Swiglu,
)

from mindspore_osum.models.ops import plain

HEAD_MULTIPLE = 16
SLOT_AXIS = -2  # of the cache, for KVCacheScatterUpdate
HIGH_PRECISION = 0  # IncreFlashAttention's inner_precise, for float16
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
        self.padding = -head_dim % HEAD_MULTIPLE
        self.masked = FlashAttentionScore(n_heads, scale_value=self.scale, input_layout="BSND")
        self.causal = FlashAttentionScore(
            n_heads, scale_value=self.scale, input_layout="BSND", sparse_mode=LEFT_UP_CAUSAL
        )
        self.later = Tensor(_LATER)
        self.pad, self.cut = ops.Concat(-1), ops.StridedSlice()

    def padded(self, x_BLHE):
        """Pad each head with zeros: scores are unchanged, and the extra output columns are removed."""
        if self.padding == 0:
            return x_BLHE
        return self.pad((x_BLHE, ops.zeros(x_BLHE.shape[:-1] + (self.padding,), x_BLHE.dtype)))

    def construct(self, q_BLHE, k_BSKE, v_BSKE, mask):
        """As plain.Attention's."""
        return self.attended(self.padded(q_BLHE), self.padded(k_BSKE), self.padded(v_BSKE), mask)

    def attended(self, q_BLHE, k_BSKE, v_BSKE, mask):
        """`construct` of padded heads."""
        if mask is None:
            out = self.causal(q_BLHE, k_BSKE, v_BSKE, None, None, None, self.later, None, None, None)[3]
        else:
            out = self.masked(q_BLHE, k_BSKE, v_BSKE, None, None, None, mask, None, None, None)[3]
        return self.joined(out)

    def keep(self, x_BSKE):
        """As plain.Attention's."""
        return self.padded(x_BSKE)

    def kept_shape(self, batch: int, keys: int) -> tuple[int, ...]:
        """As plain.Attention's."""
        return batch, keys, self.n_kv_heads, self.head_dim + self.padding

    def kept(self, q_BLHE, k_kept, v_kept, mask):
        """As plain.Attention's."""
        return self.attended(self.padded(q_BLHE), k_kept, v_kept, mask)

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
        heads, keys = (dp, queries, mp, 1), (dp, 1, mp, 1)
        self.pad.shard((heads, heads))
        self.masked.shard((heads, keys, keys, (dp, 1, queries, 1)))
        self.causal.shard((heads, keys, keys, (1, 1)))
        self.cut.shard((heads,))


class CachedFlashAttention(FlashAttention):
    """As plain.Attention, with a `StaticCache`; not in float32."""

    def __init__(self, n_heads: int, n_kv_heads: int, head_dim: int, causal: bool = False):
        super().__init__(n_heads, n_kv_heads, head_dim, causal)
        self.write = KVCacheScatterUpdate()
        self.one = IncreFlashAttention(n_heads, "BSH", self.scale, n_kv_heads, inner_precise=HIGH_PRECISION)

    def cached(self, q_BLHE, k_BLKE, v_BLKE, mask, k_cache, v_cache, slots):
        """As plain.Attention's."""
        q_BLHE, k_BLKE, v_BLKE = self.padded(q_BLHE), self.padded(k_BLKE), self.padded(v_BLKE)
        b, length, h, e = q_BLHE.shape
        rows = (b, 1, length, k_BLKE.shape[2] * e)
        written = (
            self.write(k_cache, slots, k_BLKE.reshape(rows), SLOT_AXIS, "update"),
            self.write(v_cache, slots, v_BLKE.reshape(rows), SLOT_AXIS, "update"),
        )
        # what follows reads the caches themselves: order the writes before it
        q_BLHE = ops.depend(q_BLHE, written)
        if length > 1:
            return self.attended(q_BLHE, k_BLKE, v_BLKE, mask), None, None
        keys, values = (ops.depend(x, written).reshape((b, -1, rows[3])) for x in (k_cache, v_cache))
        return self.alone(q_BLHE, keys, values, mask), None, None

    def alone(self, q_B1HE, keys, values, mask):
        """A single padded query with keys and values (B, S, K*E)."""
        b, _, h, e = q_B1HE.shape
        out = self.one(q_B1HE.reshape((b, 1, h * e)), (keys,), (values,), mask)
        return self.joined(out.reshape((b, 1, h, e)))

    def kept(self, q_BLHE, k_kept, v_kept, mask):
        """As plain.Attention's."""
        if q_BLHE.shape[1] > 1:
            return super().kept(q_BLHE, k_kept, v_kept, mask)
        rows = k_kept.shape[:2] + (-1,)
        return self.alone(self.padded(q_BLHE), k_kept.reshape(rows), v_kept.reshape(rows), mask)


class StaticCache(nn.Cell):
    """Layout of keys and values of B sequences of S slots: (B, 1, S, K*E), E padded."""

    def __init__(self, batch: int, places: int, n_kv_heads: int, head_dim: int):
        super().__init__()
        self.shape = (batch, 1, places, n_kv_heads * (head_dim + -head_dim % HEAD_MULTIPLE))
        self.first_B = Tensor(np.zeros(batch, np.int32))
        self.place_1S = Tensor(np.arange(places, dtype=np.int32)[None])

    def slots(self, place_BL):
        """The first slot for new keys at these consecutive positions: (B,); a prompt fills the first ones."""
        return self.first_B if place_BL.shape[1] > 1 else place_BL.reshape((-1,))

    def rows(self, sequence_M):
        """As plain.Cache.rows."""
        return sequence_M

    def seen(self, position_B):
        """The mask of a query at `position_B`, which sees the slots up to its own: bool (B, 1, 1, S)."""
        hidden_BS = self.place_1S > position_B.expand_dims(1)
        return hidden_BS.expand_dims(1).expand_dims(1)


class RMSNorm(nn.Cell):
    """As plain.RMSNorm; weight in x's type."""

    def __init__(self, d: int, eps: float):
        super().__init__()
        self.eps, self.norm, self.add_norm = eps, RmsNorm(eps), AddRmsNorm()

    def construct(self, x, weight):
        return self.norm(x, weight)[0]

    def added(self, x, y, weight):
        """As plain.RMSNorm.added."""
        normed, _, total = self.add_norm(x, y, weight, self.eps)
        return normed, total

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

    def construct(self, x_BLHE, cos_BL1E, sin_BL1E):
        return ops.cast(self.rotate(ops.cast(x_BLHE, ms.float32), cos_BL1E, sin_BL1E, 0), x_BLHE.dtype)

    def shard(self, p):
        """As plain.Rotary.shard."""
        dp, cp = p.data_parallel, p.context_parallel
        angles = (dp, cp, 1, 1)
        self.rotate.shard(((dp, cp, p.model_parallel, 1), angles, angles))


class SwiGLU(plain.SwiGLU):
    """As plain.SwiGLU; also with a sharded width, where every device has its part of both halves of the
    operator's input."""

    def __init__(self):
        super().__init__()
        self.swiglu, self.is_sharded = Swiglu(), False

    def construct(self, gate, up):
        if self.is_sharded:
            return super().construct(gate, up)
        return self.joined(ops.concat((gate, up), -1))

    def joined(self, gate_up):
        """`construct` of both side by side."""
        return self.swiglu(gate_up, -1)

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
    "JOINS": True,
}
CELLS = SimpleNamespace(Attention=CachedFlashAttention, Cache=StaticCache, **_BOTH)
CELLS_FLOAT32 = SimpleNamespace(Attention=FlashAttention, Cache=plain.Cache, **_BOTH)
