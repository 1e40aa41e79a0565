"""Cells of layers.py shared by several model families, on the planner's tape.

`ops` is always a `planning.operators.Operators`, passed as an argument: models do not import planning.

Legend: B rows, T frames, D width.
"""

HEAD_MULTIPLE = 16  # models/ops/fused.py pads heads to it
CAUSAL_TRIANGLE = 2048**2  # bytes of its constant for prefill, in each layer


def padded_head(size: int) -> int:
    """The size of a head that the fused operators take."""
    return size + -size % HEAD_MULTIPLE


def transformer_layers(
    ops, x, sizes: tuple[int, ...], count: int, learns: bool, *, gelu: bool, dropout: float
):
    """`count` of layers.TransformerLayer on (B, T, D).

    Parameters
    ----------
    sizes : rows, frames, width, heads, inner width.
    gelu : GELU, and keys without a bias (Whisper); otherwise ReLU, and keys with a bias.
    """
    n, frames, *_ = sizes
    mask = ops.data(n * frames * frames, 1) if ops.fused else ops.data(n * frames, ops.F32)
    for _ in range(count):
        x = ops.layer(lambda y: _transformer_layer(ops, y, mask, sizes, learns, gelu, dropout), x)
    return x


def _transformer_layer(ops, x, mask, sizes, learns: bool, gelu: bool, dropout: float):
    (n, frames, d, heads, d_ff), mp = sizes, ops.model_parallel
    y = ops.norm(x, d, learns, centred=True)
    q, k, v = (ops.transposed(ops.linear(y, d, d // mp, learns, not gelu or name != "k")) for name in "qkv")
    y = ops.attention(q, k, v, mask, (n * heads // mp, frames, frames, d // heads))
    x = ops.same("add", x, ops.dropout(ops.linear(y, d // mp, d, learns), dropout, d))
    y = ops.linear(ops.norm(x, d, learns, centred=True), d, d_ff // mp, learns)
    y = ops.gelu(y) if gelu else ops.unary("relu", y, 1, keeps_output=True)
    return ops.same("add", x, ops.dropout(ops.linear(y, d_ff // mp, d, learns), dropout, d))


def low_rank(ops, x, y, rank: int, d_in: int, d_out: int, learns: bool, dropout: float):
    """y plus the LoRA term of layers.Linear for the input x."""
    low = ops.matmul(ops.dropout(x, dropout, d_in), d_in, rank, learns)
    return ops.same("add", y, ops.matmul(ops.copy(low), rank, d_out, learns))
