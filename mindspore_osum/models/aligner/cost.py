"""The aligner on the planner's tape."""

from mindspore_osum.models.aligner.config import AlignerConfig


def aligner(ops, x, cfg: AlignerConfig, d: int, d_out: int, rows: int, frames: int, learns: bool):
    """Speech tokens of width `d_out` of `rows` times `frames` encoder frames; `ops` as in models/cost.py."""
    positions, dims = rows * cfg.tokens(frames), d_out if cfg.dims is None else cfg.dims
    if cfg.frames_per_token > 1:
        x = ops.broadcast(ops.linear_map("sum", x, positions * d * ops.width))
    y = ops.linear(x, d, dims, learns)
    return y if dims == d_out else ops.linear_map("pad", y, positions * d_out * ops.width)
