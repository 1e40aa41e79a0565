"""The cells of plain.py with the cache as input and output arrays: pure functions, for exported graphs.

Legend: B batch, L queries, S cache slots, H query heads, K key/value heads, E head size.

Notable choices
- Nothing is written in place: exported graphs share no parameters. A runtime can bind the cache's outputs to
  its inputs to avoid the copy.
- Masks survive float16, to which converters may turn a graph: -1e9 would become minus infinity there, and
  visible keys, 0 times that, NaN.
"""

from types import SimpleNamespace

from mindspore import ops

from mindspore_osum.models.ops import plain

MASKED = -1e4  # exp(MASKED - max) is 0.0 in float32 and float16, as long as scores are below 9,000


class CarriedMask(plain.AttentionMask):
    """As plain.AttentionMask."""

    masked = MASKED


class CarriedAttention(plain.Attention):
    """As plain.Attention, with a `CarriedCache`."""

    def cached(self, q_BLHE, k_BLKE, v_BLKE, mask, k_BKSE, v_BKSE, new_B1S1):
        """As plain.Attention's; returns a new cache."""
        q_BHLE, k_BKLE, v_BKLE = self.heads(q_BLHE), self.heads(k_BLKE), self.heads(v_BLKE)
        length = q_BHLE.shape[2]
        if length > 1:
            out = self.attend(q_BHLE, k_BKLE, v_BKLE, mask)  # a single product, which converters recognise
            rest = (k_BKSE[:, :, length:], v_BKSE[:, :, length:])
            return out, ops.concat((k_BKLE, rest[0]), 2), ops.concat((v_BKLE, rest[1]), 2)
        k_BKSE, v_BKSE = _with_one(new_B1S1, k_BKLE, k_BKSE), _with_one(new_B1S1, v_BKLE, v_BKSE)
        return self.attend(q_BHLE, k_BKSE, v_BKSE, mask), k_BKSE, v_BKSE


def _with_one(new_B1S1, one_BK1E, cache_BKSE):
    """The cache with one new slot written for each sequence."""
    shape = cache_BKSE.shape
    return ops.select(new_B1S1.broadcast_to(shape), one_BK1E.broadcast_to(shape), cache_BKSE)


class CarriedCache(plain.Cache):
    """Layout of keys and values of B sequences of S slots: (B, K, S, E)."""

    masked = MASKED

    def __init__(self, batch: int, places: int, n_kv_heads: int, head_dim: int):
        super().__init__(batch, places, n_kv_heads, head_dim)
        self.shape = (batch, n_kv_heads, places, head_dim)

    def slots(self, place_B1):
        """Mask of the new slot of each sequence: bool (B, 1, S, 1). A prompt fills the first slots."""
        return (self.place_1S == place_B1).expand_dims(1).expand_dims(-1)


_CARRIED = {"AttentionMask": CarriedMask, "Attention": CarriedAttention, "Cache": CarriedCache}
CELLS = SimpleNamespace(**{**vars(plain), **_CARRIED})
