"""Compares buffers of a checkpoint with those that our model computes: positions and rotary frequencies.

A checkpoint trained with other positions must not be converted to a model that computes the standard ones.
"""

import numpy as np

from mindspore_osum.models.forms import Computed, Form
from mindspore_osum.weights_io import Weights

# bfloat16 rounds 1.0 to 0.4 %; float32 angles at row 30000 are off by 0.2 %
_TOLERANCE = 1e-2


def differs(weights: Weights, key: str, form: Form, computed: Computed) -> bool:
    """Whether the buffer `key` of a checkpoint differs from the one computed from the settings in `form`."""
    shape = weights.infos[key].shape
    axes = 1 + (computed.usual > 0)
    if len(shape) < axes or shape[-1] != form.width(computed) or np.prod(shape[:-axes]) != 1:
        return True
    found = weights.read(key).reshape(-1)
    start = 0
    for block in form.blocks(computed, shape[-2] if axes == 2 else 1):
        error = np.abs(found[start : start + block.size] - block)
        if not np.all(error <= _TOLERANCE * (block if computed.relative else 1.0)):
            return True
        start += block.size
    return False
