"""The convolutions on the planner's tape."""

from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.adapters.conv2d.config import STRIDES


def convolutions(ops, x, cfg: AdapterConfig, d: int, rows: int, frames: int, learns: bool):
    """Encoder frames to speech tokens in the encoder's width; parameters as those of the 1-D kind."""
    channels, width = 1, d
    for stride in STRIDES:
        frames, width = -(-frames // stride), -(-width // stride)
        x = ops.convolution(ops.broadcast(x), channels, cfg.conv_channels, 9, rows * frames * width, learns)
        x, channels = ops.gelu(x), cfg.conv_channels
    return ops.linear(ops.transposed(x), channels * width, d, learns)
