"""GELU in the exact form that Whisper uses: x * Phi(x), with the normal distribution function Phi.

Notable choices
- Phi(x) = (1 + erf(x / sqrt(2))) / 2. MindSpore's CPU kernel of erf is not vectorised and takes longer than
  the twelve multiplications and additions of Phi(x) = sigmoid(x * Q(x^2)), so that form is used on CPU in
  float32. The polynomial is accurate to 7e-8 in x * Phi(x), below float32 rounding. It was fitted up to
  |x| = 6; beyond that it grows and Phi(x) stays 0 or 1.
"""

import mindspore as ms
from mindspore import nn, ops

from mindspore_osum.models.target import target

# coefficients of Q in x^2, highest power first: least-squares fit of log(Phi(x) / Phi(-x)) / x on 0 < x <= 6,
# with weights adjusted to minimise the largest error of x * Phi(x)
_Q = (
    3.6112343006019975e-09,
    -2.668928847734973e-07,
    7.93821999030042e-06,
    -1.1048032480305657e-04,
    -6.625996134553062e-05,
    7.266856699420207e-02,
    1.5957684322418508,
)
_DENSITY_AT_0 = 0.3989422804014327  # 1 / sqrt(2 pi)


class _Phi(nn.Cell):
    """Phi(x) by the polynomial."""

    def construct(self, x):
        square = x * x
        q = square * _Q[0] + _Q[1]
        for coefficient in _Q[2:]:
            q = q * square + coefficient
        return ops.sigmoid(q * x)


class _NormalCdf(_Phi):
    """With a gradient."""

    def bprop(self, x, out, dout):
        """The normal density."""
        return (dout * (ops.exp(x * x * -0.5) * _DENSITY_AT_0),)


class Gelu(nn.Cell):
    """x * Phi(x) of any x."""

    def __init__(self):
        super().__init__()
        self.halve, self.shrink, self.erf = ops.Mul(), ops.Mul(), ops.Erf()
        self.add, self.mul = ops.Add(), ops.Mul()
        self.cdf = _NormalCdf()
        self.by_polynomial = target() == "CPU"

    def for_answers(self):
        """Without the gradient of its own."""
        self.cdf = _Phi()

    def construct(self, x):
        if self.by_polynomial and x.dtype == ms.float32:
            return self.mul(x, self.cdf(x))
        return self.mul(self.halve(x, 0.5), self.add(self.erf(self.shrink(x, 0.7071067811865476)), 1.0))

    def shard(self, parts: tuple):
        """Shard x into `parts`, one number per axis."""
        self.by_polynomial = False
        for op in (self.halve, self.shrink, self.add):
            op.shard((parts, ()))
        self.erf.shard((parts,))
        self.mul.shard((parts, parts))
