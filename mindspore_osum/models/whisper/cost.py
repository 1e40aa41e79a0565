"""The encoder on the planner's tape.

Legend: B rows, T mel frames, U encoder frames, D width.
"""

from mindspore_osum.models.cost import transformer_layers
from mindspore_osum.models.whisper.config import EncoderConfig


def encoder(ops, cfg: EncoderConfig, rows: int, frames: int, learns: bool):
    """`rows` times `frames` of log-mel to encoder frames (B, U, D); `ops` as in models/cost.py."""
    half, d = cfg.frames(frames), cfg.d_model
    mel = ops.broadcast(ops.transposed(ops.data(rows * frames * cfg.n_mels, ops.width)))
    x = ops.broadcast(ops.gelu(ops.convolution(mel, cfg.n_mels, d, 3, rows * frames, learns)))
    x = ops.transposed(ops.gelu(ops.convolution(x, d, d, 3, rows * half, learns)))
    ops.table(x.bytes)
    x = ops.same("add", x)  # positions
    sizes = (rows, half, d, cfg.n_heads, cfg.d_ff)
    x = transformer_layers(ops, x, sizes, cfg.n_layers, learns, gelu=True, dropout=cfg.dropout)
    return ops.broadcast(ops.norm(x, d, learns, centred=True))
