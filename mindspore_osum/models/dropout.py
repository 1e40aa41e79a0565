"""Dropout (Srivastava et al. 2014) whose masks are a pure function of a number, so that runs resume exactly.

Notable choices
- The random state of MindSpore's own operators is inside their kernels, so a checkpoint cannot store it. In a
  training network every mask is a function of (seed, process, cell, number), where the number is that of the
  batch's first row in the run. Before a step the host sets what all cells draw from (`Draws.begin`).
- HASHED, on CPU: a mask is a hash of its element indices, in uint32.
- On Ascend uint32 has no products, a hash of every element would take ten passes over memory, and the fused
  operator DropoutExt reads its seed on the host, which waits for the device at every cell. There a table of
  random rows is made once for each width. For each row of x a cell takes one of them: the host draws `SPAN`
  row numbers for a step, and a cell uses them from its own start, moved by its own shift. Two rows of a step
  have the same mask with probability 1 / TABLE, and no step repeats another.
- PACKED, with Ascend's fused operators: the table holds a bit per element, as DropoutDoMask takes them and as
  the backward pass keeps them. ROWS: a byte per element, with operators that can be sharded. The mask of a
  sharded x is that of the full x, whatever the layout.

Legend: N rows of x (all its axes but the last), D its width, R rows of the table.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore.ops.auto_generate import DropoutDoMaskExt

from mindspore_osum.models import ops as device_ops
from mindspore_osum.models.target import has_values, target

COUNTER = "dropout_counter"  # name of the parameter
HASHED, PACKED, ROWS = "hashed", "packed", "rows"
SPAN, TABLE = 1 << 17, 1 << 14  # row numbers of a step, each below TABLE; the table has 2 TABLE rows
ALIGNED = 128  # elements: DropoutDoMask takes masks of a multiple of these
_ROUNDS = ((16, 0x7FEB352D), (15, 0x846CA68B))  # "lowbias32" (Wellons 2018), a bijection of 32-bit words
_BLOCK = 1 << 24  # random numbers drawn at once


def form_for(width: int) -> str:
    """How the masks of an x of this width are made on this device."""
    if device_ops.cells(ms.bfloat16) is not device_ops.plain and width % ALIGNED == 0:
        return PACKED
    return HASHED if target() == "CPU" else ROWS


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


class MaskBits(nn.Cell):
    """x without the elements whose bit is 0, divided by 1-p; its gradient is the same operator."""

    def __init__(self, p: float):
        super().__init__()
        self.p, self.drop = p, DropoutDoMaskExt()

    def construct(self, x, bits):
        return self.drop(x, bits, self.p)

    def bprop(self, x, bits, out, dout):
        """Gradients of x and of the bits."""
        return self.drop(dout, bits, self.p), ops.zeros_like(bits)


class Dropout(nn.Dropout):
    """nn.Dropout; its masks are those of a `Draws` once `count_dropout` has attached one.

    Parameters
    ----------
    p : share of the elements that are zeroed in training; the others are multiplied by 1/(1-p).
    width : of x's last axis.
    """

    def __init__(self, p: float, width: int):
        super().__init__(p=p)
        self.width, self.salt, self.counter, self.table = width, 0, None, None
        self.form = form_for(width)
        self.add_key, self.mix, self.at_least = ops.Add(), Mix(), ops.GreaterEqual()
        self.numbers, self.tile = device_ops.whole(ops.StridedSlice(), 1), device_ops.whole(ops.Tile(), 1)
        self.move, self.take = device_ops.whole(ops.Add(), 1, 0), ops.Gather()
        self.mask, self.enlarge, self.bits = ops.Mul(), ops.Mul(), MaskBits(p)

    def shard(self, parts: tuple):
        """Shard x, which has two axes, into `parts`."""
        self.form = ROWS if self.form == PACKED else self.form
        self.dropout.shard((parts,))
        self.mix.shard(parts)
        self.add_key.shard((parts, (1,)))
        for op in (self.at_least, self.enlarge):
            op.shard((parts, ()))
        self.take.shard(((1, parts[1]), (parts[0],)))
        self.mask.shard((parts, parts))

    def construct(self, x):
        if not self.training:
            return x
        if self.counter is None:
            return self.dropout(x)[0]
        if self.form == PACKED:
            return self.bits(x, self.rows(x).reshape((-1,)))
        keep = ops.cast(self.hashed(x) if self.form == HASHED else self.rows(x).reshape(x.shape), x.dtype)
        return self.enlarge(self.mask(x, keep), 1.0 / (1.0 - self.p))

    def hashed(self, x):
        """Which elements are kept."""
        key_1 = mix(ops.bitwise_xor(mix(ops.cast(self.counter, ms.uint32)), Tensor(self.salt, ms.uint32)))
        bits = self.mix(self.add_key(Tensor(np.arange(x.size, dtype=np.uint32).reshape(x.shape)), key_1))
        return self.at_least(bits, Tensor(int(self.p * 2**32), ms.uint32))

    def rows(self, x):
        """The row of the table for each row of x."""
        first, rows, numbers = self.salt % (SPAN // 2), x.size // self.width, self.counter
        if first + rows > SPAN:
            numbers = self.tile(numbers, ((first + rows - 1) // SPAN + 1,))
        numbers_N = self.numbers(numbers, (first,), (first + rows,), (1,))
        return self.take(self.table, self.move(numbers_N, self.salt // (SPAN // 2) % TABLE), 0)


class Draws:
    """What the masks of a network's cells are drawn from.

    Parameters
    ----------
    seed, rank : of the run, and of this process.

    Attributes
    ----------
    parameters : those that the cells read; no weights of the model.
    """

    def __init__(self, seed: int, rank: int):
        self.seed, self.rank = seed, rank
        self.numbers: list[Parameter] = []  # of hashes
        self.rows: list[Parameter] = []  # of rows in tables
        self.tables: dict[str, Parameter] = {}

    def attach(self, cells: list[Dropout], of: str = "") -> None:
        """Let cells draw from new parameters, whose names end with `of`."""
        for form, of_form in ((HASHED, self.numbers), (ROWS, self.rows)):
            if mine := [cell for cell in cells if (cell.form == HASHED) == (form == HASHED)]:
                # with an axis: a parameter without one is lost between the stages of a pipeline
                shape = (1,) if form == HASHED else (SPAN,)
                name = f"{COUNTER}{'' if form == HASHED else '_rows'}{of}"
                of_form.append(_kept(np.zeros(shape, np.int32), name))
                for cell in mine:
                    # nn.Cell's own would register it as a parameter
                    object.__setattr__(cell, "counter", of_form[-1])
                    if form == ROWS:
                        object.__setattr__(cell, "table", self._table(cell, of))

    def _table(self, cell: Dropout, of: str) -> Parameter:
        """(R, D) uint8, or (R, D/8) of packed bits, lowest first; 1 = kept. All processes have the same."""
        name = f"dropout_table_{cell.width}_{cell.p}_{cell.form}{of}"
        if name not in self.tables:
            rng = np.random.default_rng([self.seed, cell.width, *b"table"])
            shape, step = (2 * TABLE, cell.width), max(1, _BLOCK // cell.width)
            packed = cell.form == PACKED
            table = np.zeros((shape[0], shape[1] // 8 if packed else shape[1]), np.uint8)
            for start in range(0, shape[0], step) if has_values() else ():
                kept = rng.random((len(table[start : start + step]), cell.width), np.float32) >= cell.p
                table[start : start + step] = np.packbits(kept, 1, "little") if packed else kept
            self.tables[name] = _kept(table, name)
        return self.tables[name]

    @property
    def parameters(self) -> ParameterTuple:
        """All parameters."""
        return ParameterTuple([*self.numbers, *self.rows, *self.tables.values()])

    def begin(self, number: int) -> None:
        """Set the number that the next masks are a function of."""
        for param in self.numbers:
            param.set_data(Tensor([number], ms.int32))
        if self.rows:
            rng = np.random.default_rng([self.seed, self.rank, number, *b"rows"])
            rows = rng.integers(0, TABLE, SPAN, np.int32)
            for param in self.rows:
                param.set_data(Tensor(rows))


def _kept(values: np.ndarray, name: str) -> Parameter:
    return Parameter(Tensor(values), name=name, requires_grad=False)


def cells_in(*parts: nn.Cell) -> list[Dropout]:
    """The dropout cells of these cells."""
    return [cell for part in parts for _, cell in part.cells_and_names() if isinstance(cell, Dropout)]


def count_dropout(model: nn.Cell, seed: int, rank: int) -> Draws | None:
    """Attach new Draws to the dropout cells of `model` and return them; None without such cells.

    The caller calls `begin` before each forward pass. The parameters are not the model's, so that its weights
    stay those of a model folder. The cells are sharded before, if at all.
    """
    cells = cells_in(model)
    if not cells:
        return None
    salts = np.random.default_rng([seed, rank, *b"dropout"]).integers(0, 2**32, len(cells), np.uint32)
    for cell, salt in zip(cells, salts.tolist(), strict=True):
        cell.salt = salt
    draws = Draws(seed, rank)
    draws.attach(cells)
    return draws


def count_by_stage(draws: Draws, stages: list[list[nn.Cell]]) -> None:
    """Attach separate parameters to the dropout cells of each pipeline stage after the first.

    A parameter shared by two stages is sent between them once per step, not once per micro-batch.

    Parameters
    ----------
    draws : of the network.
    stages : the cells of each stage.
    """
    for number, cells in enumerate(stages[1:], 1):
        draws.attach(cells_in(*cells), f"_{number}")
