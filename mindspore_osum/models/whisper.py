"""Whisper encoder (Radford et al. 2022), as OSUM runs it: on the audio as it is, not padded to 30 s.

Legend: B batch, T mel frames (10 ms), U encoder frames (20 ms), F mel bins, D width.

Notable choices
- Padding never changes results: after each convolution the frames beyond an item's end are zeroed, and masked
  as attention keys: a batch equals its members one by one, one item the published model on it alone.
- Positions are Whisper's sinusoids, recomputed and never stored; parameter names are the published ones.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindspore_osum.config import EncoderConfig
from mindspore_osum.models.layers import Conv1d, LayerNorm, TransformerLayer
from mindspore_osum.models.ops import gelu, key_mask, length_mask

MAX_FRAMES = 3000  # encoder frames in the table of positions: 60 s


def sinusoids(length: int, width: int) -> np.ndarray:
    """Whisper's positions: concat(sin, cos) of t * 10000^(-i / (width/2 - 1)); (length, width) float32."""
    step = np.log(10000.0) / (width // 2 - 1)
    # float32 exponents as published, exp without numpy's float32 error: an ulp of rate is 1e-4 rad at 30 s
    rate = np.exp(np.float64(np.float32(-step) * np.arange(width // 2, dtype=np.float32))).astype(np.float32)
    angle = np.arange(length, dtype=np.float32)[:, None] * rate[None, :]
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)


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
        self.dtype = dtype
        self.positions_UD = Tensor(sinusoids(MAX_FRAMES, cfg.d_model), dtype)

    def construct(self, mel_BTF, mel_len_B):
        """Encode.

        Parameters
        ----------
        mel_BTF : (B, T, n_mels), T <= 2 * MAX_FRAMES; what lies beyond an item's length does not matter.
        mel_len_B : (B,) int32, frames of each item.

        Returns
        -------
        (B, ceil(T/2), d_model), zero beyond each item's end, and the lengths ceil(mel_len/2).
        """
        x_BUD = self.embed(ops.cast(mel_BTF, self.dtype), mel_len_B)
        frames = x_BUD.shape[1]
        len_B = (mel_len_B + 1) // 2
        mask_B11U = key_mask(frames, len_B)
        x_BUD = x_BUD + self.positions_UD[:frames].expand_dims(0)
        for layer in self.encoders:
            x_BUD = layer(x_BUD, mask_B11U)
        keep_BU1 = ops.cast(length_mask(frames, len_B), self.dtype).expand_dims(-1)
        return self.after_norm(x_BUD) * keep_BU1, len_B
