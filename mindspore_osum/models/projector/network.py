"""A convolution that joins encoder frames, and two linear layers, as in WEST's ProjectorCov1d.

Legend: B batch, U encoder frames, Z speech tokens, D encoder width.
"""

import mindspore as ms
from mindspore import nn, ops

from mindspore_osum.models.layers import Conv1d, Linear
from mindspore_osum.models.projector.config import ProjectorConfig


class Projector(nn.Cell):
    """linear2(relu(linear1(relu(conv1d(x)))))."""

    def __init__(self, d_in: int, d_out: int, cfg: ProjectorConfig, dtype=ms.float32):
        super().__init__()
        self.conv1d = Conv1d(d_in, d_in, cfg.stride, cfg.stride, (0, 0), dtype)
        self.linear1 = Linear(d_in, cfg.d_hidden, dtype=dtype)
        self.linear2 = Linear(cfg.d_hidden, d_out, dtype=dtype)
        self.stride, self.relu, self.transpose = cfg.stride, ops.ReLU(), ops.Transpose()

    def construct(self, x_BUD, len_B):
        """(B, U, D) frames and lengths -> (B, Z, d_out) tokens, Z = ceil(U/stride), and how many are whole.

        A token is whole if all its frames are the recording's. One behind these has zeros for the others,
        which the encoder gives behind the end. With `frame_places` (models/ops) instead of lengths, returns
        those of the whole tokens; recordings begin at multiples of the stride.
        """
        b, u, d = x_BUD.shape
        missing = -u % self.stride
        if missing > 0:
            x_BUD = ops.concat((x_BUD, ops.zeros((b, missing, d), x_BUD.dtype)), 1)
        x_BDZ = self.relu(self.conv1d(self.transpose(x_BUD, (0, 2, 1))))
        z_BZD = self.linear2(self.relu(self.linear1(self.transpose(x_BDZ, (0, 2, 1)))))
        if len_B.ndim == 1:
            return z_BZD, len_B // self.stride
        if missing > 0:
            len_B = ops.concat((len_B, ops.full((b, missing), -1, dtype=len_B.dtype)), 1)
        last_BZ = len_B.reshape((b, -1, self.stride))[:, :, self.stride - 1]
        return z_BZD, ops.select(last_BZ >= 0, last_BZ // self.stride, last_BZ)
