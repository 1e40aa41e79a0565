"""Attention on the tape, in the plain form of models/ops/plain.py and the fused one of fused.py.

Legend: B utterances, L positions, S keys, H heads, E head size.
"""

from mindspore_osum.planning.tape import F32, Block, Value

CAUSAL_BLOCK = 128  # as in models/ops/plain.py
STATISTICS = 2 * 8 * F32  # bytes per query of FlashAttentionScore's maximum and sum: 8 float32 each


class Attention:
    """Attention part of `Operators`."""

    def attention(
        self,
        q: Value,
        k: Value,
        v: Value,
        mask: Value,
        sizes: tuple[int, int, int, int],
        causal: bool = False,
        added: bool = False,
    ) -> Value:
        """softmax(q k^T) v for (queries B*H, positions L, keys S, head size E), with the heads concatenated.

        Key heads may be fewer than query heads; all operations count for the query heads. A mask that is not
        causal has one row of keys, or covers the cache. One that is `added` has all scores, float32, and may
        need a gradient; no fused operator takes it.
        """
        heads, length, keys, e = sizes
        if added:
            return self._scores(q, k, v, mask, sizes, True)
        if self.fused:
            flops = 2.0 * heads * length * keys * e
            return self.transposed(self._flash(q, k, v, mask, heads * length, flops))
        if not causal or length <= CAUSAL_BLOCK:
            return self._scores(q, k, v, mask, sizes, causal)
        parts = []
        for first in range(0, length, CAUSAL_BLOCK):  # a block does not see the keys after it
            end = min(first + CAUSAL_BLOCK, length)
            rows = end - first
            cut = [self._part(x, end, length) for x in (k, v)]
            some = self._part(self._part(mask, rows, length), end, length)
            parts.append(self._scores(self._part(q, rows, length), *cut, some, (heads, rows, end, e), True))
        return self.concat(*parts)

    def _part(self, x: Value, some: int, whole: int) -> Value:
        """A slice of `some` of `whole` positions."""
        return self.linear_map("slice", x, x.bytes * some // whole) if some < whole else x

    def _scores(self, q: Value, k: Value, v: Value, mask: Value, sizes, causal: bool) -> Value:
        heads, length, keys, e = sizes
        scores, size = heads * length * keys, q.bytes
        q = self.copy(q)  # scaling
        if causal or length == 1:
            score = self.same("mask", self.product(q, k, scores * F32, 2.0 * scores * e), mask)
            self.table(scores * self.width)
        else:  # the mask is one more column of each query and key
            q, k = (self.linear_map("concat", x, x.bytes // e * (e + 1)) for x in (q, k))
            score = self.product(q, k, scores * F32, 2.0 * scores * (e + 1))
        mixed = self.product(self._softmax(score), v, size, 2.0 * scores * e)
        return self.transposed(mixed) if length > 1 else mixed

    def product(self, a: Value, b: Value, size: int, flops: float) -> Value:
        """A product of two values, `size` bytes of output."""

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
            # the recomputed scores, and the two gradients of each product
            first = self.tape.step("attention", reads, q.bytes, 5 * flops)
            return [(q, first), *((x, self.tape.step("attention", [first], x.bytes)) for x in (k, v))]

        out = self.tape.op("attention", inputs, q.bytes, gradient, flops=2 * flops)
        return out
