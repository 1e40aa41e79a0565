"""Encoder and text decoder on the planner's tape; `ops` as in models/cost.py.

Legend: B rows, T mel frames, U encoder frames, L positions, D width.
"""

from functools import partial

from mindspore_osum.models.cost import CAUSAL_TRIANGLE, padded_head, transformer_layers
from mindspore_osum.models.whisper.config import EncoderConfig, TextDecoderConfig


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


class TextDecoder:
    """Writes the operators of a text decoder of these sizes.

    Parameters
    ----------
    frames : encoder frames of the window (U).
    learns : whether its weights get gradients.
    """

    def __init__(self, ops, cfg: TextDecoderConfig, frames: int, learns: bool = False):
        self.ops, self.cfg, self.frames, self.learns = ops, cfg, frames, learns
        self._table_grads = []  # of the table that embedding and head share

    def memory(self, x, rows: int) -> list[tuple]:
        """Keys and values of the frames x (B, U, D) for each layer."""
        ops, d = self.ops, self.cfg.d_model
        parts = (True, False)  # a bias of values alone
        return [
            tuple(ops.transposed(ops.linear(x, d, d, self.learns, not keys)) for keys in parts)
            for _ in range(self.cfg.n_layers)
        ]

    def layers(self, rows: int, length: int, kept: list[tuple] | None, slots: int = 0):
        """All layers on (B, L, D) after the embeddings, and the last norm.

        Parameters
        ----------
        kept : of `memory`; None if it is in parameters.
        slots : of the cache of a step; 0 for prompts.
        """
        ops, cfg = self.ops, self.cfg
        learns, count = self.learns, rows * length
        x = ops.rows_of(cfg.vocab_size, cfg.d_model, count, learns, self._table_grads)
        x = ops.same("add", x, ops.rows_of(cfg.max_positions, cfg.d_model, count, learns))
        keys = slots or length
        mask = ops.data(rows * length * keys, 1 if ops.fused else ops.F32)
        seen = ops.data(rows * self.frames * (length if ops.fused else 1), 1 if ops.fused else ops.F32)
        sizes = rows, length, keys
        for n in range(cfg.n_layers):
            x = ops.layer(partial(self._layer, mask, seen, sizes, kept and kept[n], slots > 0), x)
        return ops.norm(x, cfg.d_model, learns, centred=True)

    def logits(self, x, count: int):
        """float32 scores of `count` positions of x."""
        cfg, ops, size = self.cfg, self.ops, count * self.cfg.d_model * self.ops.width
        taken = x if size == x.bytes else ops.linear_map("take", ops.copy(x), size)
        scores = ops.matmul(taken, cfg.d_model, cfg.vocab_size, self.learns, into=self._table_grads)
        size = count * cfg.vocab_size * ops.F32
        return scores if ops.width == ops.F32 else ops.linear_map("cast", scores, size)

    def _layer(self, mask, seen, sizes: tuple[int, int, int], kept, cached: bool, x):
        ops, cfg, learns, (rows, length, keys) = self.ops, self.cfg, self.learns, sizes
        d, heads, e = cfg.d_model, cfg.n_heads, cfg.d_model // cfg.n_heads

        def attended(y, k, v, hidden, keys: int, causal: bool):
            q = ops.transposed(ops.linear(y, d, d, learns))
            y = ops.attention(q, k, v, hidden, (rows * heads, length, keys, e), causal=causal)
            return ops.same("add", x, ops.linear(y, d, d, learns))

        def stored(positions: int):
            return (ops.data(rows * positions * d, ops.width) for _ in "kv")

        y = ops.norm(x, d, learns, centred=True)
        k, v = (ops.transposed(ops.linear(y, d, d, learns, name == "v")) for name in "kv")
        if cached:  # in parameters
            k, v = stored(keys)
        x = attended(y, k, v, mask, keys, not cached)
        k, v = kept or stored(self.frames)
        x = attended(ops.norm(x, d, learns, centred=True), k, v, seen, self.frames, False)
        y = ops.linear(ops.norm(x, d, learns, centred=True), d, cfg.d_ff, learns)
        return ops.same("add", x, ops.linear(ops.gelu(y), cfg.d_ff, d, learns))


def cache_bytes(cfg: TextDecoderConfig, rows: int, slots: int, width: int, fused: bool) -> int:
    """Bytes of the keys and values of all layers, `width` bytes per element."""
    e = cfg.d_model // cfg.n_heads
    return 2 * cfg.n_layers * rows * slots * cfg.n_heads * (padded_head(e) if fused else e) * width


def constant_bytes(cfg: TextDecoderConfig, fused: bool) -> int:
    """Bytes of additional constants for answering."""
    return cfg.n_layers * CAUSAL_TRIANGLE if fused else 0
