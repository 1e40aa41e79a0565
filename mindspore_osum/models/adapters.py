"""Adapters from encoder frames to speech tokens: 4x shorter in time, in the decoder's width.

Two forms, with one Transformer behind them, since the text and the code of OSUM-Pangu differ:
- `conv1d`, the released checkpoint's: three causal Conv1d, kernel 3, strides 1, 2, 2 (Geng et al. 2025, 2.1);
- `conv2d`, the text of OSUM-Pangu, section 3.1, eq. 2: two 2-D convolutions over (time, width), each halving
  both, then a linear layer back to the width, as in the usual Conv2dSubsampling4.

Legend: B batch, U encoder frames (20 ms), Z speech tokens (80 ms), D encoder width, C channels.
"""

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindspore_osum.config import AdapterConfig
from mindspore_osum.models.layers import Conv1d, Conv2d, LayerNorm, Linear, TransformerLayer
from mindspore_osum.models.ops import cells, frame_positions, gelu, halved, key_mask, length_mask
from mindspore_osum.models.positions import interleaved_sinusoids
from mindspore_osum.models.whisper import MAX_FRAMES

STRIDES = (1, 2, 2)  # of the conv1d form


class AdapterTransformer(nn.Cell):
    """Linear + LayerNorm, scaled by sqrt(D), sinusoids added, pre-norm layers with ReLU."""

    def __init__(self, d: int, cfg: AdapterConfig, dtype):
        super().__init__()
        self.embed = nn.CellList([Linear(d, d, dtype=dtype), LayerNorm(d, 1e-5, dtype)])
        self.encoders = nn.CellList(
            [
                TransformerLayer(
                    d,
                    cfg.n_heads,
                    cfg.d_ff,
                    key_bias=True,
                    activation="relu",
                    eps=cfg.norm_eps,
                    dropout=cfg.dropout,
                    dtype=dtype,
                )
                for _ in range(cfg.n_layers)
            ]
        )
        self.after_norm = LayerNorm(d, cfg.norm_eps, dtype)
        self.scale, self.attention_mask = float(d) ** 0.5, cells(dtype).attention_mask
        self.positions_ZD = Tensor(interleaved_sinusoids((MAX_FRAMES + 3) // 4, d), dtype)

    def construct(self, x_BZD, len_B):
        z = x_BZD.shape[1]
        x_BZD = self.embed[1](self.embed[0](x_BZD)) * self.scale
        x_BZD = x_BZD + frame_positions(self.positions_ZD, len_B, z)
        mask = self.attention_mask(key_mask(z, len_B), z)
        for layer in self.encoders:
            x_BZD = layer(x_BZD, mask)
        return self.after_norm(x_BZD)


class Conv1dAdapter(nn.Cell):
    """The released form: three causal Conv1d with GELU, Transformer layers, projection."""

    def __init__(self, d_in: int, d_out: int, cfg: AdapterConfig, dtype=ms.float32):
        super().__init__()
        self.conv = nn.CellList([Conv1d(d_in, d_in, 3, stride, (2, 0), dtype) for stride in STRIDES])
        self.transformer = AdapterTransformer(d_in, cfg, dtype)
        self.proj = Linear(d_in, d_out, dtype=dtype)

    def construct(self, x_BUD, len_B):
        """(B, U, D) frames and lengths -> (B, Z, d_out) tokens and lengths, Z = ceil(ceil(U/2)/2).

        With `frame_places` for lengths, those of the tokens; x is zero between recordings.
        """
        x_BDU = x_BUD.transpose((0, 2, 1))
        for conv, stride in zip(self.conv, STRIDES):
            # left padding only: frames beyond the end never reach earlier ones, so they need no mask
            x_BDU = gelu(conv(x_BDU))
            if stride == 2:
                len_B = halved(len_B)
            if len_B.ndim == 2:  # but another recording may follow in the row
                x_BDU = x_BDU * ops.cast(length_mask(x_BDU.shape[2], len_B), x_BDU.dtype).expand_dims(1)
        return self.proj(self.transformer(x_BDU.transpose((0, 2, 1)), len_B)), len_B


class Conv2dAdapter(nn.Cell):
    """The paper's form: two Conv2d with GELU and a linear layer back to the width, then the same."""

    def __init__(self, d_in: int, d_out: int, cfg: AdapterConfig, dtype=ms.float32):
        super().__init__()
        self.conv = nn.CellList(
            [Conv2d(1, cfg.conv_channels, dtype), Conv2d(cfg.conv_channels, cfg.conv_channels, dtype)]
        )
        self.conv_out = Linear(cfg.conv_channels * (((d_in + 1) // 2 + 1) // 2), d_in, dtype=dtype)
        self.transformer = AdapterTransformer(d_in, cfg, dtype)
        self.proj = Linear(d_in, d_out, dtype=dtype)

    def construct(self, x_BUD, len_B):
        """As Conv1dAdapter."""
        x_BCUD = x_BUD.expand_dims(1)
        for conv in self.conv:
            # right padding would let the frames beyond the end in: zero them before each convolution
            keep_BU = ops.cast(length_mask(x_BCUD.shape[2], len_B), x_BCUD.dtype)
            x_BCUD = gelu(conv(x_BCUD * keep_BU.expand_dims(1).expand_dims(-1)))
            len_B = halved(len_B)
        b, _, z, _ = x_BCUD.shape
        x_BZD = self.conv_out(x_BCUD.transpose((0, 2, 1, 3)).reshape((b, z, -1)))
        return self.proj(self.transformer(x_BZD, len_B)), len_B


ADAPTERS = {"conv1d": Conv1dAdapter, "conv2d": Conv2dAdapter}
