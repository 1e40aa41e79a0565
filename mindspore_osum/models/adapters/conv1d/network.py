"""Three causal Conv1d, kernel 3, strides 1, 2, 2, then the Transformer and a projection.

Legend: B batch, U encoder frames (20 ms), Z speech tokens (80 ms), D encoder width.
"""

import mindspore as ms
from mindspore import nn, ops

from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.adapters.conv1d.config import STRIDES
from mindspore_osum.models.adapters.transformer import AdapterTransformer
from mindspore_osum.models.layers import Conv1d, Linear
from mindspore_osum.models.ops import Gelu, halved, length_mask


class Adapter(nn.Cell):
    """The released adapter: three causal Conv1d with GELU, Transformer layers, projection."""

    def __init__(self, d_in: int, d_out: int, cfg: AdapterConfig, dtype=ms.float32):
        super().__init__()
        self.conv = nn.CellList([Conv1d(d_in, d_in, 3, stride, (2, 0), dtype) for stride in STRIDES])
        self.gelu, self.time_last, self.time_first = Gelu(), ops.Transpose(), ops.Transpose()
        self.transformer = AdapterTransformer(d_in, cfg, dtype)
        self.proj = Linear(d_in, d_out, dtype=dtype)

    def construct(self, x_BUD, len_B):
        """(B, U, D) frames and lengths -> (B, Z, d_out) tokens and lengths, Z = ceil(ceil(U/2)/2).

        With `frame_places` instead of lengths, returns those of the tokens; x is zero between recordings.
        """
        x_BDU = self.time_last(x_BUD, (0, 2, 1))
        for conv, stride in zip(self.conv, STRIDES):
            # left padding only: frames beyond the end do not affect earlier ones, so no mask is needed
            x_BDU = self.gelu(conv(x_BDU))
            if stride == 2:
                len_B = halved(len_B)
            if len_B.ndim == 2:  # packed: another recording may follow in the row
                x_BDU = x_BDU * ops.cast(length_mask(x_BDU.shape[2], len_B), x_BDU.dtype).expand_dims(1)
        return self.proj(self.transformer(self.time_first(x_BDU, (0, 2, 1)), len_B)), len_B

    def shard(self, p):
        """As WhisperEncoder.shard."""
        parts = (p.data_parallel, 1, 1)
        for conv in self.conv:
            conv.shard(p)
        self.gelu.shard(parts)
        for op in (self.time_last, self.time_first):
            op.shard((parts,))
        self.transformer.shard(p)
        self.proj.shard(p)
