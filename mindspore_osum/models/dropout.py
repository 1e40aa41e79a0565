"""Dropout (Srivastava et al. 2014) whose masks are a pure function of a counter, so that runs resume exactly.

Notable choices
- The random state of MindSpore's own operator is inside its kernel, so a checkpoint cannot store it. In a
  training network every mask is drawn from (seed, process, cell, counter). The counter comes with the batch,
  as the number of its first row in the run; a parameter carries it to the cells.
- On CPU, which lacks a fused operator with a seed, a mask is a hash of its element indices. The same holds
  where x is sharded over devices: the mask is that of the full x, whatever the layout.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore.ops.auto_generate import dropout_ext_op

from mindspore_osum.models.target import target

COUNTER = "dropout_counter"  # name of the parameter
_ROUNDS = ((16, 0x7FEB352D), (15, 0x846CA68B))  # "lowbias32" (Wellons 2018), a bijection of 32-bit words


class Mix(nn.Cell):
    """Hash each uint32 of a tensor."""

    def __init__(self):
        super().__init__()
        self.xor, self.right, self.mul = ops.BitwiseXor(), ops.RightShift(), ops.Mul()

    def construct(self, bits):
        for shift, factor in _ROUNDS:
            bits = self.xor(bits, self.right(bits, Tensor(shift, ms.uint32)))
            bits = self.mul(bits, Tensor(factor, ms.uint32))
        return self.xor(bits, self.right(bits, Tensor(16, ms.uint32)))

    def shard(self, parts: tuple):
        """Shard the tensor into `parts`, one number per axis."""
        self.xor.shard((parts, parts))
        for op in (self.right, self.mul):
            op.shard((parts, ()))


mix = Mix()


class Dropout(nn.Dropout):
    """nn.Dropout; its masks come from a counter once `count_dropout` has attached one.

    Parameters
    ----------
    p : share of the elements that are zeroed in training; the others are multiplied by 1/(1-p).
    """

    def __init__(self, p: float):
        super().__init__(p=p)
        self.counter, self.salt = None, 0
        self.hashed = target() == "CPU"
        self.add_key, self.mix, self.at_least = ops.Add(), Mix(), ops.GreaterEqual()
        self.mask, self.enlarge = ops.Mul(), ops.Mul()

    def shard(self, parts: tuple):
        """Shard x into `parts`, one number per axis."""
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
    """Attach one new counter to the dropout cells of `model` and return it; None without such cells.

    The caller assigns it before each forward pass. The counter is not a parameter of `model`, so that the
    model's weights stay those of a model folder.
    """
    cells = [cell for _, cell in model.cells_and_names() if isinstance(cell, Dropout)]
    if not cells:
        return None
    # with an axis: a parameter without one is lost between the stages of a pipeline
    counter = Parameter(Tensor([0], ms.int32), name=COUNTER, requires_grad=False)
    salts = np.random.default_rng([seed, rank, *b"dropout"]).integers(0, 2**32, len(cells), np.uint32)
    for cell, salt in zip(cells, salts.tolist(), strict=True):
        cell.salt = salt
        object.__setattr__(cell, "counter", counter)  # nn.Cell's own would register it as a parameter
    return counter


def count_by_stage(stages: list[list[nn.Cell]]) -> ParameterTuple:
    """Attach a separate counter to the dropout cells of each pipeline stage after the first.

    A parameter shared by two stages is sent between them once per step, not once per micro-batch.

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
