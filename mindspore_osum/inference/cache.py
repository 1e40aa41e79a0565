"""State that a batch keeps between decoder steps.

Legend: B batch, S cache slots a sequence, P tokens of an opening, V vocabulary.

Notable choices
- The cache is in parameters that the graphs update in place: it is never copied to the host.
- Its rows need no clearing: a slot is written before the mask shows it to any query.
"""

from collections.abc import Sequence
from math import prod

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer


class DecodeState(nn.Cell):
    """What a batch keeps on the device between steps: keys, values, and the penalty of every token.

    Parameters
    ----------
    decoder : defines the cache's form (`new_cache`, `n_layers`, `dtype`) and `vocab_size`.
    batch, slots : sequences, and cache slots of each.
    more : (name, shape, type) of what else is kept (`systems.generation.Generation.states`).
    shared : parameters of another state that come after these.
    prefix : of the parameters' names.

    Attributes
    ----------
    keys_values : parameters (k_0, v_0, k_1, v_1, ...), as `cache` says, then those of `more`.
    cache : the layout of keys and values in them, and which a query sees (models/ops).
    factor_BV : parameter (B*V,) float32, the repetition penalty of each token; 1 for those not generated yet.
    """

    def __init__(
        self,
        decoder,
        batch: int,
        slots: int,
        more: Sequence[tuple] = (),
        shared: Sequence[Parameter] = (),
        prefix: str = "",
    ):
        super().__init__()
        self.batch, self.slots, self.vocab = batch, slots, decoder.vocab_size
        self.cache = decoder.new_cache(batch, slots)
        names = [f"{kind}_{i}" for i in range(decoder.n_layers) for kind in ("key", "value")]
        states = [_state(prefix + name, "zeros", self.cache.shape, decoder.dtype) for name in names]
        states += [_state(prefix + name, "zeros", shape, dtype) for name, shape, dtype in more]
        self.keys_values = ms.ParameterTuple([*states, *shared])
        self.factor_BV = _state(prefix + "factor", "ones", (batch * self.vocab,), ms.float32)
        self.first_token_B = Tensor(np.arange(batch, dtype=np.int32) * self.vocab)
        self.write = ops.ScatterUpdate()

    @staticmethod
    def bytes_for(decoder, batch: int, slots: int, more: Sequence[tuple] = ()) -> int:
        """Bytes of the parameters."""
        cache = [("", decoder.new_cache(batch, slots).shape, decoder.dtype)] * (2 * decoder.n_layers)
        factor = [("", (batch, decoder.vocab_size), ms.float32)]
        return sum(prod(shape) * Tensor(0, dtype).itemsize for _, shape, dtype in [*cache, *more, *factor])

    def free(self):
        """Free the parameters' memory; the cell is useless then.

        MindSpore's compiler may hold the parameters themselves for as long as the process lives.
        """
        self.factor_BV.asnumpy()  # waits for a step that still runs
        for param in (*self.keys_values, self.factor_BV):
            param.set_data(Tensor(np.zeros(1), param.dtype), slice_shape=True)

    def begin(self, opening_BP, penalty_BP):
        """Remember only the opening tokens of the answers; returns every token's penalty (B, V)."""
        ops.assign(self.factor_BV, ops.ones_like(self.factor_BV))
        return self._penalize(opening_BP + self.first_token_B.expand_dims(1), penalty_BP)

    def remember(self, token_B, penalty_B):
        """Remember the generated tokens; returns every token's penalty (B, V)."""
        return self._penalize(self.first_token_B + token_B, penalty_B)

    def _penalize(self, place, penalty):
        factor_BV = self.write(self.factor_BV, place, penalty)
        return factor_BV.reshape((self.batch, self.vocab))


def _state(name: str, fill: str, shape: tuple, dtype) -> Parameter:
    return Parameter(initializer(fill, shape, dtype), name=name, requires_grad=False)
