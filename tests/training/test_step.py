"""The parts of a step against references: learning rate, CTC, clipping, what decays."""

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")

from mindspore import Parameter, Tensor, nn, ops  # noqa: E402

from mindspore_osum.text.sequence import IGNORE  # noqa: E402


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


class Gradients(nn.Cell):
    """Gradients of a head's two losses, the second halved, by its frames and weight."""

    def __init__(self, head):
        super().__init__()

        def loss(*args):
            ctc, aligned = head(*args)
            return ctc + 0.5 * aligned

        self.run = ops.value_and_grad(loss, 0, ms.ParameterTuple([head.weight]))

    def construct(self, *args):
        return self.run(*args)


def test_ctc_and_aligned_loss_equal_torch():
    torch = pytest.importorskip("torch", reason="needs torch (extra: reference)")
    from mindspore_osum.training.network import CtcHead

    rng = np.random.default_rng(0)
    b, u, d, vocab, s = 7, 24, 7, 11, 9
    head = CtcHead(d, vocab, seed=1)
    head.bias.set_data(Tensor(rng.standard_normal(vocab + 1).astype(np.float32)))
    h = rng.standard_normal((b, u, d)).astype(np.float32)
    labels = rng.integers(0, vocab, (b, s)).astype(np.int32)
    labels[0, :4] = [3, 3, 3, 5]  # repeats
    labels[1] = 0  # token 0 all along: not the blank
    labels[5, :4] = [3, 3, 3, 5]
    label_len = np.array([4, 9, 1, 0, 9, 4, 5], np.int32)  # one without labels
    frames = np.array([24, 19, 1, 24, 8, 5, 15], np.int32)  # no path: 9 in 8 frames, 4 and 2 blanks in 5
    classes = rng.integers(0, vocab + 1, (b, u)).astype(np.int32)  # spoken at each frame
    classes[rng.random((b, u)) < 0.3] = IGNORE
    classes[2] = IGNORE  # nothing is known
    (loss, (grad_h, (grad_w,))) = Gradients(head)(*map(Tensor, (h, frames, labels, label_len, classes)))

    h_t = torch.tensor(h, requires_grad=True)
    w_t = torch.tensor(head.weight.asnumpy(), requires_grad=True)
    log_p = (h_t @ w_t.T + torch.tensor(head.bias.asnumpy())).log_softmax(-1).transpose(0, 1)
    each = torch.nn.functional.ctc_loss(
        log_p,
        torch.tensor(labels + 1).long(),
        torch.tensor(frames).long(),
        torch.tensor(label_len).long(),
        blank=0,
        reduction="none",
        zero_infinity=True,
    )
    want = (each * torch.tensor(label_len > 0) / torch.tensor(label_len).clamp(min=1)).mean()
    known = torch.tensor(classes != IGNORE)
    picked = log_p.transpose(0, 1).gather(-1, torch.tensor(classes).long().clamp(min=0)[..., None])[..., 0]
    want = want + 0.5 * (-(picked * known).sum(1) / known.sum(1).clamp(min=1)).mean()
    want.backward()
    assert float(loss.asnumpy()) == pytest.approx(want.item(), rel=1e-5)
    for got, reference in ((grad_h, h_t.grad), (grad_w, w_t.grad)):
        error = np.abs(got.asnumpy() - reference.numpy()).max() / np.abs(reference.numpy()).max()
        assert error < 1e-4


class Quadratic(nn.Cell):
    """0.5 |w - x|^2 + 0.5 |b|^2 as a network with `losses`."""

    def __init__(self):
        super().__init__()
        self.w = Parameter(Tensor(np.array([[3.0, 4.0]], np.float32)), name="w")
        self.bias = Parameter(Tensor(np.array([1.0], np.float32)), name="bias")

    def losses(self, x):
        loss = 0.5 * ops.reduce_sum((self.w - x) ** 2) + 0.5 * ops.reduce_sum(self.bias**2)
        return loss, loss, loss

    def construct(self, x):
        return self.losses(x)[0]


def step_cell(clip, **over):
    """OsumTrainOneStepCell around SGD (rate 1) on the quadratic."""
    pytest.importorskip("mindformers", reason="needs mindformers")
    from mindspore_osum.training.schedule import WarmupLR
    from mindspore_osum.training.step import OsumTrainOneStepCell

    net = Quadratic()
    rate = WarmupLR(1.0, 1, 10**9, "linear")
    cell = OsumTrainOneStepCell(
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
