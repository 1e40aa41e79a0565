"""Dropout (Srivastava et al. 2014) with masks that are a pure function of a number: runs can be resumed.

Notable choices
- The random state of MindSpore's own operator lives in its kernel, where no checkpoint reaches it. In a
  training network every mask is drawn from (seed, process, cell, number). The number comes with the batch, as
  that of its first row in the run, and a parameter takes it to the cells.
- Where there is no fused operator that takes a seed (CPU), a mask is a hash of its element numbers; so too
  where x is sharded over devices: the mask is that of the whole x then, however it is cut.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore.ops.auto_generate import dropout_ext_op

COUNTER = "dropout_counter"  # name of the parameter
_ROUNDS = ((16, 0x7FEB352D), (15, 0x846CA68B))  # "lowbias32" (Wellons 2018), a bijection of 32-bit words


class Mix(nn.Cell):
    """Scatter the bits of each uint32 of a tensor."""

    def __init__(self):
        super().__init__()
        self.xor, self.right, self.mul = ops.BitwiseXor(), ops.RightShift(), ops.Mul()

    def construct(self, bits):
        for shift, factor in _ROUNDS:
            bits = self.xor(bits, self.right(bits, Tensor(shift, ms.uint32)))
            bits = self.mul(bits, Tensor(factor, ms.uint32))
        return self.xor(bits, self.right(bits, Tensor(16, ms.uint32)))

    def shard(self, parts: tuple):
        """Cut the tensor into `parts`, one number an axis."""
        self.xor.shard((parts, parts))
        for op in (self.right, self.mul):
            op.shard((parts, ()))


mix = Mix()


class Dropout(nn.Dropout):
    """nn.Dropout; with masks from a number once `count_dropout` has tied it to one.

    Parameters
    ----------
    p : share of the elements that are zeroed in training; the others are multiplied by 1/(1-p).
    """

    def __init__(self, p: float):
        super().__init__(p=p)
        self.counter, self.salt = None, 0
        self.hashed = ms.get_context("device_target") == "CPU"
        self.add_key, self.mix, self.at_least = ops.Add(), Mix(), ops.GreaterEqual()
        self.mask, self.enlarge = ops.Mul(), ops.Mul()

    def shard(self, parts: tuple):
        """Cut x into `parts`, one number an axis."""
        self.hashed = True
        self.dropout.shard((parts,))
        self.mix.shard(parts)
        self.add_key.shard((parts, (1,)))
        for op in (self.at_least, self.enlarge):
            op.shard((parts, ()))
        self.mask.shard((parts, parts))

    def construct(self, x):
        if not self.training:
            return x
        if self.counter is None:
            return self.dropout(x)[0]
        key_1 = mix(ops.bitwise_xor(mix(ops.cast(self.counter, ms.uint32)), Tensor(self.salt, ms.uint32)))
        if not self.hashed:
            return dropout_ext_op(x, self.p, ops.cast(key_1.reshape(()), ms.int64), Tensor(0, ms.int64))[0]
        bits = self.mix(self.add_key(Tensor(np.arange(x.size, dtype=np.uint32).reshape(x.shape)), key_1))
        keep = ops.cast(self.at_least(bits, Tensor(int(self.p * 2**32), ms.uint32)), x.dtype)
        return self.enlarge(self.mask(x, keep), 1.0 / (1.0 - self.p))


def count_dropout(model: nn.Cell, seed: int, rank: int) -> Parameter | None:
    """Tie the dropout cells of `model` to one new number; None if it has none.

    The caller assigns it before each forward pass. It is no parameter of `model`, whose weights stay those of
    a model folder.
    """
    cells = [cell for _, cell in model.cells_and_names() if isinstance(cell, Dropout)]
    if not cells:
        return None
    # with an axis: a parameter without one does not survive the way from stage to stage of a pipeline
    counter = Parameter(Tensor([0], ms.int32), name=COUNTER, requires_grad=False)
    salts = np.random.default_rng([seed, rank, *b"dropout"]).integers(0, 2**32, len(cells), np.uint32)
    for cell, salt in zip(cells, salts.tolist(), strict=True):
        cell.salt = salt
        object.__setattr__(cell, "counter", counter)  # nn.Cell's own would register it here
    return counter


def count_by_stage(stages: list[list[nn.Cell]]) -> ParameterTuple:
    """Tie the dropout cells of a pipeline's second stage and later ones to numbers of their own.

    A parameter of two stages would be sent from one to the other once a step, not once a micro-batch.

    Parameters
    ----------
    stages : the cells of each stage.
    """
    others = []
    for number, cells in enumerate(stages[1:], 1):
        others.append(Parameter(Tensor([0], ms.int32), name=f"{COUNTER}_{number}", requires_grad=False))
        for part in cells:
            for _, cell in part.cells_and_names():
                if isinstance(cell, Dropout):
                    object.__setattr__(cell, "counter", others[-1])
    return ParameterTuple(others)
