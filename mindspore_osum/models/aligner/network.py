"""Means of encoder frames, one linear layer, zeros in the dimensions that it does not reach.

Legend: B batch, U encoder frames, Z speech tokens, K encoder frames of a token, E encoder width, D decoder
width.
"""

import mindspore as ms
from mindspore import nn, ops

from mindspore_osum.models.aligner.config import AlignerConfig
from mindspore_osum.models.layers import Linear
from mindspore_osum.models.ops import length_mask


class Aligner(nn.Cell):
    """The aligner between an encoder of width `d_in` and a decoder of width `d_out`."""

    def __init__(self, d_in: int, d_out: int, cfg: AlignerConfig, dtype=ms.float32):
        super().__init__()
        dims = d_out if cfg.dims is None else cfg.dims
        self.proj = Linear(d_in, dims, dtype=dtype)
        self.span, self.zeros = cfg.frames_per_token, d_out - dims

    def construct(self, x_BUE, len_B):
        """(B, U, E) frames, zero beyond each item's end, and lengths -> (B, Z, D) tokens and lengths.

        With `frame_places` instead of lengths, returns those of the tokens; recordings then begin at whole
        tokens.
        """
        x_BZE, len_B = self.averaged(x_BUE, len_B)
        z_BZD = self.proj(x_BZE)
        if self.zeros > 0:
            z_BZD = ops.concat((z_BZD, ops.zeros((*z_BZD.shape[:2], self.zeros), z_BZD.dtype)), -1)
        return z_BZD, len_B

    def averaged(self, x_BUE, len_B):
        """The mean of every K frames (B, Z, E), of fewer at the end of a recording, and the lengths."""
        if self.span == 1:
            return x_BUE, len_B
        b, u, e = x_BUE.shape
        missing = -u % self.span
        inside_BU = length_mask(u, len_B)
        if missing > 0:
            x_BUE = ops.concat((x_BUE, ops.zeros((b, missing, e), x_BUE.dtype)), 1)
            inside_BU = ops.concat((inside_BU, ops.zeros((b, missing), inside_BU.dtype)), 1)
        sum_BZE = ops.reduce_sum(x_BUE.reshape((b, -1, self.span, e)), 2)
        count_BZ = ops.maximum(ops.reduce_sum(inside_BU.reshape((b, -1, self.span)), 2), 1.0)
        return sum_BZE / ops.cast(count_BZ, sum_BZE.dtype).expand_dims(-1), self.fewer(len_B)

    def fewer(self, len_B):
        """Lengths (B,), or `frame_places` (B, U), of tokens instead of frames."""
        if len_B.ndim == 1:
            return (len_B + (self.span - 1)) // self.span
        first_BZ = len_B[:, :: self.span]
        return ops.select(first_BZ >= 0, first_BZ // self.span, first_BZ)
