"""The cells of models/ by their sizes: what each writes forward, and what its gradient reads and writes.

Legend: N rows (utterances times positions), B utterances, D width, H heads, E head size, L positions.

Notable choices
- The plain forms follow models/ops/plain.py and common.py operator by operator, the fused ones fused.py:
  these keep their inputs and small statistics, the plain ones the factors of each product.
- Where a part does not learn, nothing is kept for its weights: MindSpore prunes gradients nobody asked for.
"""

from mindspore_osum.planning.tape import Block, Tape, Value

F32 = 4  # bytes of a float32
# MindSpore's CPU kernels keep tables of places: two of 8 bytes an element of a broadcast sum or product, and
# one an element of a transpose. Measured there; not assumed of Ascend.
BROADCAST_TABLE, TRANSPOSE_TABLE = 16, 8
CAUSAL_BLOCK = 128  # models/ops/plain.py's
STATISTICS = 2 * 8 * F32  # FlashAttentionScore's maximum and sum of a query: 8 float32 each


class Operators:
    """Operators of one element size on a tape.

    Parameters
    ----------
    width : bytes of an element of weights and activations.
    fused : the operators of models/ops/fused.py, else those of plain.py.
    """

    def __init__(self, tape: Tape, width: int, fused: bool):
        self.tape, self.width, self.fused = tape, width, fused

    def table(self, size: int, each: int = BROADCAST_TABLE) -> None:
        """The CPU kernel of a broadcast or transpose with `size` bytes of output keeps a table."""
        if not self.fused:
            self.tape.tables += size // self.width * each

    def data(self, elements: int, width: int) -> Value:
        """A tensor made from the batch, without gradient: masks, indices."""
        return self.tape.op("data", [], elements * width)

    def same(self, name: str, *inputs: Value, params: int = 0) -> Value:
        """A sum, or what hands its gradient on as it is; as large as the first input."""
        return self.tape.op(
            name, inputs, inputs[0].bytes, lambda dout: [(v, dout) for v in inputs], params=params
        )

    def linear_map(self, name: str, x: Value, size: int) -> Value:
        """A copy, transpose, slice, cast or product with a constant: its gradient is one more of these."""
        return self.tape.op(name, [x], size, lambda dout: [(x, self.tape.step(name, [dout], x.bytes))])

    def copy(self, x: Value) -> Value:
        """The same size, moved."""
        return self.linear_map("copy", x, x.bytes)

    def transposed(self, x: Value) -> Value:
        """The same elements in another order."""
        self.table(2 * x.bytes if x.grad else x.bytes, TRANSPOSE_TABLE)
        return self.copy(x)

    def broadcast(self, x: Value) -> Value:
        """x times a smaller tensor of the batch, which needs no gradient."""
        self.table(2 * x.bytes if x.grad else x.bytes)
        return self.copy(x)

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
        """An elementwise function whose gradient takes `steps` operators from its input or its output."""

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

    def matmul(self, x: Value, d_in: int, d_out: int, learns: bool, width: int | None = None) -> Value:
        """x W^T for x (N, d_in) and a parameter W (d_out, d_in)."""
        width = width or self.width
        n = x.bytes // (d_in * width)
        flops, weight = 2.0 * n * d_in * d_out, d_in * d_out * width

        def gradient(dout: Block):
            if learns:
                self.tape.weight_grad("matmul", [dout, x.block], weight, flops)
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

    def convolution(self, x: Value, d_in: int, d_out: int, kernel: int, outputs: int, learns: bool) -> Value:
        """A convolution with `outputs` places of d_out channels, `kernel` inputs of d_in channels each."""
        flops, weight = 2.0 * outputs * kernel * d_in * d_out, kernel * d_in * d_out * self.width

        def gradient(dout: Block):
            if learns:
                self.tape.weight_grad("convolution", [dout, x.block], weight, flops)
            return [(x, self.tape.step("convolution", [dout], x.bytes, flops, weight) if x.grad else None)]

        y = self.tape.op("convolution", [x], outputs * d_out * self.width, gradient, learns, flops, weight)
        return self.shifted(y, d_out, learns)

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

    def dropout(self, x: Value, p: float) -> Value:
        """Zeroes elements; keeps a mask of a bit an element on Ascend, of an element each on CPU."""
        if p <= 0:
            return x
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
        both = self.tape.op(
            "concat",
            [gate, up],
            gate.bytes + up.bytes,
            lambda dout: [(v, self.tape.step("slice", [dout], v.bytes)) for v in (gate, up)],
        )
        return self.tape.op(
            "swiglu",
            [both],
            up.bytes,
            lambda dout: [(both, self.tape.step("swiglu", [dout, both.block], both.bytes))],
        )

    def rotary(self, x: Value, e: int) -> Value:
        """Rotation of heads of size e in float32; angles need no gradient, so nothing of x is kept."""
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
        for _ in range(4 if x.grad else 2):  # times cos and sin, and so their gradients
            self.table(x.bytes)
        return self.same("add", self.copy(x), self.copy(turned))

    def attention(
        self,
        q: Value,
        k: Value,
        v: Value,
        mask: Value,
        sizes: tuple[int, int, int, int],
        causal: bool = False,
    ) -> Value:
        """softmax(q k^T) v for (queries B*H, positions L, keys S, head size E); heads side by side again.

        Key heads may be fewer than query heads; all operations are those of the query heads. A mask that is
        not causal is of keys alone, or of the whole cache.
        """
        heads, length, keys, e = sizes
        if self.fused:
            flops = 2.0 * heads * length * keys * e
            return self.transposed(self._flash(q, k, v, mask, heads * length, flops))
        if not causal or length <= CAUSAL_BLOCK:
            return self._scores(q, k, v, mask, sizes, causal)
        parts = []
        for first in range(0, length, CAUSAL_BLOCK):  # the keys after a block are nothing to it
            end = min(first + CAUSAL_BLOCK, length)
            rows = end - first
            cut = [self._part(x, end, length) for x in (k, v)]
            some = self._part(self._part(mask, rows, length), end, length)
            parts.append(self._scores(self._part(q, rows, length), *cut, some, (heads, rows, end, e), True))
        return self.tape.op(
            "concat",
            parts,
            q.bytes,
            lambda dout: [(part, self.tape.step("slice", [dout], part.bytes)) for part in parts],
        )

    def _part(self, x: Value, some: int, whole: int) -> Value:
        """`some` of the `whole` positions."""
        return self.linear_map("slice", x, x.bytes * some // whole) if some < whole else x

    def _scores(self, q: Value, k: Value, v: Value, mask: Value, sizes, causal: bool) -> Value:
        heads, length, keys, e = sizes
        scores, size = heads * length * keys, q.bytes
        q = self.copy(q)  # times the scale
        if causal or length == 1:
            score = self.same("mask", self._product(q, k, scores * F32, 2.0 * scores * e), mask)
            self.table(scores * self.width)
        else:  # the mask is one more place of each query and key
            q, k = (self.linear_map("concat", x, x.bytes // e * (e + 1)) for x in (q, k))
            score = self._product(q, k, scores * F32, 2.0 * scores * (e + 1))
        mixed = self._product(self._softmax(score), v, size, 2.0 * scores * e)
        return self.transposed(mixed) if length > 1 else mixed

    def _product(self, a: Value, b: Value, size: int, flops: float) -> Value:
        def gradient(dout: Block):
            for value, other in ((a, b), (b, a)):
                if value.grad:
                    yield value, self.tape.step("batch matmul", [dout, other.block], value.bytes, flops)

        return self.tape.op("batch matmul", [a, b], size, gradient, flops=flops)

    def _softmax(self, x: Value) -> Value:
        def gradient(dout: Block):
            product = self.tape.step("mul", [dout, out.block], x.bytes)
            total = self.tape.step("sum", [product], x.bytes // 64)
            self.table(x.bytes)
            shifted = self.tape.step("sub", [dout, total], x.bytes)
            return [(x, self.tape.step("mul", [shifted, out.block], x.bytes))]

        out = self.tape.op("softmax", [x], x.bytes, gradient)
        return out

    def _flash(self, q: Value, k: Value, v: Value, mask: Value, queries: int, flops: float) -> Value:
        statistics = self.data(queries, STATISTICS)
        inputs = [q, k, v, mask, statistics]

        def gradient(dout: Block):
            reads = [dout, out.block, *(x.block for x in inputs)]
            # the scores once more, and the two gradients of each product
            first = self.tape.step("attention", reads, q.bytes, 5 * flops)
            return [(q, first), *((x, self.tape.step("attention", [first], x.bytes)) for x in (k, v))]

        out = self.tape.op("attention", inputs, q.bytes, gradient, flops=2 * flops)
        return out
