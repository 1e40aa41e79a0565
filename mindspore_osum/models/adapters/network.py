"""Adapters from encoder frames to speech tokens: 4x shorter in time, in the decoder's width.

Two forms, with one Transformer behind them, since the text and the code of OSUM-Pangu differ:
- `conv1d`, the released checkpoint's: three causal Conv1d, kernel 3, strides 1, 2, 2 (Geng et al. 2025, 2.1);
- `conv2d`, the text of OSUM-Pangu, section 3.1, eq. 2: two 2-D convolutions over (time, width), each halving
  both, then a linear layer back to the width, as in the usual Conv2dSubsampling4.

Legend: B batch, U encoder frames (20 ms), Z speech tokens (80 ms), D encoder width, C channels.
"""

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.layers import Conv1d, Conv2d, LayerNorm, Linear, TransformerLayer
from mindspore_osum.models.ops import Gelu, cells, frame_positions, halved, key_mask, length_mask
from mindspore_osum.models.positions import interleaved_sinusoids
from mindspore_osum.models.whisper.network import MAX_FRAMES

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
        self.scale, self.attention_mask = float(d) ** 0.5, cells(dtype).AttentionMask()
        self.enlarge, self.add_positions, self.is_cut = ops.Mul(), ops.Add(), False
        self.positions_ZD = Tensor(interleaved_sinusoids((MAX_FRAMES + 3) // 4, d), dtype)

    def construct(self, x_BZD, len_B):
        b, z, d = x_BZD.shape
        x = x_BZD.reshape((-1, d)) if self.is_cut else x_BZD
        x = self.enlarge(self.embed[1](self.embed[0](x)), self.scale)
        x_BZD = self.add_positions(x.reshape((b, z, d)), frame_positions(self.positions_ZD, len_B, z))
        mask = self.attention_mask(key_mask(z, len_B), z)
        x = x_BZD.reshape((-1, d)) if self.is_cut else x_BZD
        for layer in self.encoders:
            x = layer(x, mask)
        return self.after_norm(x).reshape((b, z, d))

    def shard(self, p):
        """As WhisperEncoder's."""
        self.is_cut = True
        self.embed[0].shard(p)
        self.embed[1].shard(p.rows)
        self.enlarge.shard(((p.rows, 1), ()))
        self.add_positions.shard(((p.data_parallel, 1, 1), (1, 1, 1)))
        self.attention_mask.shard(p)
        for layer in self.encoders:
            layer.shard(p)
        self.after_norm.shard(p.rows)


class Conv1dAdapter(nn.Cell):
    """The released form: three causal Conv1d with GELU, Transformer layers, projection."""

    def __init__(self, d_in: int, d_out: int, cfg: AdapterConfig, dtype=ms.float32):
        super().__init__()
        self.conv = nn.CellList([Conv1d(d_in, d_in, 3, stride, (2, 0), dtype) for stride in STRIDES])
        self.gelu, self.time_last, self.time_first = Gelu(), ops.Transpose(), ops.Transpose()
        self.transformer = AdapterTransformer(d_in, cfg, dtype)
        self.proj = Linear(d_in, d_out, dtype=dtype)

    def construct(self, x_BUD, len_B):
        """(B, U, D) frames and lengths -> (B, Z, d_out) tokens and lengths, Z = ceil(ceil(U/2)/2).

        With `frame_places` for lengths, those of the tokens; x is zero between recordings.
        """
        x_BDU = self.time_last(x_BUD, (0, 2, 1))
        for conv, stride in zip(self.conv, STRIDES):
            # left padding only: frames beyond the end never reach earlier ones, so they need no mask
            x_BDU = self.gelu(conv(x_BDU))
            if stride == 2:
                len_B = halved(len_B)
            if len_B.ndim == 2:  # but another recording may follow in the row
                x_BDU = x_BDU * ops.cast(length_mask(x_BDU.shape[2], len_B), x_BDU.dtype).expand_dims(1)
        return self.proj(self.transformer(self.time_first(x_BDU, (0, 2, 1)), len_B)), len_B

    def shard(self, p):
        """As WhisperEncoder's."""
        parts = (p.data_parallel, 1, 1)
        for conv in self.conv:
            conv.shard(p)
        self.gelu.shard(parts)
        for op in (self.time_last, self.time_first):
            op.shard((parts,))
        self.transformer.shard(p)
        self.proj.shard(p)


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
        self.gelu, self.keep, self.time_first = Gelu(), ops.Mul(), ops.Transpose()

    def construct(self, x_BUD, len_B):
        """As Conv1dAdapter."""
        b, u, d = x_BUD.shape
        x_BCUD = x_BUD.reshape((b, 1, u, d))
        for conv in self.conv:
            # right padding would let the frames beyond the end in: zero them before each convolution
            u = x_BCUD.shape[2]
            keep_B1U1 = ops.cast(length_mask(u, len_B), x_BCUD.dtype).reshape((b, 1, u, 1))
            x_BCUD = self.gelu(conv(self.keep(x_BCUD, keep_B1U1)))
            len_B = halved(len_B)
        z = x_BCUD.shape[2]
        x_BZD = self.conv_out(self.time_first(x_BCUD, (0, 2, 1, 3)).reshape((b, z, -1)))
        return self.proj(self.transformer(x_BZD, len_B)), len_B

    def shard(self, p):
        """As WhisperEncoder's."""
        parts = (p.data_parallel, 1, 1, 1)
        for conv in self.conv:
            conv.shard(p)
        self.gelu.shard(parts)
        self.keep.shard((parts, parts))
        self.time_first.shard((parts,))
        self.conv_out.shard(p)
        self.transformer.shard(p)
        self.proj.shard(p)


ADAPTERS = {"conv1d": Conv1dAdapter, "conv2d": Conv2dAdapter}
