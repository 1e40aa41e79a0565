"""Whisper encoder (Radford et al. 2022) as used in OSUM: audio is not padded to 30 s.

Legend: B batch, T mel frames (10 ms), U encoder frames (20 ms), F mel bins, D width.

Notable choices
- Padding never changes results: frames beyond an item's end are zeroed after each convolution and masked as
  attention keys. A batch gives the same results as its items one by one, which equal the published model's.
  So a row may hold several recordings (data/batches/packing.py); `frame_places` then replace the lengths.
- Positions are Whisper's sinusoids; OSUM computes them, Whisper itself has them as a table, which published
  files round. Parameter names are the published ones.
"""

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindspore_osum.models.layers import Conv1d, Embedding, LayerNorm, TransformerLayer
from mindspore_osum.models.ops import Gelu, cells, frame_positions, halved, key_mask, length_mask
from mindspore_osum.models.positions import sinusoids
from mindspore_osum.models.whisper.config import MAX_FRAMES, EncoderConfig


class ConvStem(nn.Cell):
    """Two convolutions over mel frames, kernel 3; the second halves the frame rate. Items 0, 2 of `conv`."""

    def __init__(self, cfg: EncoderConfig, dtype):
        super().__init__()
        first = Conv1d(cfg.n_mels, cfg.d_model, 3, 1, (1, 1), dtype)
        second = Conv1d(cfg.d_model, cfg.d_model, 3, 2, (1, 1), dtype)
        self.conv = nn.CellList([first, nn.Identity(), second])  # the published list has its GELU in between
        self.gelu, self.time_last, self.time_first = Gelu(), ops.Transpose(), ops.Transpose()
        self.keep_mel, self.keep = ops.Mul(), ops.Mul()

    def construct(self, mel_BTF, mel_len_B):
        b, t, _ = mel_BTF.shape
        keep_B1T = ops.cast(length_mask(t, mel_len_B), mel_BTF.dtype).reshape((b, 1, t))
        mel_BFT = self.keep_mel(self.time_last(mel_BTF, (0, 2, 1)), keep_B1T)
        x_BDT = self.keep(self.gelu(self.conv[0](mel_BFT)), keep_B1T)
        return self.time_first(self.gelu(self.conv[2](x_BDT)), (0, 2, 1))

    def shard(self, p):
        """Shard the batch."""
        parts = (p.data_parallel, 1, 1)
        for conv in (self.conv[0], self.conv[2]):
            conv.shard(p)
        self.gelu.shard(parts)
        for op in (self.time_last, self.time_first):
            op.shard((parts,))
        for op in (self.keep_mel, self.keep):
            op.shard((parts, parts))


class WhisperEncoder(nn.Cell):
    """Log-mel frames to encoder frames at half the rate.

    Parameters
    ----------
    positions : rows of a table of positions that is a parameter; 0: they are computed.
    """

    def __init__(self, cfg: EncoderConfig, dtype=ms.float32, positions: int = 0):
        super().__init__()
        self.embed = ConvStem(cfg, dtype)
        self.encoders = nn.CellList(
            [
                TransformerLayer(
                    cfg.d_model,
                    cfg.n_heads,
                    cfg.d_ff,
                    key_bias=False,
                    activation="gelu",
                    eps=cfg.norm_eps,
                    dropout=cfg.dropout,
                    dtype=dtype,
                )
                for _ in range(cfg.n_layers)
            ]
        )
        self.after_norm = LayerNorm(cfg.d_model, cfg.norm_eps, dtype)
        self.dtype, self.attention_mask = dtype, cells(dtype).AttentionMask()
        self.add_positions, self.keep, self.is_sharded = ops.Add(), ops.Mul(), False
        self.embed_positions = Embedding(positions, cfg.d_model, dtype) if positions else None
        self.positions_UD = None if positions else Tensor(sinusoids(MAX_FRAMES, cfg.d_model), dtype)

    def construct(self, mel_BTF, mel_len_B):
        """Encode.

        Parameters
        ----------
        mel_BTF : (B, T, n_mels), T <= `cfg.most`; values beyond an item's length are ignored.
        mel_len_B : (B,) int32, frames of each item; or `frame_places` (B, T) of packed rows.

        Returns
        -------
        (B, ceil(T/2), d_model), zero beyond each item's end, and lengths ceil(mel_len/2), or frame places.
        """
        x_BUD = self.embed(ops.cast(mel_BTF, self.dtype), mel_len_B)
        b, frames, d = x_BUD.shape
        len_B = halved(mel_len_B)
        mask = self.attention_mask(key_mask(frames, len_B), frames)
        table_UD = self.positions_UD if self.embed_positions is None else self.embed_positions.weight
        x_BUD = self.add_positions(x_BUD, frame_positions(table_UD, len_B, frames))
        x = x_BUD.reshape((-1, d)) if self.is_sharded else x_BUD
        for layer in self.encoders:
            x = layer(x, mask)
        keep_BU1 = ops.cast(length_mask(frames, len_B), self.dtype).reshape((b, frames, 1))
        return self.keep(self.after_norm(x).reshape((b, frames, d)), keep_BU1), len_B

    def shard(self, p):
        """Shard the batch, heads and inner widths; lengths are not sharded, one per recording."""
        self.is_sharded = True
        parts = (p.data_parallel, 1, 1)
        self.embed.shard(p)
        self.add_positions.shard((parts, (1, 1, 1)))
        self.attention_mask.shard(p)
        for layer in self.encoders:
            layer.shard(p)
        self.after_norm.shard(p.rows)
        self.keep.shard((parts, parts))
