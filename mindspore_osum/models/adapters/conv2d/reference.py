"""The convolutions of the paper in PyTorch.

Legend: B batch, U encoder frames, Z speech tokens, C channels, D width.
"""

from torch import nn
from torch.nn import functional

from mindspore_osum.models.adapters.reference import BaseAdapter


class Adapter(BaseAdapter):
    """Two convolutions that halve frame rate and width, and a linear layer back to the width."""

    def __init__(self, cfg, d: int, d_out: int):
        super().__init__(cfg, d, d_out)
        channels = cfg.conv_channels
        self.conv = nn.ModuleList(nn.Conv2d(c, channels, 3, 2, padding=1) for c in (1, channels))
        self.conv_out = nn.Linear(channels * -(-d // 4), d)

    def convolved(self, x_BUD):
        """(B, Z, D)."""
        x_BCUD = x_BUD[:, None]
        for conv in self.conv:
            x_BCUD = functional.gelu(conv(x_BCUD))
        return self.conv_out(x_BCUD.transpose(1, 2).flatten(2))
