"""Dropout masks against the same hash, or the same table, in numpy, and what they depend on."""

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")

from mindspore import Parameter, Tensor, nn, ops  # noqa: E402

from mindspore_osum.models.dropout import (  # noqa: E402
    COUNTER,
    HASHED,
    PACKED,
    ROWS,
    SPAN,
    TABLE,
    Dropout,
    count_dropout,
)
from mindspore_osum.models.graph_nodes import nodes  # noqa: E402
from mindspore_osum.models.target import made_for  # noqa: E402

P, SHAPE = 0.3, (40, 50)


@pytest.fixture(scope="module", autouse=True)
def graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")


class Two(nn.Cell):
    """Two dropouts in a row behind a weight."""

    def __init__(self, form=HASHED):
        super().__init__()
        self.first, self.second = Dropout(P, SHAPE[1]), Dropout(P, SHAPE[1])
        self.first.form = self.second.form = form
        self.weight = Parameter(Tensor(np.ones(SHAPE, np.float32)), name="weight")

    def construct(self, x):
        return self.second(self.first(x * self.weight))


class Counting(nn.Cell):
    """Output and gradient of the weight."""

    def __init__(self, net, seed=1, rank=0):
        super().__init__()
        self.net, self.draws = net, count_dropout(net, seed, rank)
        self.grad = ops.value_and_grad(self.losses, None, ms.ParameterTuple([net.weight]), has_aux=True)

    def losses(self, x):
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


def run(cell, times: int, first: int = 1) -> list:
    """Outputs of batches with the numbers `first`, `first` + 1, ..."""
    cell.set_train()
    x, found = Tensor(np.full(SHAPE, 2.0, np.float32)), []
    for number in range(first, first + times):
        cell.draws.begin(number)
        found.append(tuple(out.asnumpy() for out in cell(x)))
    return found


def taken(cell, draws) -> np.ndarray:
    """The rows of the table that a cell takes, as they are defined."""
    numbers = np.tile(draws.rows[0].asnumpy(), 2)[cell.salt % (SPAN // 2) :][: SHAPE[0]]
    return cell.table.asnumpy()[numbers + cell.salt // (SPAN // 2) % TABLE]


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
    assert np.array_equal(run(Counting(Two()), 1, 3)[0][0], outputs[2][0])
    assert not np.array_equal(outputs[1][0], outputs[2][0])


def test_rows_of_a_table_are_a_function_of_the_number_too():
    """What Ascend draws from, where x is sharded."""
    net = Two(ROWS)
    cell = Counting(net)
    (before, _), (y, grad) = run(cell, 2)
    both = taken(net.first, cell.draws) & taken(net.second, cell.draws)
    assert np.allclose(y, 2.0 * both / (1 - P) ** 2, rtol=1e-6) and np.array_equal(y, grad)
    assert not np.array_equal(y, before)
    again, other = run(Counting(Two(ROWS)), 1, 2)[0][0], Counting(Two(ROWS), rank=1)
    assert np.array_equal(again, y)
    assert not np.array_equal(run(other, 1, 2)[0][0], y)
    table = net.first.table.asnumpy()
    assert abs(table.mean() - (1 - P)) < 1e-3
    assert abs(np.corrcoef(table[:-1].reshape(-1), table[1:].reshape(-1))[0, 1]) < 0.01
    drawn = taken(net.first, cell.draws)
    assert abs((drawn & taken(net.second, cell.draws)).mean() - (1 - P) ** 2) < 0.04


def test_more_rows_than_numbers_begin_again_with_the_first():
    cell = Dropout(P, 1)
    cell.form, cell.salt = ROWS, SPAN // 2 - 1
    draws = count_dropout(cell, 1, 0)
    cell.salt = SPAN // 2 - 1  # the last start, without a shift
    draws.begin(5)
    rows = draws.rows[0].asnumpy()
    kept = cell.set_train()(Tensor(np.ones((SPAN, 1), np.float32))).asnumpy()[:, 0] > 0
    want = cell.table.asnumpy()[np.roll(rows, 1 - SPAN // 2), 0]
    assert np.array_equal(kept, want)


@pytest.mark.parametrize("other", [{"seed": 2}, {"rank": 1}])
def test_seeds_and_processes_draw_their_own(other):
    assert not np.array_equal(run(Counting(Two()), 1)[0][0], run(Counting(Two(), **other), 1)[0][0])


def test_the_counter_is_no_weight_and_evaluation_drops_nothing():
    net = Two()
    cell = Counting(net)
    assert [p.name for p in net.get_parameters()] == ["net.weight"] and cell.draws.parameters[
        0
    ].name.endswith(COUNTER)
    net.set_train(False)
    assert np.array_equal(net(Tensor(np.ones(SHAPE, np.float32))).asnumpy(), np.ones(SHAPE))
    assert count_dropout(nn.Dense(2, 2), 0, 0) is None


def test_without_a_counter_it_still_drops():
    cell = Dropout(P, SHAPE[1]).set_train()
    y = cell(Tensor(np.ones(SHAPE, np.float32))).asnumpy()
    assert set(np.unique(y)) == {0.0, np.float32(1 / (1 - P))} and abs((y > 0).mean() - (1 - P)) < 0.06


class Both(nn.Cell):
    """A cell's result and the gradient of its input."""

    def __init__(self, net):
        super().__init__()
        self.value_and_grad = ops.value_and_grad(net, 0)

    def construct(self, x):
        return self.value_and_grad(x)


@pytest.mark.parametrize(("width", "form"), [(256, PACKED), (50, ROWS)])
def test_on_ascend_a_site_is_a_few_operators_none_of_them_in_uint32(width, form):
    """Six with those of the gradient; a hash of every element would be 21, and has products of uint32."""
    x, counts = Tensor(np.ones((16, width), np.float32)), []
    with made_for("Ascend"):
        for sites in (1, 2):
            net = nn.SequentialCell([Dropout(P, width) for _ in range(sites)])
            assert [cell.form for cell in net] == [form] * sites
            count_dropout(net, 1, 0)
            found = nodes(Both(net).set_train(), x)
            types = {value.dtype for node in found for value in (*node.inputs, *node.outputs)}
            assert not {"uint32", "uint64"} & {str(dtype).lower() for dtype in types}
            counts.append(len(found))
    assert counts[1] - counts[0] <= 6, counts
