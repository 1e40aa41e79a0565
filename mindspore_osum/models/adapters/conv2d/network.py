"""Two 2-D convolutions over (time, width), each halving both, and a linear layer back to the width, as in the
usual Conv2dSubsampling4; then the Transformer and a projection.

Legend: B batch, U encoder frames (20 ms), Z speech tokens (80 ms), D encoder width, C channels.
"""

import mindspore as ms
from mindspore import nn, ops

from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.adapters.transformer import AdapterTransformer
from mindspore_osum.models.layers import Conv2d, Linear
from mindspore_osum.models.ops import Gelu, halved, length_mask


class Adapter(nn.Cell):
    """The adapter of the paper: two Conv2d with GELU, a linear layer, Transformer layers, projection."""

    def __init__(self, d_in: int, d_out: int, cfg: AdapterConfig, dtype=ms.float32):
        super().__init__()
        self.conv = nn.CellList(
            [Conv2d(1, cfg.conv_channels, dtype), Conv2d(cfg.conv_channels, cfg.conv_channels, dtype)]
        )
        self.conv_out = Linear(cfg.conv_channels * (((d_in + 1) // 2 + 1) // 2), d_in, dtype=dtype)
        self.transformer = AdapterTransformer(d_in, cfg, dtype)
        self.proj = Linear(d_in, d_out, dtype=dtype)
        self.gelu, self.keep, self.time_first = Gelu(), ops.Mul(), ops.Transpose()

    def construct(self, x_BUD, len_B):
        """(B, U, D) frames and lengths -> (B, Z, d_out) tokens and lengths, Z = ceil(ceil(U/2)/2).

        With `frame_places` instead of lengths, returns those of the tokens.
        """
        b, u, d = x_BUD.shape
        x_BCUD = x_BUD.reshape((b, 1, u, d))
        for conv in self.conv:
            # right padding lets frames beyond the end affect the last ones: zero them before each convolution
            u = x_BCUD.shape[2]
            keep_B1U1 = ops.cast(length_mask(u, len_B), x_BCUD.dtype).reshape((b, 1, u, 1))
            x_BCUD = self.gelu(conv(self.keep(x_BCUD, keep_B1U1)))
            len_B = halved(len_B)
        z = x_BCUD.shape[2]
        x_BZD = self.conv_out(self.time_first(x_BCUD, (0, 2, 1, 3)).reshape((b, z, -1)))
        return self.proj(self.transformer(x_BZD, len_B)), len_B

    def shard(self, p):
        """As WhisperEncoder.shard."""
        parts = (p.data_parallel, 1, 1, 1)
        for conv in self.conv:
            conv.shard(p)
        self.gelu.shard(parts)
        self.keep.shard((parts, parts))
        self.time_first.shard((parts,))
        self.conv_out.shard(p)
        self.transformer.shard(p)
        self.proj.shard(p)
