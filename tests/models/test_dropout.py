"""Dropout masks against the same hash in numpy, and what they depend on."""

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")

from mindspore import Parameter, Tensor, nn, ops  # noqa: E402

from mindspore_osum.models.dropout import COUNTER, Dropout, count_dropout  # noqa: E402

P, SHAPE = 0.3, (40, 50)


@pytest.fixture(scope="module", autouse=True)
def graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")


class Two(nn.Cell):
    """Two dropouts in a row behind a weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = Dropout(P), Dropout(P)
        self.weight = Parameter(Tensor(np.ones(SHAPE, np.float32)), name="weight")

    def construct(self, x):
        return self.second(self.first(x * self.weight))


class Counting(nn.Cell):
    """Output and gradient of the weight; the counter goes on inside, as in the training network."""

    def __init__(self, net, seed=1, rank=0):
        super().__init__()
        self.net, self.draws = net, count_dropout(net, seed, rank)
        self.grad = ops.value_and_grad(self.losses, None, ms.ParameterTuple([net.weight]), has_aux=True)

    def losses(self, x):
        ops.assign_add(self.draws, 1)
        y = self.net(x)
        return ops.reduce_sum(y), y

    def construct(self, x):
        (_, y), grads = self.grad(x)
        return y, grads[0]


def mixed(bits):
    """lowbias32 in numpy."""
    bits = np.atleast_1d(bits).astype(np.uint32)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = (bits ^ (bits >> np.uint32(shift))) * np.uint32(factor)
    return bits ^ (bits >> np.uint32(16))


def kept(cell, counter: int) -> np.ndarray:
    key = mixed(mixed(counter) ^ np.uint32(cell.salt))
    return (mixed(np.arange(np.prod(SHAPE), dtype=np.uint32) + key) >= int(P * 2**32)).reshape(SHAPE)


def run(cell, times: int) -> list:
    cell.set_train()
    x = Tensor(np.full(SHAPE, 2.0, np.float32))
    return [tuple(out.asnumpy() for out in cell(x)) for _ in range(times)]


def test_masks_are_the_hash_of_the_counter_forward_and_backward():
    net = Two()
    cell = Counting(net)
    for counter, (y, grad) in enumerate(run(cell, 3), 1):
        both = kept(net.first, counter) & kept(net.second, counter)
        assert np.allclose(y, 2.0 * both / (1 - P) ** 2, rtol=1e-6)
        assert np.array_equal(y, grad)  # d(sum)/dw = x * mask
    shares = [kept(c, n).mean() for c in (net.first, net.second) for n in range(1, 20)]
    assert abs(np.mean(shares) - (1 - P)) < 0.01
    assert abs(np.mean(kept(net.first, 1) & kept(net.second, 1)) - (1 - P) ** 2) < 0.04


def test_the_counter_alone_brings_a_run_back():
    cell = Counting(Two())
    outputs = run(cell, 3)
    again = Counting(Two())
    again.draws.set_data(Tensor([2], ms.int32))
    assert np.array_equal(run(again, 1)[0][0], outputs[2][0])
    assert not np.array_equal(outputs[1][0], outputs[2][0])


@pytest.mark.parametrize("other", [{"seed": 2}, {"rank": 1}])
def test_seeds_and_processes_draw_their_own(other):
    assert not np.array_equal(run(Counting(Two()), 1)[0][0], run(Counting(Two(), **other), 1)[0][0])


def test_the_counter_is_no_weight_and_evaluation_drops_nothing():
    net = Two()
    cell = Counting(net)
    assert [p.name for p in net.get_parameters()] == ["net.weight"] and cell.draws.name.endswith(COUNTER)
    net.set_train(False)
    assert np.array_equal(net(Tensor(np.ones(SHAPE, np.float32))).asnumpy(), np.ones(SHAPE))
    assert count_dropout(nn.Dense(2, 2), 0, 0) is None


def test_without_a_counter_it_still_drops():
    cell = Dropout(P).set_train()
    y = cell(Tensor(np.ones(SHAPE, np.float32))).asnumpy()
    assert set(np.unique(y)) == {0.0, np.float32(1 / (1 - P))} and abs((y > 0).mean() - (1 - P)) < 0.06
