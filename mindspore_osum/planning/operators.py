"""Operators by their sizes: memory and work of each in the forward pass and of its gradient.

A family's `cost.py` describes its cells by calling these operators, as its `network.py` calls those of
models/ops.

Legend: N rows (utterances times positions), B utterances, D width, H heads, E head size, L positions.

Notable choices
- The plain forms follow models/ops/plain.py and common.py operator by operator, the fused ones fused.py.
  Fused operators keep their inputs and small statistics, plain ones the factors of each product.
- Nothing is kept for the weights of frozen parts: MindSpore prunes gradients that are not requested.
"""

from collections.abc import Callable, Sequence

from mindspore_osum.planning.attention import Attention
from mindspore_osum.planning.losses import Losses
from mindspore_osum.planning.tape import F32, GRADIENT, Block, Tape, Value

# MindSpore's CPU kernels keep index tables with entries of 8 bytes: two per element of a broadcast sum or
# product, one per element of a transpose. Measured on CPU; not assumed for Ascend.
BROADCAST_TABLE, TRANSPOSE_TABLE = 16, 8


class Operators(Attention, Losses):
    """Operators of one element size on a tape.

    Parameters
    ----------
    width : bytes per element of weights and activations.
    fused : the operators of models/ops/fused.py, else those of plain.py.
    recompute : layers are recomputed in the backward pass instead of keeping their activations.
    dropping : dropout is on, as in training.
    model_parallel : devices that share heads, inner widths and vocabulary.
    """

    F32 = F32

    def __init__(
        self,
        tape: Tape,
        width: int,
        fused: bool,
        *,
        recompute: bool = False,
        dropping: bool = False,
        model_parallel: int = 1,
    ):
        self.tape, self.width, self.fused = tape, width, fused
        self.recompute, self.dropping, self.model_parallel = recompute, dropping, model_parallel

    def layer(self, part: Callable[[Value], Value], x: Value) -> Value:
        """part(x), a layer; with `recompute` only x is kept."""
        return self.tape.recomputed(part, x) if self.recompute else part(x)

    def table(self, size: int, each: int = BROADCAST_TABLE) -> None:
        """Index table of the CPU kernel of a broadcast or transpose with `size` bytes of output."""
        if not self.fused:
            self.tape.tables += size // self.width * each

    def data(self, elements: int, width: int) -> Value:
        """A tensor derived from the batch, without gradient: masks, indices."""
        return self.tape.op("data", [], elements * width)

    def same(self, name: str, *inputs: Value, params: int = 0) -> Value:
        """A sum, or another operator that passes its gradient on unchanged; as large as the first input."""
        return self.tape.op(
            name, inputs, inputs[0].bytes, lambda dout: [(v, dout) for v in inputs], params=params
        )

    def linear_map(self, name: str, x: Value, size: int) -> Value:
        """A copy, transpose, slice, cast or product with a constant; its gradient is one of these too."""
        return self.tape.op(name, [x], size, lambda dout: [(x, self.tape.step(name, [dout], x.bytes))])

    def copy(self, x: Value) -> Value:
        """A linear map to the same size."""
        return self.linear_map("copy", x, x.bytes)

    def transposed(self, x: Value) -> Value:
        """A transpose."""
        self.table(2 * x.bytes if x.grad else x.bytes, TRANSPOSE_TABLE)
        return self.copy(x)

    def broadcast(self, x: Value) -> Value:
        """x times a smaller tensor of the batch, which needs no gradient."""
        self.table(2 * x.bytes if x.grad else x.bytes)
        return self.copy(x)

    def concat(self, *parts: Value) -> Value:
        """Concatenation of parts."""
        return self.tape.op(
            "concat",
            parts,
            sum(part.bytes for part in parts),
            lambda dout: [(part, self.tape.step("slice", [dout], part.bytes)) for part in parts],
        )

    def select(self, a: Value, b: Value) -> Value:
        """Elements of a or b (same shape), selected by a condition derived from the batch."""
        where, size = self.data(a.bytes // self.width, 1), a.bytes
        return self.tape.op(
            "select",
            [where, a, b],
            size,
            lambda dout: [(v, self.tape.step("select", [dout, where.block], size)) for v in (a, b)],
        )

    def rows_of(self, rows: int, d: int, count: int, learns: bool, more: Sequence[Block] = ()) -> Value:
        """Lookup of `count` rows of a parameter (rows, d); its gradient is summed with those in `more`."""
        size, table = count * d * self.width, rows * d * self.width

        def gradient(dout: Block):
            if more:
                part = self.tape.step("scatter", [dout], table)
                self.tape.weight_grad("add gradients", [part, *more], table)
            else:
                self.tape.weight_grad("scatter", [dout], table)
            return []

        return self.tape.op("gather", [], size, gradient, learns, params=size)

    def arriving(self, elements: int) -> Value:
        """A tensor from the previous pipeline stage, which receives its gradient."""
        return Value(self.data(elements, self.width).block, True)

    def mul(self, a: Value, b: Value) -> Value:
        """a * b; b may be broadcast."""

        def gradient(dout: Block):
            for value, other in ((a, b), (b, a)):
                if value.grad:
                    if other.bytes < dout.bytes:
                        self.table(dout.bytes)
                    grad = self.tape.step("mul", [dout, other.block], dout.bytes)
                    if value.bytes < dout.bytes:
                        grad = self.tape.step("sum", [grad], value.bytes)
                    yield value, grad

        if a.bytes != b.bytes:
            self.table(max(a.bytes, b.bytes))
        return self.tape.op("mul", [a, b], max(a.bytes, b.bytes), gradient)

    def unary(self, name: str, x: Value, steps: int, keeps_output: bool) -> Value:
        """An elementwise function whose gradient takes `steps` operators on its input or output."""

        def gradient(dout: Block):
            grad = (out if keeps_output else x).block
            for _ in range(steps - 1):
                grad = self.tape.step(name, [grad], x.bytes)
            return [(x, self.tape.step(name, [grad, dout], x.bytes))]

        out = self.tape.op(name, [x], x.bytes, gradient)
        return out

    def gelu(self, x: Value) -> Value:
        """x * 0.5 * (1 + erf(x / sqrt 2)), or x * sigmoid(x * polynomial(x^2)) in its plain form."""
        if self.fused:
            erf = self.unary("erf", self.copy(x), 4, keeps_output=False)
            return self.mul(self.copy(x), self.same("add", erf))

        def gradient(dout: Block):
            density = x.block
            for _ in range(4):
                density = self.tape.step("density", [density], x.bytes)
            return [(x, self.tape.step("mul", [density, dout], x.bytes))]

        square = self.tape.step("square", [x.block], x.bytes)
        terms = self.tape.step("mul", [square], x.bytes)
        terms = Value(self.tape.step("polynomial", [terms, square], x.bytes), False)
        return self.mul(x, self.tape.op("sigmoid", [x, terms], x.bytes, gradient))

    def linear(self, x: Value, d_in: int, d_out: int, learns: bool, bias: bool = True) -> Value:
        """x W^T + b."""
        y = self.matmul(x, d_in, d_out, learns)
        return self.shifted(y, d_out, learns, table=False) if bias else y

    def matmul(
        self,
        x: Value,
        d_in: int,
        d_out: int,
        learns: bool,
        width: int | None = None,
        into: list[Block] | None = None,
    ) -> Value:
        """x W^T for x (N, d_in) and a parameter W (d_out, d_in); `into` collects the gradient of a W that is
        used elsewhere too."""
        width = width or self.width
        n = x.bytes // (d_in * width)
        flops, weight = 2.0 * n * d_in * d_out, d_in * d_out * width

        def gradient(dout: Block):
            if learns and into is None:
                self.tape.weight_grad("matmul", [dout, x.block], weight, flops)
            elif learns:
                into.append(self.tape.step("matmul", [dout, x.block], weight, flops, kind=GRADIENT))
            return [(x, self.tape.step("matmul", [dout], x.bytes, flops, weight) if x.grad else None)]

        return self.tape.op("matmul", [x], n * d_out * width, gradient, learns, flops, weight)

    def scaled(self, x: Value, d: int, learns: bool) -> Value:
        """x * weight over the last axis."""

        def gradient(dout: Block):
            if learns:
                product = self.tape.step("mul", [dout, x.block], x.bytes)
                self.tape.weight_grad("sum", [product], d * self.width)
            if x.grad:
                self.table(x.bytes)
            return [(x, self.tape.step("mul", [dout], x.bytes) if x.grad else None)]

        self.table(x.bytes)
        return self.tape.op("mul", [x], x.bytes, gradient, learns)

    def shifted(self, x: Value, d: int, learns: bool, table: bool = True) -> Value:
        """x + bias over the last axis; BiasAdd keeps no table."""

        def gradient(dout: Block):
            if learns:
                self.tape.weight_grad("sum", [dout], d * self.width)
            return [(x, dout)]

        self.table(x.bytes if table else 0)
        return self.tape.op("bias", [x], x.bytes, gradient, learns)

    def convolution(
        self,
        x: Value,
        d_in: int,
        d_out: int,
        kernel: int,
        outputs: int,
        learns: bool,
        bias: bool = True,
    ) -> Value:
        """A convolution with `outputs` positions of d_out channels, each of `kernel` inputs of d_in channels
        (1, where every channel has its own)."""
        flops, weight = 2.0 * outputs * kernel * d_in * d_out, kernel * d_in * d_out * self.width

        def gradient(dout: Block):
            if learns:
                self.tape.weight_grad("convolution", [dout, x.block], weight, flops)
            return [(x, self.tape.step("convolution", [dout], x.bytes, flops, weight) if x.grad else None)]

        y = self.tape.op("convolution", [x], outputs * d_out * self.width, gradient, learns, flops, weight)
        return self.shifted(y, d_out, learns) if bias else y

    def norm(self, x: Value, d: int, learns: bool, centred: bool) -> Value:
        """LayerNorm (centred, with bias) or RMSNorm over the last axis."""
        if self.fused:
            return self._fused_norm(x, d, learns, centred)
        if centred:
            self.table(x.bytes)
            x = self.linear_map("sub mean", x, x.bytes)
        square = self.mul(x, x)
        mean = self.linear_map("mean", square, max(1, x.bytes // d))
        y = self.scaled(self.mul(x, self.unary("rsqrt", mean, 2, keeps_output=True)), d, learns)
        return self.shifted(y, d, learns) if centred else y

    def _fused_norm(self, x: Value, d: int, learns: bool, centred: bool) -> Value:
        rows = x.bytes // (d * self.width)
        statistics = Value(self.tape.step("norm statistics", [], rows * F32 * (1 + centred)), False)

        def gradient(dout: Block):
            if learns:
                self.tape.weight_grad("norm", [dout, x.block, statistics.block], (1 + centred) * d * F32)
            return [(x, self.tape.step("norm", [dout, x.block, statistics.block], x.bytes))]

        return self.tape.op("norm", [x, statistics], x.bytes, gradient, learns)

    def dropout(self, x: Value, p: float, width: int) -> Value:
        """Dropout; keeps a mask of one bit per element on Ascend, of one full element each on CPU.

        Parameters
        ----------
        width : elements of x's last axis; on Ascend all cells of one width and p share a table of masks.
        """
        if p <= 0 or not self.dropping:
            return x
        if self.fused:
            self.tape.dropout.add((width, p))
        elements = x.bytes // self.width
        keep = self.data(elements // 8, 1) if self.fused else self.data(elements, F32)

        def gradient(dout: Block):
            return [(x, self.tape.step("dropout", [dout, keep.block], x.bytes))]

        return self.tape.op("dropout", [x, keep], x.bytes, gradient)

    def swiglu(self, gate: Value, up: Value) -> Value:
        """silu(gate) * up."""
        if not self.fused:
            silu = self.mul(gate, self.unary("sigmoid", gate, 2, keeps_output=True))
            return self.mul(silu, up)
        both = self.concat(gate, up)
        return self.tape.op(
            "swiglu",
            [both],
            up.bytes,
            lambda dout: [(both, self.tape.step("swiglu", [dout, both.block], both.bytes))],
        )

    def rotary(self, x: Value, e: int) -> Value:
        """Rotation of heads of size e in float32; angles need no gradient, so x is not kept."""
        full = x.bytes // self.width * F32
        if self.fused:
            turned = self.linear_map("rotate", self.linear_map("cast", x, full), full)
            return self.linear_map("cast", turned, x.bytes)
        flops = 2.0 * x.bytes // self.width * e
        turned = self.tape.op(
            "matmul",
            [x],
            x.bytes,
            lambda dout: [(x, self.tape.step("matmul", [dout], x.bytes, flops))],
            flops=flops,
        )
        for _ in range(4 if x.grad else 2):  # products with cos and sin, and their gradients
            self.table(x.bytes)
        return self.same("add", self.copy(x), self.copy(turned))
