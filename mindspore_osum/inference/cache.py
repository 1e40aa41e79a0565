"""Static shapes and the key/value cache they allow.

Legend: B batch, S cache places a sequence, V vocabulary.

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

from mindspore_osum.models.llama.network import Decoder

SMALLEST_LENGTH = 64  # sequence positions, of prompts and of caches; a block of models/ops/fused.py
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
    keys_values : parameters (k_0, v_0, k_1, v_1, ...), as `cache` says.
    cache : where keys and values lie in them, and what a query sees of them (models/ops).
    factor_BV : parameter (B*V,) float32, the repetition penalty of each token; 1 for those not generated yet.
    """

    def __init__(self, decoder: Decoder, batch: int, places: int):
        super().__init__()
        table = decoder.model.embed_tokens.weight
        self.batch, self.places, self.vocab = batch, places, table.shape[0]
        self.cache = decoder.new_cache(batch, places)
        names = [f"{kind}_{i}" for i in range(len(decoder.model.layers)) for kind in ("key", "value")]
        states = [_state(name, "zeros", self.cache.shape, table.dtype) for name in names]
        self.keys_values = ms.ParameterTuple(states)
        self.factor_BV = _state("factor", "ones", (batch * self.vocab,), ms.float32)
        self.first_token_B = Tensor(np.arange(batch, dtype=np.int32) * self.vocab)
        self.write = ops.ScatterUpdate()

    def forget_tokens(self):
        """No token has been generated yet."""
        return ops.assign(self.factor_BV, ops.ones_like(self.factor_BV))

    def penalize(self, token_B, penalty_B):
        """Remember the generated tokens; returns every token's penalty (B, V)."""
        factor_BV = self.write(self.factor_BV, self.first_token_B + token_B, penalty_B)
        return factor_BV.reshape((self.batch, self.vocab))


def _state(name: str, fill: str, shape: tuple, dtype) -> Parameter:
    return Parameter(initializer(fill, shape, dtype), name=name, requires_grad=False)
