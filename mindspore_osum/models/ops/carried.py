"""The cells of plain.py with a cache that goes in and out as arrays: pure functions, for exported graphs.

Legend: B batch, L queries, S cache slots, H query heads, K key/value heads, E head size.

Notable choices
- Nothing is written in place: graphs in files share no parameters, and a runtime that binds the cache's
  outputs to its inputs saves the copy.
"""

from types import SimpleNamespace

from mindspore import ops

from mindspore_osum.models.ops import plain


class CarriedAttention(plain.Attention):
    """As plain.Attention, with a `CarriedCache`."""

    def cached(self, q_BHLE, k_BKLE, v_BKLE, mask, k_BKSE, v_BKSE, new_B1S1):
        """As plain.Attention's; the cache that it returns is another one."""
        length = q_BHLE.shape[2]
        if length > 1:
            out = self.attend(q_BHLE, k_BKLE, v_BKLE, mask)  # in one piece, which converters recognise
            rest = (k_BKSE[:, :, length:], v_BKSE[:, :, length:])
            return out, ops.concat((k_BKLE, rest[0]), 2), ops.concat((v_BKLE, rest[1]), 2)
        k_BKSE, v_BKSE = _with_one(new_B1S1, k_BKLE, k_BKSE), _with_one(new_B1S1, v_BKLE, v_BKSE)
        return self.attend(q_BHLE, k_BKSE, v_BKSE, mask), k_BKSE, v_BKSE


def _with_one(new_B1S1, one_BK1E, cache_BKSE):
    """The cache with the one new slot of each sequence."""
    shape = cache_BKSE.shape
    return ops.select(new_B1S1.broadcast_to(shape), one_BK1E.broadcast_to(shape), cache_BKSE)


class CarriedCache(plain.Cache):
    """Keys and values of B sequences of S slots as they are: (B, K, S, E)."""

    def __init__(self, batch: int, places: int, n_kv_heads: int, head_dim: int):
        super().__init__(batch, places, n_kv_heads, head_dim)
        self.shape = (batch, n_kv_heads, places, head_dim)

    def slots(self, place_B1):
        """Which slot of each sequence is the new one: bool (B, 1, S, 1). A prompt's are the first ones."""
        return (self.place_1S == place_B1).expand_dims(1).expand_dims(-1)


CELLS = SimpleNamespace(**{**vars(plain), "Attention": CarriedAttention, "Cache": CarriedCache})
