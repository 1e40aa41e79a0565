"""The convolutions on the planner's tape."""

from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.adapters.conv1d.config import STRIDES


def convolutions(ops, x, cfg: AdapterConfig, d: int, rows: int, frames: int, learns: bool):
    """Encoder frames to speech tokens in the encoder's width.

    Parameters
    ----------
    ops : `planning.operators.Operators`.
    x : the value of `rows` times `frames` encoder frames of width `d`.
    """
    x = ops.transposed(x)
    for stride in STRIDES:
        frames = -(-frames // stride)
        x = ops.gelu(ops.convolution(x, d, d, 3, rows * frames, learns))
    return ops.transposed(x)
