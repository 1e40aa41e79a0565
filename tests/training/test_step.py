"""The parts of a step against references: learning rate, clipping, what decays."""

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")

from mindspore import Parameter, Tensor, nn, ops  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")


def rates(kind, steps, lr=2.0, warmup=4, total=20):
    from mindspore_osum.training.schedule import WarmupLR

    schedule = WarmupLR(lr, warmup, total, kind)
    return [float(schedule(Tensor(s - 1, ms.int32)).asnumpy()) for s in steps]


def test_the_published_schedule():
    steps = [1, 2, 4, 5, 16, 100]
    published = [2.0 * 4**0.5 * min(s**-0.5, s * 4**-1.5) for s in steps]  # wenet WarmupLR
    assert rates("inverse_sqrt", steps) == pytest.approx(published, rel=1e-6)
    assert rates("inverse_sqrt", [4]) == [2.0]


def test_schedules_that_end():
    steps = [1, 4, 12, 20, 25]
    assert rates("linear", steps) == pytest.approx([0.5, 2.0, 1.0, 0.0, 0.0], abs=1e-6)
    assert rates("cosine", steps) == pytest.approx([0.5, 2.0, 1.0, 0.0, 0.0], abs=1e-6)
    assert rates("cosine", [8])[0] == pytest.approx(1 + np.cos(np.pi / 4), rel=1e-6)


class Quadratic(nn.Cell):
    """0.5 |w - x|^2 + 0.5 |b|^2 as a network with `losses`."""

    def __init__(self):
        super().__init__()
        self.w = Parameter(Tensor(np.array([[3.0, 4.0]], np.float32)), name="w")
        self.bias = Parameter(Tensor(np.array([1.0], np.float32)), name="bias")

    def losses(self, x):
        loss = 0.5 * ops.reduce_sum((self.w - x) ** 2) + 0.5 * ops.reduce_sum(self.bias**2)
        return loss, loss.reshape((1,)), loss.reshape((1,))

    def construct(self, x):
        return self.losses(x)[0]


def step_cell(clip, **over):
    """TrainStep around SGD (rate 1) on the quadratic."""
    pytest.importorskip("mindformers", reason="needs mindformers")
    from mindspore_osum.training.schedule import WarmupLR
    from mindspore_osum.training.step import TrainStep

    net = Quadratic()
    rate = WarmupLR(1.0, 1, 10**9, "linear")
    cell = TrainStep(
        net, nn.SGD(net.trainable_params(), rate), use_clip_grad=True, max_grad_norm=clip, **over
    )
    return net, cell.set_train()


def test_gradients_are_clipped_to_the_norm():
    x = Tensor(np.zeros((1, 2), np.float32))
    net, cell = step_cell(clip=100.0)
    out = [float(v.asnumpy()) for v in cell(x)]
    assert out[0] == pytest.approx(13.0) and out[4] == pytest.approx(26**0.5, rel=1e-6)
    assert np.abs(net.w.asnumpy()).max() < 1e-6  # a whole gradient step reaches the minimum
    net, cell = step_cell(clip=0.5)
    assert float(cell(x)[4].asnumpy()) == pytest.approx(26**0.5, rel=1e-6)  # reported before clipping
    moved = np.concatenate([np.array([3.0, 4.0]) - net.w.asnumpy()[0], 1.0 - net.bias.asnumpy()])
    assert np.linalg.norm(moved) == pytest.approx(0.5, rel=1e-4)
    assert moved == pytest.approx(np.array([3, 4, 1]) * 0.5 / 26**0.5, rel=1e-4)


@pytest.mark.parametrize("ascend", [False, True], ids=["CPU", "Ascend 910B"])
def test_a_step_that_is_not_finite_changes_nothing(ascend):
    net, cell = step_cell(clip=1.0)
    if ascend:  # AllFinite, which it may use there, has no kernel on CPU
        cell.on_cpu, cell.ascend_910b_target, cell.enable_allfinite = False, True, False
    cell(Tensor(np.zeros((1, 2), np.float32)))
    before = net.w.asnumpy().copy()
    for value in (np.nan, np.inf):
        out = cell(Tensor(np.full((1, 2), value, np.float32)))
        assert bool(out[1].asnumpy()) and np.array_equal(net.w.asnumpy(), before)
    assert not bool(cell(Tensor(np.zeros((1, 2), np.float32)))[1].asnumpy())
    assert not np.array_equal(net.w.asnumpy(), before)


def test_micro_batches_are_averaged_and_applied_once():
    net, cell = step_cell(clip=100.0, accumulation=2)
    cell(Tensor(np.array([[1.0, 1.0]], np.float32)))
    assert np.array_equal(net.w.asnumpy(), [[3.0, 4.0]])
    cell(Tensor(np.array([[3.0, 5.0]], np.float32)))
    assert net.w.asnumpy() == pytest.approx(np.array([[2.0, 3.0]]), abs=1e-5)  # minimum of the mean
    cell(Tensor(np.array([[7.0, 7.0]], np.float32)))
    cell(Tensor(np.array([[7.0, 7.0]], np.float32)))
    assert net.w.asnumpy() == pytest.approx(np.array([[7.0, 7.0]]), abs=1e-5)  # nothing left of the first two


class Narrow(nn.Cell):
    """sum(w x) of a bfloat16 weight: the gradient is x, rounded to bfloat16."""

    def __init__(self):
        super().__init__()
        self.w = Parameter(Tensor(np.ones((1, 3), np.float32)).astype(ms.bfloat16), name="w")

    def losses(self, x):
        loss = ops.reduce_sum(ops.cast(self.w, ms.float32) * x)
        return loss, loss.reshape((1,)), loss.reshape((1,))

    def construct(self, x):
        return self.losses(x)[0]


class Seen(nn.Optimizer):
    """Keeps the gradient that it is given."""

    def __init__(self, params, rate):
        super().__init__(rate, params)
        self.seen = Parameter(Tensor(np.zeros((1, 3), np.float32)), name="seen", requires_grad=False)

    def construct(self, grads):
        return ops.assign(self.seen, grads[0])


def test_gradients_of_bfloat16_weights_are_summed_in_float32():
    """In bfloat16 256 + 1 is 256, however many ones follow."""
    pytest.importorskip("mindformers", reason="needs mindformers")
    from mindspore_osum.training.schedule import WarmupLR
    from mindspore_osum.training.step import TrainStep

    net = Narrow()
    optimizer = Seen(net.trainable_params(), WarmupLR(1.0, 1, 10**9, "linear"))
    cell = TrainStep(net, optimizer, accumulation=4, use_clip_grad=True, max_grad_norm=1e9).set_train()
    batches = np.array([[256, 1e-3, 3.1], [1, 1e-3, 2.7], [1, 1e-3, -3.1], [1, 1e-3, 1e-4]], np.float32)
    for _ in range(2):  # the second step begins with nothing
        for x in batches:
            cell(Tensor(x[None]))
        terms = Tensor(batches).astype(ms.bfloat16).astype(ms.float32).asnumpy()
        total = np.zeros(3, np.float32)
        for term in terms:
            total += term
        assert optimizer.seen.asnumpy().tobytes() == (total * np.float32(0.25)).tobytes()
    assert total[0] == 259 and {param.dtype for param in cell.totals} == {ms.float32}
