"""The heads of training against references: CTC, the words at their frames, labels."""

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")

from mindspore import Tensor, nn, ops  # noqa: E402

from mindspore_osum.systems.osum.heads import CtcHead, LabelHeads  # noqa: E402
from mindspore_osum.tasks import LABEL_SETS  # noqa: E402
from mindspore_osum.text.sequence import IGNORE  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")


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


def test_label_heads_equal_float64_formulas():
    rng, sizes = np.random.default_rng(0), [len(labels.values) for labels in LABEL_SETS.values()]
    z_BZD, z_len_B = rng.standard_normal((5, 7, 12)), np.array([7, 3, 1, 5, 7], np.int32)
    classes_BC = np.stack([rng.integers(0, size, 5) for size in sizes], 1).astype(np.int32)
    classes_BC[rng.random(classes_BC.shape) < 0.4] = IGNORE
    heads = LabelHeads(12, seed=1)
    for param in heads.get_parameters():
        param.set_data(Tensor(rng.standard_normal(param.shape), ms.float32))
    weight, bias = (p.asnumpy().astype(np.float64) for p in (heads.weight, heads.bias))
    want, firsts = 0.0, np.cumsum([0, *sizes])
    for z_ZD, length, classes in zip(z_BZD, z_len_B, classes_BC, strict=True):
        scores = z_ZD[:length].mean(0) @ weight.T + bias
        for first, last, label in zip(firsts, firsts[1:], classes, strict=False):
            if label != IGNORE:
                part = scores[first:last]
                want += np.log(np.exp(part).sum()) - part[label]
    got = heads(Tensor(z_BZD, ms.float32), Tensor(z_len_B), Tensor(classes_BC)).asnumpy()
    assert (classes_BC == IGNORE).any() and got == pytest.approx(want / 5, rel=1e-5)
