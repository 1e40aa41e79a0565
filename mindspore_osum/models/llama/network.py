"""openPangu-Embedded and its Llama-shaped relatives (Qwen2, Qwen3, Yi, Llama), one class by config.

Legend: B batch, L positions, S cache slots per sequence, D width, H query heads, K key heads, E head size,
V vocabulary.

Notable choices
- The cells have no state: a static KV cache is an argument. The operators define its memory layout, and
  whether it is updated in place or returned: see `Decoder.new_cache`.
- Prefill fills the cache and attends within the prompt; decode writes one slot per sequence and attends to
  the cache.
- Parameter names are those of the Hugging Face checkpoints; LoRA parameters are added to the same modules.
"""

import mindspore as ms
from mindspore import nn, ops
from mindspore.ops.auto_generate import SplitWithSize

from mindspore_osum.models import ops as device_ops
from mindspore_osum.models.layers import Embedding, Linear, RMSNorm
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig


class DecoderAttention(nn.Cell):
    """Causal grouped-query attention with rotary positions."""

    def __init__(self, cfg: DecoderConfig, linear):
        super().__init__()
        self.n_heads, self.n_kv_heads = cfg.n_heads, cfg.n_kv_heads
        q_width, kv_width = cfg.n_heads * cfg.head_dim, cfg.n_kv_heads * cfg.head_dim
        self.q_proj = linear("q_proj", cfg.d_model, q_width, cfg.qkv_bias)
        self.k_proj = linear("k_proj", cfg.d_model, kv_width, cfg.qkv_bias)
        self.v_proj = linear("v_proj", cfg.d_model, kv_width, cfg.qkv_bias)
        self.o_proj = linear("o_proj", q_width, cfg.d_model, cfg.o_bias)
        dtype = self.q_proj.weight.dtype
        self.q_norm = RMSNorm(cfg.head_dim, cfg.norm_eps, dtype) if cfg.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(cfg.head_dim, cfg.norm_eps, dtype) if cfg.qk_norm else nn.Identity()
        self.qkv_proj, self.parts = None, SplitWithSize()  # all three in one, after `join`
        cells = device_ops.cells(dtype)
        self.rotary = cells.Rotary()
        self.attention = cells.Attention(cfg.n_heads, cfg.n_kv_heads, cfg.head_dim, causal=True)

    def qkv(self, x, cos_BL1E, sin_BL1E):
        """Rotated queries (B, L, H, E), rotated keys and values (B, L, K, E)."""
        _, length, _, e = cos_BL1E.shape
        if self.qkv_proj is not None:
            return self.joined_qkv(x, cos_BL1E, sin_BL1E)
        q = self.q_norm(self.q_proj(x).reshape((-1, length, self.n_heads, e)))
        k = self.k_norm(self.k_proj(x).reshape((-1, length, self.n_kv_heads, e)))
        v = self.v_proj(x).reshape(k.shape)
        return self.rotary(q, cos_BL1E, sin_BL1E), self.rotary(k, cos_BL1E, sin_BL1E), v

    def joined_qkv(self, x, cos_BL1E, sin_BL1E):
        """`qkv` by one product, whose heads of queries and keys are rotated together."""
        _, length, _, e = cos_BL1E.shape
        turned, kv = self.n_heads + self.n_kv_heads, self.n_kv_heads
        all_BLHE = self.qkv_proj(x).reshape((-1, length, turned + kv, e))
        if isinstance(self.q_norm, RMSNorm):
            q, k, v = self.parts(all_BLHE, (self.n_heads, kv, kv), 2)
            q, k = self.q_norm(q), self.k_norm(k)
            return self.rotary(q, cos_BL1E, sin_BL1E), self.rotary(k, cos_BL1E, sin_BL1E), v
        qk, v = self.parts(all_BLHE, (turned, kv), 2)
        q, k = self.parts(self.rotary(qk, cos_BL1E, sin_BL1E), (self.n_heads, kv), 2)
        return q, k, v

    def join(self):
        """Compute queries, keys and values by one product from now on; not with adapters."""
        self.qkv_proj = Linear.joined((self.q_proj, self.k_proj, self.v_proj))
        del self.q_proj, self.k_proj, self.v_proj

    def construct(self, x, cos, sin, mask):
        q, k, v = self.qkv(x, cos, sin)
        return self.projected(self.attention(q, k, v, mask), x)

    def cached(self, x, cos, sin, mask, k_cache, v_cache, slots):
        """Attention with a cache; also returns the caches as `cached` of models/ops does."""
        q, k, v = self.qkv(x, cos, sin)
        out_BLD, k_cache, v_cache = self.attention.cached(q, k, v, mask, k_cache, v_cache, slots)
        return self.projected(out_BLD, x), k_cache, v_cache

    def projected(self, out_BLD, x):
        """Project the output back to the shape of x."""
        return self.o_proj(out_BLD.reshape(x.shape[:-1] + (-1,)))

    def shard(self, p):
        """Shard batch, heads and positions."""
        for linear in (self.q_proj, self.k_proj, self.v_proj):
            linear.shard(p, d_out=p.model_parallel)
        self.o_proj.shard(p, d_in=p.model_parallel)
        self.rotary.shard(p)
        self.attention.shard(p, queries=p.context_parallel)


class DecoderMLP(nn.Cell):
    """down(silu(gate(x)) * up(x)) (SwiGLU, Shazeer 2020)."""

    def __init__(self, cfg: DecoderConfig, linear):
        super().__init__()
        self.gate_proj = linear("gate_proj", cfg.d_model, cfg.d_ff, False)
        self.up_proj = linear("up_proj", cfg.d_model, cfg.d_ff, False)
        self.down_proj = linear("down_proj", cfg.d_ff, cfg.d_model, False)
        self.gate_up_proj = None  # both in one, after `join`
        self.swiglu = device_ops.cells(self.gate_proj.weight.dtype).SwiGLU()

    def join(self):
        """Compute gate and up by one product from now on; not with adapters."""
        self.gate_up_proj = Linear.joined((self.gate_proj, self.up_proj))
        del self.gate_proj, self.up_proj

    def construct(self, x):
        if self.gate_up_proj is not None:
            return self.down_proj(self.swiglu.joined(self.gate_up_proj(x)))
        return self.down_proj(self.swiglu(self.gate_proj(x), self.up_proj(x)))

    def shard(self, p):
        """Shard the rows and the inner width."""
        self.gate_proj.shard(p, d_out=p.model_parallel)
        self.up_proj.shard(p, d_out=p.model_parallel)
        self.down_proj.shard(p, d_in=p.model_parallel)
        self.swiglu.shard(p)


class DecoderLayer(nn.Cell):
    """Pre-norm attention and MLP, each with a residual, on (B, L, D), or on rows (B*L, D) if the
    layer is sharded."""

    def __init__(self, cfg: DecoderConfig, linear, dtype):
        super().__init__()
        self.self_attn = DecoderAttention(cfg, linear)
        self.mlp = DecoderMLP(cfg, linear)
        self.input_layernorm = RMSNorm(cfg.d_model, cfg.norm_eps, dtype)
        self.post_attention_layernorm = RMSNorm(cfg.d_model, cfg.norm_eps, dtype)
        self.add_attention, self.add_mlp = ops.Add(), ops.Add()

    def construct(self, x, cos, sin, mask):
        x = self.add_attention(x, self.self_attn(self.input_layernorm(x), cos, sin, mask))
        return self.add_mlp(x, self.mlp(self.post_attention_layernorm(x)))

    def cached(self, x, change, cos, sin, mask, k_cache, v_cache, slots):
        """The layer with a cache, on x + change, of which the first layer has none.

        Returns
        -------
        x, change : their sum is the result; the next norm adds them, in one operator where there is one.
        k_cache, v_cache : the caches of its attention.
        """
        if change is None:
            y = self.input_layernorm(x)
        else:
            y, x = self.input_layernorm.added(x, change)
        attended, k_cache, v_cache = self.self_attn.cached(y, cos, sin, mask, k_cache, v_cache, slots)
        y, x = self.post_attention_layernorm.added(x, attended)
        return x, self.mlp(y), k_cache, v_cache

    def shard(self, p):
        """Shard rows, heads and inner width; with sequence parallel, norms and residuals over more rows."""
        self.self_attn.shard(p)
        self.mlp.shard(p)
        for norm in (self.input_layernorm, self.post_attention_layernorm):
            norm.shard(p.norm_rows, p.rows)
        for add in (self.add_attention, self.add_mlp):
            add.shard(((p.norm_rows, 1), (p.norm_rows, 1)))


class DecoderModel(nn.Cell):
    """Token embedding, layers, final norm."""

    def __init__(self, cfg: DecoderConfig, lora: LoraConfig, dtype):
        super().__init__()

        def linear(name: str, d_in: int, d_out: int, bias: bool) -> Linear:
            adapted = lora.rank > 0 and name in lora.targets
            return Linear(d_in, d_out, bias, dtype, lora if adapted else None)

        self.embed_tokens = Embedding(cfg.vocab_size, cfg.d_model, dtype)
        self.layers = nn.CellList([DecoderLayer(cfg, linear, dtype) for _ in range(cfg.n_layers)])
        self.norm = RMSNorm(cfg.d_model, cfg.norm_eps, dtype)
        self.rotary_tables = device_ops.RotaryTables(cfg.head_dim, cfg.rope_theta)
        self.attention_mask, self.is_sharded = device_ops.cells(dtype).AttentionMask(), False

    def construct(self, x_BLD, positions_BL, mask):
        cos, sin = self.rotary_tables(positions_BL)
        length, d = x_BLD.shape[1:]
        mask = self.attention_mask(mask, length)
        x = x_BLD.reshape((-1, d)) if self.is_sharded else x_BLD
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return self.norm(x).reshape(x_BLD.shape)

    def cached(self, x_BLD, positions_BL, mask, caches, slots):
        """As Decoder.cached."""
        cos, sin = self.rotary_tables(positions_BL)
        length = x_BLD.shape[1]
        if length > 1:
            mask = self.attention_mask(mask, length)
        x, change, after = x_BLD, None, ()
        for i, layer in enumerate(self.layers):
            cache = caches[2 * i], caches[2 * i + 1]
            x, change, k_cache, v_cache = layer.cached(x, change, cos, sin, mask, *cache, slots)
            after += (k_cache, v_cache)
        return self.norm.added(x, change)[0], after

    def shard(self, p):
        """Shard all cells; a mask has the full batch size and a row for every query."""
        self.is_sharded = True
        self.embed_tokens.shard(p, p.vocabulary)
        self.rotary_tables.shard(p)
        self.attention_mask.shard(p, queries=p.context_parallel)
        for layer in self.layers:
            layer.shard(p)
        self.norm.shard(p.norm_rows, p.rows)


class Decoder(nn.Cell):
    """The language model: embeddings in, hidden states out; `logits` maps them to the vocabulary."""

    def __init__(self, cfg: DecoderConfig, lora: LoraConfig, dtype=ms.float32):
        super().__init__()
        self.model = DecoderModel(cfg, lora, dtype)
        self.lm_head = None if cfg.tie_embeddings else Linear(cfg.d_model, cfg.vocab_size, False, dtype)
        self.tied_head = ops.MatMul(transpose_b=True)
        self.d_model, self.vocab_size, self.n_layers, self.dtype = (
            cfg.d_model,
            cfg.vocab_size,
            cfg.n_layers,
            dtype,
        )
        self.cache, self.kv_shape = device_ops.cells(dtype).Cache, (cfg.n_kv_heads, cfg.head_dim)

    def new_cache(self, batch: int, places: int) -> nn.Cell:
        """The cache layout for keys and values of `batch` sequences of `places` slots."""
        return self.cache(batch, places, *self.kv_shape)

    def embed(self, ids):
        """Look up token embeddings."""
        return self.model.embed_tokens(ids)

    def construct(self, x_BLD, positions_BL, mask):
        """Run the layers over whole sequences.

        Parameters
        ----------
        x_BLD : input embeddings.
        positions_BL : int32 rotary positions.
        mask : bool (B or 1, 1, L, L), True for keys hidden from a query; None for causal.

        Returns
        -------
        (B, L, D) after the last norm.
        """
        return self.model(x_BLD, positions_BL, mask)

    def cached(self, x_BLD, positions_BL, mask, caches, slots):
        """Run the layers over new positions, with a cache for the earlier ones.

        Parameters
        ----------
        x_BLD : a prompt, which begins the sequence, or with L = 1 the next position.
        mask : for a prompt as above, else the result of the cache's `seen`.
        caches : (k_0, v_0, k_1, v_1, ...) in the cache's `shape`.
        slots : where the new keys go, the cache's `slots`.

        Returns
        -------
        (B, L, D) after the last norm, and the updated caches; None for each cache where the cells write in
        place (all of models/ops but "carried").
        """
        return self.model.cached(x_BLD, positions_BL, mask, caches, slots)

    def logits(self, hidden):
        """float32 scores over the vocabulary for hidden states (..., D)."""
        if self.lm_head is None:
            flat = self.tied_head(hidden.reshape((-1, self.d_model)), self.model.embed_tokens.weight)
            return ops.cast(flat.reshape(hidden.shape[:-1] + (-1,)), ms.float32)
        return ops.cast(self.lm_head(hidden), ms.float32)

    def shard(self, p):
        """Shard layers, embedding and head; the head's rows have the layout of the hidden states."""
        self.model.shard(p)
        self.tied_head.shard(((p.rows, 1), (p.vocabulary, 1)))
        if self.lm_head is not None:
            self.lm_head.shard(p, d_out=p.vocabulary)

    def stages(self, count: int) -> list[list[nn.Cell]]:
        """The cells of each of `count` stages of a pipeline: embedding first, layers evenly, head last."""
        layers, found = self.model.layers, [[] for _ in range(count)]
        for i, layer in enumerate(layers):
            found[i * count // len(layers)].append(layer)
        found[0].append(self.model.embed_tokens)
        found[-1] += [self.model.norm, *([] if self.lm_head is None else [self.lm_head])]
        return found
