"""Cells as they are in a model that only answers: the same results, in other operators."""

import mindspore as ms
import numpy as np
from mindspore import Tensor

from mindspore_osum.models import ops
from mindspore_osum.models.layers import LayerNorm, Linear
from tests.models.common import SAME, error


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape, np.float32)


def before_and_after(cell, change, *inputs):
    """The results of a cell, and those after a change for answers."""
    first = ms.jit(cell.construct)(*map(Tensor, inputs)).asnumpy()
    change()
    return ms.jit(cell.construct)(*map(Tensor, inputs)).asnumpy(), first


def test_a_norm_of_one_operator():
    cell = LayerNorm(512, 1e-5)
    cell.weight.set_data(Tensor(draw(512)))
    cell.bias.set_data(Tensor(draw(512, seed=1)))
    x = 30 + draw(2, 9, 512)  # far from 0: the variance is a small difference of large numbers
    got, want = before_and_after(cell, cell.norm.for_answers, x)
    x64 = x.astype(np.float64)
    x64 = (x64 - x64.mean(-1, keepdims=True)) / np.sqrt(x64.var(-1, keepdims=True) + 1e-5)
    expected = x64 * cell.weight.asnumpy() + cell.bias.asnumpy()
    assert error(want, expected) <= SAME and error(got, expected) <= 10 * SAME


def test_gelu_without_a_gradient():
    cell = ops.Gelu()
    got, want = before_and_after(cell, cell.for_answers, 3 * draw(7, 33))
    assert np.array_equal(got, want)


def test_transposed_weights():
    cell = Linear(33, 17)
    cell.weight.set_data(Tensor(draw(17, 33)))
    cell.bias.set_data(Tensor(draw(17)))
    x = draw(2, 5, 33)
    got, want = before_and_after(cell, cell.transpose, x)
    assert cell.weight.shape == (33, 17) and error(got, want) <= SAME
    assert error(want, x @ draw(17, 33).T + draw(17)) <= SAME
