"""Whisper encoder (Radford et al. 2022), as OSUM runs it: on the audio as it is, not padded to 30 s.

Legend: B batch, T mel frames (10 ms), U encoder frames (20 ms), F mel bins, D width.

Notable choices
- Padding never changes results: after each convolution the frames beyond an item's end are zeroed, and masked
  as attention keys: a batch equals its members one by one, one item the published model on it alone. So a row
  may hold several recordings (data/packing.py); `frame_places` then stand where the lengths do.
- Positions are Whisper's sinusoids, recomputed and never stored; parameter names are the published ones.
"""

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindspore_osum.config import EncoderConfig
from mindspore_osum.models.layers import Conv1d, LayerNorm, TransformerLayer
from mindspore_osum.models.ops import cells, frame_positions, gelu, halved, key_mask, length_mask
from mindspore_osum.models.positions import sinusoids

MAX_FRAMES = 3000  # encoder frames in the table of positions: 60 s


class ConvStem(nn.Cell):
    """Two convolutions over mel frames, kernel 3; the second halves the frame rate. Items 0, 2 of `conv`."""

    def __init__(self, cfg: EncoderConfig, dtype):
        super().__init__()
        first = Conv1d(cfg.n_mels, cfg.d_model, 3, 1, (1, 1), dtype)
        second = Conv1d(cfg.d_model, cfg.d_model, 3, 2, (1, 1), dtype)
        self.conv = nn.CellList([first, nn.Identity(), second])  # the published list has its GELU in between

    def construct(self, mel_BTF, mel_len_B):
        keep_B1T = ops.cast(length_mask(mel_BTF.shape[1], mel_len_B), mel_BTF.dtype).expand_dims(1)
        x_BDT = gelu(self.conv[0](mel_BTF.transpose((0, 2, 1)) * keep_B1T)) * keep_B1T
        return gelu(self.conv[2](x_BDT)).transpose((0, 2, 1))


class WhisperEncoder(nn.Cell):
    """Log-mel frames to encoder frames at half the rate."""

    def __init__(self, cfg: EncoderConfig, dtype=ms.float32):
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
        self.dtype, self.attention_mask = dtype, cells(dtype).attention_mask
        self.positions_UD = Tensor(sinusoids(MAX_FRAMES, cfg.d_model), dtype)

    def construct(self, mel_BTF, mel_len_B):
        """Encode.

        Parameters
        ----------
        mel_BTF : (B, T, n_mels), T <= 2 * MAX_FRAMES; what lies beyond an item's length does not matter.
        mel_len_B : (B,) int32, frames of each item; or `frame_places` (B, T) of packed rows.

        Returns
        -------
        (B, ceil(T/2), d_model), zero beyond each item's end, and the lengths ceil(mel_len/2), or places.
        """
        x_BUD = self.embed(ops.cast(mel_BTF, self.dtype), mel_len_B)
        frames = x_BUD.shape[1]
        len_B = halved(mel_len_B)
        mask = self.attention_mask(key_mask(frames, len_B), frames)
        x_BUD = x_BUD + frame_positions(self.positions_UD, len_B, frames)
        for layer in self.encoders:
            x_BUD = layer(x_BUD, mask)
        keep_BU1 = ops.cast(length_mask(frames, len_B), self.dtype).expand_dims(-1)
        return self.after_norm(x_BUD) * keep_BU1, len_B
