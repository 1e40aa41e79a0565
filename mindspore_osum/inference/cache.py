"""Static shapes and the key/value cache they allow.

Legend: B batch, L prompt positions, S cache places a sequence, K kv heads, E head size, V vocabulary.

Notable choices
- Lengths are rounded up to buckets, four an octave, so that padding costs at most a quarter and a few graphs
  serve every length; batch sizes to powers of two.
- The cache lives in parameters that the graphs write in place: nothing of it is ever copied to the host.
- Its rows need no clearing: a place is written before the mask lets anybody look at it.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer

from mindspore_osum.config import DecoderConfig
from mindspore_osum.models.ops import MASKED

SMALLEST_LENGTH = 64  # sequence positions, of prompts and of caches
SMALLEST_FRAMES = 128  # mel frames (10 ms)


def bucket(n: int, smallest: int) -> int:
    """The least bucket that holds `n`.

    Buckets are multiples of `smallest`; above 8 * `smallest`, of an eighth of the next power of two.
    """
    step = max(smallest, 1 << max(n - 1, 0).bit_length() >> 3)
    return max(1, -(-n // step)) * step


def batch_bucket(n: int) -> int:
    """The least power of two that holds `n` rows."""
    return 1 << max(n - 1, 0).bit_length()


class DecodeState(nn.Cell):
    """What a batch keeps on the device between steps: keys, values, and the penalty of every token.

    Attributes
    ----------
    keys_values : parameters (k_0, v_0, k_1, v_1, ...), each (B*K*S, E): row (b*K + k)*S + s.
    factor_BV : parameter (B*V,) float32, the repetition penalty of each token; 1 for those not generated yet.
    """

    def __init__(self, cfg: DecoderConfig, batch: int, places: int, dtype):
        super().__init__()
        self.batch, self.places, self.vocab = batch, places, cfg.vocab_size
        shape = (batch * cfg.n_kv_heads * places, cfg.head_dim)
        names = [f"{kind}_{i}" for i in range(cfg.n_layers) for kind in ("key", "value")]
        self.keys_values = ms.ParameterTuple([_state(name, "zeros", shape, dtype) for name in names])
        self.factor_BV = _state("factor", "ones", (batch * self.vocab,), ms.float32)
        heads_BK1 = np.arange(batch * cfg.n_kv_heads, dtype=np.int32).reshape(batch, -1, 1)
        self.first_slot_BK1 = Tensor(heads_BK1 * places)
        self.first_token_B = Tensor(np.arange(batch, dtype=np.int32) * self.vocab)
        self.place_1S = Tensor(np.arange(places, dtype=np.int32)[None])
        self.write = ops.ScatterUpdate()

    def slots(self, place_BL):
        """Cache rows of new keys at these places of each sequence, in (batch, head, position) order."""
        return (self.first_slot_BK1 + place_BL.expand_dims(1)).reshape((-1,))

    def mask(self, position_B):
        """Additive (B, 1, 1, S) mask of a query at `position_B`: it sees the places up to its own."""
        hidden_BS = ops.cast(self.place_1S > position_B.expand_dims(1), ms.float32)
        return (hidden_BS * MASKED).expand_dims(1).expand_dims(1)

    def forget_tokens(self):
        """No token has been generated yet."""
        return ops.assign(self.factor_BV, ops.ones_like(self.factor_BV))

    def penalize(self, token_B, penalty_B):
        """Remember the generated tokens; returns every token's penalty (B, V)."""
        factor_BV = self.write(self.factor_BV, self.first_token_B + token_B, penalty_B)
        return factor_BV.reshape((self.batch, self.vocab))


def _state(name: str, fill: str, shape: tuple, dtype) -> Parameter:
    return Parameter(initializer(fill, shape, dtype), name=name, requires_grad=False)
