"""The projector on the planner's tape."""

from mindspore_osum.models.projector.config import ProjectorConfig


def projector(ops, x, cfg: ProjectorConfig, d: int, d_out: int, rows: int, frames: int, learns: bool):
    """Speech tokens of width `d_out` of `rows` times `frames` encoder frames; `ops` as in models/cost.py."""
    convolved = ops.convolution(ops.transposed(x), d, d, cfg.stride, rows * cfg.tokens(frames), learns)
    y = ops.transposed(ops.unary("relu", convolved, 1, keeps_output=True))
    y = ops.unary("relu", ops.linear(y, d, cfg.d_hidden, learns), 1, keeps_output=True)
    return ops.linear(y, cfg.d_hidden, d_out, learns)
