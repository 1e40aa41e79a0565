"""The released convolutions in PyTorch. Legend: B batch, U encoder frames, Z speech tokens, D width."""

from torch import nn
from torch.nn import functional

from mindspore_osum.models.adapters.reference import BaseAdapter


class Adapter(BaseAdapter):
    """Three causal convolutions; the last two halve the frame rate."""

    def __init__(self, cfg, d: int, d_out: int):
        super().__init__(cfg, d, d_out)
        self.conv = nn.ModuleList(nn.Conv1d(d, d, 3, stride) for stride in (1, 2, 2))

    def convolved(self, x_BUD):
        """(B, Z, D)."""
        x_BDU = x_BUD.transpose(1, 2)
        for conv in self.conv:
            x_BDU = functional.gelu(conv(functional.pad(x_BDU, (2, 0))))
        return x_BDU.transpose(1, 2)
