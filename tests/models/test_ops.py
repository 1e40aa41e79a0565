"""Every operator against its formula in float64, and the gradients against torch.

Legend: B batch, L queries, S keys, H query heads, K key heads, E head size, D width, V vocabulary.
"""

import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindspore_osum.models import ops as device_ops
from mindspore_osum.models.graph_nodes import nodes
from mindspore_osum.models.losses import token_losses
from mindspore_osum.models.ops import plain
from tests.models.common import SAME, TOLERANCE, Weighted, error
from tests.models.reference import F, torch

EPS = 0.01  # of the norms, large enough to matter


RMS_NORM, LAYER_NORM, ROTARY = plain.RMSNorm(33, EPS), plain.LayerNorm(33, EPS), plain.Rotary()


def attention(heads, key_heads, head_dim, causal=False, answers=False):
    """Attention with a bool mask; `answers` without the form that trains."""
    cell = plain.Attention(heads, key_heads, head_dim, causal)
    if answers:
        cell.for_answers()

    def attend(q_BHLE, k_BKSE, v_BKSE, hidden_B1LS):
        qkv = [x.transpose((0, 2, 1, 3)) for x in (q_BHLE, k_BKSE, v_BKSE)]
        return cell(*qkv, plain.attention_mask(hidden_B1LS, q_BHLE.shape[2]))

    return attend


def rms_norm(x, weight):
    return RMS_NORM(x, weight)


def layer_norm(x, weight, bias):
    return LAYER_NORM(x, weight, bias)


class Graph(nn.Cell):
    """A function as a compiled graph."""

    def __init__(self, f):
        super().__init__()
        self.f = f

    def construct(self, *inputs):
        return self.f(*inputs)


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape, np.float32)


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def compare_gradients(f, f_torch, weight, *inputs):
    """d sum(f * weight) / d inputs, ours and torch's; returns the largest error."""
    ours = ms.grad(Weighted(f), grad_position=tuple(range(1, 1 + len(inputs))), has_aux=True)
    got, _ = ours(Tensor(weight), *map(Tensor, inputs))
    wanted = [torch.tensor(x, requires_grad=True) for x in inputs]
    (f_torch(*wanted) * torch.tensor(weight)).sum().backward()
    got = got if isinstance(got, tuple) else (got,)
    assert len(got) == len(wanted)
    return max(error(g.asnumpy(), w.grad.numpy()) for g, w in zip(got, wanted))


@pytest.fixture(scope="module", params=[(6, 6), (6, 2), (4, 1)], ids=["plain", "grouped", "one key head"])
def attended(request):
    """Queries, keys, values and a ragged mask."""
    h, k = request.param
    b, length, s, e = 2, 5, 7, 10
    visible = np.random.default_rng(h * k).random((b, 1, length, s)) < 0.6
    visible[..., 0] = True
    return draw(b, h, length, e), draw(b, k, s, e, seed=1), draw(b, k, s, e, seed=2), ~visible


def test_attention_is_its_formula(attended):
    q, k, v, hidden = attended
    heads = q.shape[1]
    want = np.zeros((q.shape[0], q.shape[2], heads, q.shape[3]))
    for b in range(q.shape[0]):
        for h in range(heads):
            key = h * k.shape[1] // heads  # consecutive query heads share a key head
            scores = q[b, h].astype(np.float64) @ k[b, key].T.astype(np.float64) / q.shape[-1] ** 0.5
            scores[hidden[b, 0]] = -np.inf
            want[b, :, h] = softmax(scores) @ v[b, key]
    got = Graph(attention(heads, k.shape[1], q.shape[3]))(*map(Tensor, attended)).asnumpy()
    assert error(got, want.reshape(got.shape)) <= SAME


def test_attention_gradients(attended):
    *qkv, hidden = attended
    b, h, length, e = qkv[0].shape

    def attention_torch(q, k, v):
        k, v = (x.repeat_interleave(h // x.shape[1], dim=1) for x in (k, v))
        out = F.scaled_dot_product_attention(q, k, v, torch.tensor(~hidden))
        return out.transpose(1, 2).reshape(b, length, h * e)

    attend, hidden_ms = attention(h, qkv[1].shape[1], e), Tensor(hidden)

    def masked(q, k, v):
        return attend(q, k, v, hidden_ms)

    assert compare_gradients(masked, attention_torch, draw(b, length, h * e), *qkv) <= SAME


def test_a_masked_key_has_no_weight_at_all():
    q, k, v = draw(1, 2, 3, 4), draw(1, 2, 5, 4), draw(1, 2, 5, 4)
    hidden = np.array([0, 0, 1, 0, 1], bool).reshape(1, 1, 1, 5)
    cell = Graph(attention(2, 2, 4))
    first = cell(*map(Tensor, (q, k, v, hidden))).asnumpy()
    k[:, :, [2, 4]], v[:, :, [2, 4]] = 1e3, -1e6
    assert np.array_equal(first, cell(*map(Tensor, (q, k, v, hidden))).asnumpy())


def test_no_mask_is_the_causal_one():
    q, k, v = draw(1, 2, 5, 4), draw(1, 2, 5, 4), draw(1, 2, 5, 4)
    attend = attention(2, 2, 4)

    def causal(q, k, v):
        return attend(q, k, v, None)

    later = np.triu(np.ones((1, 1, 5, 5), bool), 1)
    want = Graph(attend)(*map(Tensor, (q, k, v, later))).asnumpy()
    assert np.array_equal(Graph(causal)(*map(Tensor, (q, k, v))).asnumpy(), want)


def test_rms_norm():
    x, weight = 3 * draw(2, 5, 33), draw(33, seed=1)

    x64 = x.astype(np.float64)
    want = x64 / np.sqrt((x64 * x64).mean(-1, keepdims=True) + EPS) * weight
    assert error(Graph(rms_norm)(Tensor(x), Tensor(weight)).asnumpy(), want) <= SAME

    def rms_norm_torch(x, weight):
        return F.rms_norm(x, (33,), weight, EPS)

    assert compare_gradients(rms_norm, rms_norm_torch, draw(2, 5, 33, seed=2), x, weight) <= SAME


def test_layer_norm():
    x, weight, bias = 5 + 3 * draw(2, 5, 33), draw(33, seed=1), draw(33, seed=3)

    x64 = x.astype(np.float64)
    d64 = x64 - x64.mean(-1, keepdims=True)
    want = d64 / np.sqrt((d64 * d64).mean(-1, keepdims=True) + EPS) * weight + bias
    assert error(Graph(layer_norm)(*map(Tensor, (x, weight, bias))).asnumpy(), want) <= SAME

    def layer_norm_torch(x, weight, bias):
        return F.layer_norm(x, (33,), weight, bias, EPS)

    out_weight = draw(2, 5, 33, seed=2)
    assert compare_gradients(layer_norm, layer_norm_torch, out_weight, x, weight, bias) <= SAME


@pytest.mark.parametrize("key_heads", [2, 1], ids=["plain", "grouped"])
def test_causal_attention_in_blocks_is_attention(key_heads):
    b, h, length, e = 2, 2, 2 * plain.BLOCK + 37, 4
    qkv = draw(b, h, length, e), draw(b, key_heads, length, e, seed=1), draw(b, key_heads, length, e, seed=2)
    segment = np.random.default_rng(0).integers(0, 3, (b, length)).cumsum(1) // 40
    hidden = Tensor(
        (segment[:, None, :, None] != segment[:, None, None, :]) | np.triu(np.ones((length, length), bool), 1)
    )
    whole, blocks = (attention(h, key_heads, e, causal) for causal in (False, True))
    want, got = (Graph(cell)(*map(Tensor, qkv), hidden).asnumpy() for cell in (whole, blocks))
    assert error(got, want) <= SAME
    weight, grads = Tensor(draw(b, length, h * e)), []
    for cell in (whole, blocks):
        grad = ms.grad(Weighted(cell), grad_position=(1, 2, 3), has_aux=True)
        grads.append(grad(weight, *map(Tensor, qkv), hidden)[0])
    for mine, theirs in zip(*reversed(grads), strict=True):
        assert error(mine.asnumpy(), theirs.asnumpy()) <= SAME


@pytest.mark.parametrize(("large", "masks"), [(plain.LARGE, 3), (1, 3), (1, 1)])
def test_answers_of_a_large_batch_attend_in_blocks(monkeypatch, large, masks):
    """As attention in training, with a mask of keys; the last of three blocks is shorter."""
    b, h, length, keys, e = 3, 2, 25, 11, 4
    qkv = draw(b, h, length, e), draw(b, h, keys, e, seed=1), draw(b, h, keys, e, seed=2)
    hidden = Tensor(np.arange(keys) >= np.array([7, 1, 11])[:masks, None, None, None])
    want = Graph(attention(h, h, e))(*map(Tensor, qkv), hidden).asnumpy()
    monkeypatch.setattr(plain, "LARGE", large)
    answers = Graph(attention(h, h, e, answers=True))
    assert error(answers(*map(Tensor, qkv), hidden).asnumpy(), want) <= SAME
    softmaxes = [node for node in nodes(answers, *map(Tensor, qkv), hidden) if node.name == "Softmax"]
    assert len(softmaxes) == (3 if large == 1 else 1)


@pytest.mark.parametrize("polynomial", [True, False], ids=["polynomial", "erf"])
def test_gelu_is_the_erf_form(polynomial):
    gelu = device_ops.Gelu()
    assert gelu.by_polynomial
    gelu.by_polynomial = polynomial
    x = np.concatenate([np.linspace(-9, 9, 20001), [-1e6, -300, -30, 30, 300, 1e6]]).astype(np.float32)
    want = [float(v) * 0.5 * math.erfc(-float(v) / math.sqrt(2)) for v in x]
    got = Graph(gelu)(Tensor(x)).asnumpy()
    # the tanh form differs by 5e-4
    assert np.abs(got - want).max() <= 1e-6
    some = x[:20001:40]
    assert compare_gradients(gelu, F.gelu, draw(len(some)), some) <= SAME


@pytest.mark.parametrize("theta", [1e4, 1.6e7])
def test_rotary(theta):
    x = draw(2, 5, 3, 12)
    positions = np.array([[0, 1, 2, 3, 4], [7, 100, 2900, 8191, 32767]], np.int32)
    tables = device_ops.RotaryTables(12, theta)

    def rotate(x, positions):
        return ROTARY(x, *tables(positions))

    got = Graph(rotate)(Tensor(x), Tensor(positions)).asnumpy()
    angle = positions[:, :, None, None] * theta ** (-np.arange(0, 12, 2) / 12)
    # the complex form: pair (i, i + E/2) turned by the angle
    turned = (x[..., :6] + 1j * x[..., 6:]) * np.exp(1j * angle)
    want = np.concatenate([turned.real, turned.imag], -1)
    assert error(got[0], want[0]) <= SAME
    # an angle of 32767 rad in float32 is known to 2e-3 rad, in every implementation that uses float32
    assert error(got[1], want[1]) <= 4e-3
    angle_torch = torch.tensor(positions)[:, :, None, None] * torch.tensor(tables.inv_freq.asnumpy())

    def rotate_torch(x):
        one, two = x[..., :6], x[..., 6:]
        cos, sin = angle_torch.cos(), angle_torch.sin()
        return torch.cat([one * cos - two * sin, one * sin + two * cos], -1)

    assert error(got, rotate_torch(torch.tensor(x)).numpy()) <= SAME
    positions_ms = Tensor(positions)

    def rotate_here(x):
        return rotate(x, positions_ms)

    assert compare_gradients(rotate_here, rotate_torch, draw(2, 5, 3, 12, seed=3), x) <= SAME


def test_length_and_key_masks():
    lengths = Tensor([3, 1, 5], ms.int32)
    keep = np.array([[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]], np.float32)

    def both(lengths):
        return device_ops.length_mask(5, lengths), device_ops.key_mask(5, lengths)

    length_mask, key_mask = Graph(both)(lengths)
    assert np.array_equal(length_mask.asnumpy(), keep)
    assert key_mask.shape == (3, 1, 1, 5)
    assert np.array_equal(key_mask.asnumpy()[:, 0, 0], keep == 0)


def test_segment_causal_mask():
    segments = np.array([[1, 1, 2, 2, 2, 0], [3, 1, 1, 1, 2, 2]], np.int32)
    mask = Graph(device_ops.segment_causal_mask)(Tensor(segments)).asnumpy()
    assert mask.shape == (2, 1, 6, 6)
    for b in range(2):
        for query in range(6):
            for key in range(6):
                seen = key <= query and segments[b, key] == segments[b, query]
                assert mask[b, 0, query, key] == (not seen), (b, query, key)


def test_token_losses():
    logits = 5 * draw(2, 6, 9)
    logits[0, 0] += 300  # a large common shift must not overflow
    labels = np.array([[0, 8, -100, 3, 4, -100], [-100, -100, -100, -100, -100, 7]], np.int32)
    loss, count = (out.asnumpy() for out in Graph(token_losses)(Tensor(logits), Tensor(labels)))
    assert np.array_equal(count, (labels != -100).astype(np.float32))
    log_probability = np.log(softmax(logits.astype(np.float64)))
    picked = np.take_along_axis(log_probability, np.maximum(labels, 0)[..., None], -1)[..., 0]
    assert error(loss, -picked * count) <= SAME
    labels_ms = Tensor(labels)

    def losses(x):
        return token_losses(x, labels_ms)[0]

    def losses_torch(x):
        flat = F.cross_entropy(x.reshape(-1, 9), torch.tensor(labels).long().reshape(-1), reduction="none")
        return flat.reshape(2, 6)

    assert compare_gradients(losses, losses_torch, draw(2, 6), logits) <= TOLERANCE
