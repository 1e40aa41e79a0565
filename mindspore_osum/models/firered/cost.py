"""FireRed's encoder on the planner's tape; `ops` as in models/cost.py.

Legend: B rows, T fbank frames, U encoder frames, F bins, C channels, D width, R relative positions (2U - 1).
"""

from functools import partial

from mindspore_osum.models.firered.config import RIGHT_CONTEXT, FireRedConfig, convolved


def encoder(ops, cfg: FireRedConfig, rows: int, frames: int, learns: bool):
    """`rows` times `frames` of fbank to encoder frames (B, U, D)."""
    units, d, c = cfg.frames(frames), cfg.d_model, cfg.conv_channels
    half = convolved(frames + RIGHT_CONTEXT), convolved(cfg.n_mels)  # frames and bins of the first one
    x = ops.data(rows * frames * cfg.n_mels, ops.F32)  # normalised in float32
    x = ops.broadcast(ops.broadcast(ops.broadcast(x)))
    x = ops.linear_map("cast", x, rows * (frames + RIGHT_CONTEXT) * cfg.n_mels * ops.width)
    x = _relu(ops, ops.convolution(x, 1, c, 9, rows * half[0] * half[1], learns))
    x = _relu(ops, ops.convolution(x, c, c, 9, rows * units * cfg.bands, learns))
    x = ops.linear(ops.transposed(x), c * cfg.bands, d, learns)
    mask = ops.data(rows * units, ops.F32)
    for _ in range(cfg.n_layers):
        x = ops.layer(partial(_layer, ops, cfg, mask, rows, units, learns), x)
    return ops.broadcast(x)


def _relu(ops, x):
    return ops.unary("relu", x, 1, keeps_output=True)


def _layer(ops, cfg: FireRedConfig, mask, rows: int, units: int, learns: bool, x):
    x = _feed_forward(ops, cfg, x, learns)
    x = ops.same("add", x, _attention(ops, cfg, mask, rows, units, learns, x))
    x = ops.same("add", x, _convolutions(ops, cfg, rows * units, learns, x))
    return ops.norm(_feed_forward(ops, cfg, x, learns), cfg.d_model, learns, centred=True)


def _feed_forward(ops, cfg: FireRedConfig, x, learns: bool):
    """x and half of a feed-forward of it."""
    y = ops.linear(ops.norm(x, cfg.d_model, learns, centred=True), cfg.d_model, cfg.d_ff, learns)
    y = ops.linear(ops.unary("silu", y, 1, keeps_output=False), cfg.d_ff, cfg.d_model, learns)
    return ops.same("add", x, ops.copy(y))


def _attention(ops, cfg: FireRedConfig, mask, rows: int, units: int, learns: bool, x):
    d, heads, e = cfg.d_model, cfg.n_heads, cfg.d_model // cfg.n_heads
    q, k, v = (ops.matmul(ops.norm(x, d, learns, centred=True), d, d, learns) for _ in "qkv")
    # the positional term: products with all relative positions, of which each row keeps its own
    table = ops.data((2 * units - 1) * d, ops.width)
    p = ops.transposed(ops.matmul(table, d, d, learns))
    p = ops.linear_map("broadcast", p, rows * p.bytes)
    at = ops.transposed(ops.copy(ops.shifted(q, d, learns)))
    scores = rows * heads * units * units
    wide = scores // units * (2 * units - 1)
    term = ops.product(at, p, wide * ops.width, 2.0 * wide * e)
    term = ops.linear_map("concat", term, wide // (2 * units - 1) * 2 * units * ops.width)
    term = ops.linear_map("slice", term, wide * ops.width)
    term = ops.linear_map("slice", term, scores * ops.width)
    bias = ops.same("add", ops.linear_map("cast", term, scores * ops.F32), mask)
    q, k, v = (ops.transposed(y) for y in (ops.shifted(q, d, learns), k, v))
    y = ops.attention(q, k, v, bias, (rows * heads, units, units, e), added=True)
    return ops.matmul(y, d, d, learns)


def _convolutions(ops, cfg: FireRedConfig, count: int, learns: bool, x):
    d, inner = cfg.d_model, 2 * cfg.d_model
    y = ops.matmul(ops.broadcast(ops.norm(x, d, learns, centred=True)), d, 2 * inner, learns)
    half = count * inner * ops.width
    y, gate = (ops.linear_map("split", y, half) for _ in range(2))
    y = ops.transposed(ops.mul(y, ops.unary("sigmoid", gate, 1, keeps_output=True)))
    y = ops.transposed(ops.convolution(y, 1, inner, cfg.kernel, count, learns, bias=False))
    y = ops.unary("silu", ops.norm(y, inner, learns, centred=True), 1, keeps_output=False)
    return ops.matmul(y, inner, d, learns)
