"""Whisper's text decoder (Radford et al. 2022): it reads the tokens written so far and the encoder's frames.

Legend: B batch, L positions, U encoder frames, S cache slots per sequence, D width, V vocabulary.

Notable choices
- The keys and values of the frames do not depend on the tokens: they are computed once for a recording and
  kept beside the cache of the tokens, in the layout that the device's attention reads.
- Parameter names are WeNet's, as those of the encoder; positions are learned.
"""

import mindspore as ms
from mindspore import nn, ops
from mindspore.ops.auto_generate import SplitWithSize

from mindspore_osum.models import ops as device_ops
from mindspore_osum.models.layers import (
    Embedding,
    FeedForward,
    LayerNorm,
    Linear,
    SelfAttention,
    transpose_all,
    transposed,
)
from mindspore_osum.models.target import target
from mindspore_osum.models.whisper.config import TextDecoderConfig


class CausalAttention(SelfAttention):
    """Attention of tokens to themselves and earlier ones; with a cache for these."""

    def __init__(self, d: int, n_heads: int, dtype=ms.float32):
        super().__init__(d, n_heads, key_bias=False, dtype=dtype)
        self.attention = device_ops.cells(dtype).Attention(n_heads, n_heads, self.head_dim, causal=True)
        self.qkv_proj, self.parts = None, SplitWithSize()  # all three in one, after `join`

    def join(self):
        """Compute queries, keys and values by one product from now on."""
        self.qkv_proj = Linear.joined((self.linear_q, self.linear_k, self.linear_v))
        del self.linear_q, self.linear_k, self.linear_v

    def qkv(self, x_BLD):
        """Queries, keys and values (B, L, heads, head size)."""
        length = x_BLD.shape[1]
        if self.qkv_proj is not None:
            all_BLHE = self.qkv_proj(x_BLD).reshape((-1, length, 3 * self.n_heads, self.head_dim))
            return self.parts(all_BLHE, (self.n_heads,) * 3, 2)
        return (
            self.heads(self.linear_q(x_BLD), length),
            self.heads(self.linear_k(x_BLD), length),
            self.heads(self.linear_v(x_BLD), length),
        )

    def construct(self, x_BLD, mask):
        q, k, v = self.qkv(x_BLD)
        return self.linear_out(self.attention(q, k, v, mask))

    def cached(self, x_BLD, mask, k_cache, v_cache, slots):
        """With a cache; also returns the caches as `cached` of models/ops does."""
        q, k, v = self.qkv(x_BLD)
        out_BLD, k_cache, v_cache = self.attention.cached(q, k, v, mask, k_cache, v_cache, slots)
        return self.linear_out(out_BLD), k_cache, v_cache


class CrossAttention(SelfAttention):
    """Attention of tokens to the encoder's frames."""

    def __init__(self, d: int, n_heads: int, dtype=ms.float32):
        super().__init__(d, n_heads, key_bias=False, dtype=dtype)

    def memory(self, frames_BUD, slots: int):
        """Keys and values of the frames, as the attention keeps them, in `slots` slots; the rest is zero."""
        keep = self.attention.keep
        k = keep(self.heads(lengthened(self.linear_k(frames_BUD), slots), slots))
        return k, keep(self.heads(lengthened(self.linear_v(frames_BUD), slots), slots))

    def scores(self, x_BLD, frames_BUD, chosen: ms.Tensor):
        """Scores of frames by the heads `chosen`, int32 (A,), before the softmax: float32 (B, A, L, U)."""
        q_BLAE = ops.gather(self.heads(self.linear_q(x_BLD), x_BLD.shape[1]), chosen, 2)
        k_BUAE = ops.gather(self.heads(self.linear_k(frames_BUD), frames_BUD.shape[1]), chosen, 2)
        q_BALE, k_BAUE = (ops.cast(x, ms.float32).transpose(0, 2, 1, 3) for x in (q_BLAE, k_BUAE))
        return ops.BatchMatMul(transpose_b=True)(q_BALE * self.head_dim**-0.5, k_BAUE)

    def construct(self, x_BLD, k_kept, v_kept, mask):
        """With several rows for each recording, which follow each other, all of them attend to its frames."""
        (rows, length, d), recordings = x_BLD.shape, k_kept.shape[0]
        q = self.heads(self.linear_q(x_BLD), length)
        if rows > recordings:
            q = q.reshape((recordings, -1) + q.shape[2:])
        out_BLD = self.attention.kept(q, k_kept, v_kept, mask)
        return self.linear_out(out_BLD.reshape((rows, length, d)) if rows > recordings else out_BLD)


def lengthened(x_BUD, slots: int):
    """(B, slots, D), with zeros at the end."""
    b, frames, d = x_BUD.shape
    return (
        x_BUD if frames == slots else ops.concat((x_BUD, ops.zeros((b, slots - frames, d), x_BUD.dtype)), 1)
    )


class TextDecoderLayer(nn.Cell):
    """Pre-norm self-attention, cross-attention and feed-forward, each with a residual, on (B, L, D)."""

    def __init__(self, cfg: TextDecoderConfig, dtype):
        super().__init__()
        self.self_attn = CausalAttention(cfg.d_model, cfg.n_heads, dtype)
        self.src_attn = CrossAttention(cfg.d_model, cfg.n_heads, dtype)
        self.feed_forward = FeedForward(cfg.d_model, cfg.d_ff, "gelu", dtype)
        self.norm1 = LayerNorm(cfg.d_model, cfg.norm_eps, dtype)
        self.norm2 = LayerNorm(cfg.d_model, cfg.norm_eps, dtype)
        self.norm3 = LayerNorm(cfg.d_model, cfg.norm_eps, dtype)

    def for_answers(self):
        """Transpose the weights."""
        transpose_all(self)

    def construct(self, x, mask, k_kept, v_kept, cross_mask):
        return self.continued(x, self.self_attn(self.norm1(x), mask), k_kept, v_kept, cross_mask)

    def cached(self, x, mask, k_cache, v_cache, slots, k_kept, v_kept, cross_mask):
        """The layer with a cache; also returns the caches of its self-attention."""
        attended, k_cache, v_cache = self.self_attn.cached(self.norm1(x), mask, k_cache, v_cache, slots)
        return self.continued(x, attended, k_kept, v_kept, cross_mask), k_cache, v_cache

    def continued(self, x, attended, k_kept, v_kept, cross_mask):
        """The part of the layer after self-attention."""
        x = x + attended
        x = x + self.src_attn(self.norm2(x), k_kept, v_kept, cross_mask)
        return x + self.feed_forward(self.norm3(x))


class TextDecoder(nn.Cell):
    """Token ids and encoder frames to hidden states; `logits` maps them to the vocabulary.

    What it reads is a tuple: token embeddings (B, L, D), the memory of the frames (`memory`), and how many
    frames each recording has, int32 (B,).

    Parameters
    ----------
    frames : encoder frames of the window, of which a recording may fill a part.
    """

    def __init__(self, cfg: TextDecoderConfig, frames: int, dtype=ms.float32):
        super().__init__()
        self.frames = frames
        self.embed_tokens = Embedding(cfg.vocab_size, cfg.d_model, dtype)
        self.embed_positions = Embedding(cfg.max_positions, cfg.d_model, dtype)
        self.decoders = nn.CellList([TextDecoderLayer(cfg, dtype) for _ in range(cfg.n_layers)])
        self.after_norm = LayerNorm(cfg.d_model, cfg.norm_eps, dtype)
        self.head = ops.MatMul(transpose_b=True)
        self.head_weight = None  # (D, V) on CPU, after `for_answers`
        cells = device_ops.cells(dtype)
        self.attention_mask, self.cache = cells.AttentionMask(), cells.Cache
        self.d_model, self.vocab_size, self.n_layers, self.dtype = (
            cfg.d_model,
            cfg.vocab_size,
            cfg.n_layers,
            dtype,
        )
        self.n_heads, self.last_position = cfg.n_heads, cfg.max_positions - 1

    def for_answers(self):
        """Keep the table of tokens as (D, V), too, on CPU: the head is half of a step, and twice as fast."""
        if target() == "CPU":
            self.head, self.head_weight = ops.MatMul(), transposed(self.embed_tokens.weight)

    def new_cache(self, batch: int, places: int) -> nn.Cell:
        """The cache layout for keys and values of `batch` sequences of `places` slots."""
        return self.cache(batch, places, self.n_heads, self.d_model // self.n_heads)

    def memory_states(self, batch: int) -> list[tuple[str, tuple[int, ...], ms.Type]]:
        """(name, shape, type) of what is kept of the frames between steps."""
        shape = self.decoders[0].src_attn.attention.kept_shape(batch, self.frames)
        kinds = [f"{kind}_{i}" for i in range(self.n_layers) for kind in ("frame_key", "frame_value")]
        return [(name, shape, self.dtype) for name in kinds] + [("frames", (batch,), ms.int32)]

    def embed(self, ids):
        """Look up token embeddings, without positions."""
        return self.embed_tokens(ids)

    def memory(self, frames_BUD, slots: int = 0):
        """Keys and values of the frames for every layer: (k_0, v_0, k_1, v_1, ...).

        Parameters
        ----------
        slots : at least the frames; 0 for as many as a window has, which all recordings share.
        """
        kept = ()
        for layer in self.decoders:
            kept += layer.src_attn.memory(frames_BUD, slots or self.frames)
        return kept

    def positioned(self, x_BLD, positions_BL):
        """Embeddings with those of their positions."""
        return x_BLD + self.embed_positions(ops.minimum(positions_BL, self.last_position))

    def cross_mask(self, frames: int, frames_B, length: int):
        """The mask of `length` queries over `frames`, which hides those beyond the end of each recording."""
        return self.attention_mask(device_ops.key_mask(frames, frames_B), length)

    def construct(self, read, positions_BL, mask):
        """Run the layers over whole sequences: as `models.llama.network.Decoder`, with a tuple to read."""
        return self.over(read, positions_BL, mask, self.frames)

    def over(self, read, positions_BL, mask, frames: int):
        """As `construct`, with a memory of another number of frames."""
        x_BLD, kept, frames_B = read[0], read[1], read[2]
        length = x_BLD.shape[1]
        mask, cross_mask = self.attention_mask(mask, length), self.cross_mask(frames, frames_B, length)
        x = self.positioned(x_BLD, positions_BL)
        for i, layer in enumerate(self.decoders):
            x = layer(x, mask, kept[2 * i], kept[2 * i + 1], cross_mask)
        return self.after_norm(x)

    def begin(self, read, positions_BL, caches, slots):
        """Read prompts: fill the cache, and keep the memory of the frames for the steps.

        Parameters
        ----------
        caches : (k_0, v_0, ...) in the cache's `shape`, then the parameters of `memory_states`.
        slots : where the new keys go, the cache's `slots`.

        Returns
        -------
        (B, L, D) after the last norm.
        """
        x_BLD, kept, frames_B = read[0], read[1], read[2]
        for i in range(2 * self.n_layers):
            ops.assign(caches[2 * self.n_layers + i], kept[i])
        ops.assign(caches[4 * self.n_layers], frames_B)
        mask = self.attention_mask(None, x_BLD.shape[1])
        return self.layers(x_BLD, positions_BL, mask, kept, frames_B, caches, slots)[0]

    def step(self, x_B1D, positions_B1, mask, caches, slots):
        """The next position of each sequence, or of several for each recording (a beam search); arguments and
        result as those of `begin`."""
        kept = caches[2 * self.n_layers :]
        return self.layers(x_B1D, positions_B1, mask, kept, caches[4 * self.n_layers], caches, slots)[0]

    def layers(self, x_BLD, positions_BL, mask, kept, frames_B, caches, slots):
        """The layers with a cache, and the last norm; also returns the caches, as `cached` of models/ops."""
        beams = x_BLD.shape[0] // frames_B.shape[0]
        cross_mask = self.cross_mask(self.frames, frames_B, beams * x_BLD.shape[1])
        if beams > 1:  # a row for every query; one for all would be made a column of the keys, a copy of them
            shape = (frames_B.shape[0], 1, beams * x_BLD.shape[1], self.frames)
            cross_mask = ops.broadcast_to(cross_mask, shape)
        x, written = self.positioned(x_BLD, positions_BL), ()
        for i, layer in enumerate(self.decoders):
            k, v = kept[2 * i], kept[2 * i + 1]
            done = layer.cached(x, mask, caches[2 * i], caches[2 * i + 1], slots, k, v, cross_mask)
            x, written = done[0], written + (done[1], done[2])
        return self.after_norm(x), written

    def cached(self, read, positions_BL, mask, caches, slots):
        """Run the layers with a cache: as `models.llama.network.Decoder.cached`.

        `read` is the tuple above for prompts, and the embeddings (B, 1, D) of one token for a step.
        """
        if isinstance(read, tuple):
            return self.begin(read, positions_BL, caches, slots), None
        return self.step(read, positions_BL, mask, caches, slots), None

    def logits(self, hidden):
        """float32 scores over the vocabulary for hidden states (..., D)."""
        table = self.embed_tokens.weight if self.head_weight is None else self.head_weight
        flat = self.head(hidden.reshape((-1, self.d_model)), table)
        return ops.cast(flat.reshape(hidden.shape[:-1] + (-1,)), ms.float32)
