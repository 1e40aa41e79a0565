"""openPangu-Embedded and its Llama-shaped relatives (Qwen2, Qwen3, Yi, Llama), one class by config.

Legend: B batch, L positions, S cache places a sequence, D width, H query heads, K key heads, E head size,
V vocabulary.

Notable choices
- The cells hold no state: a static key/value cache is handed in as parameters and written in place. How it
  lies there is the operators' business: `Decoder.new_cache` describes it.
- Prefill writes the cache and attends within the prompt; decode writes one place a sequence and attends to
  the cache.
- Parameter names are those of the Hugging Face checkpoints, LoRA's lie beside them.
"""

import mindspore as ms
from mindspore import nn, ops

from mindspore_osum.config import DecoderConfig, LoraConfig
from mindspore_osum.models import ops as device_ops
from mindspore_osum.models.layers import Embedding, Linear, RMSNorm


class DecoderAttention(nn.Cell):
    """Causal grouped-query attention with rotary positions."""

    def __init__(self, cfg: DecoderConfig, linear):
        super().__init__()
        self.n_heads, self.n_kv_heads, self.head_dim = cfg.n_heads, cfg.n_kv_heads, cfg.head_dim
        q_width, kv_width = cfg.n_heads * cfg.head_dim, cfg.n_kv_heads * cfg.head_dim
        self.q_proj = linear("q_proj", cfg.d_model, q_width, cfg.qkv_bias)
        self.k_proj = linear("k_proj", cfg.d_model, kv_width, cfg.qkv_bias)
        self.v_proj = linear("v_proj", cfg.d_model, kv_width, cfg.qkv_bias)
        self.o_proj = linear("o_proj", q_width, cfg.d_model, cfg.o_bias)
        dtype = self.q_proj.weight.dtype
        self.q_norm = RMSNorm(cfg.head_dim, cfg.norm_eps, dtype) if cfg.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(cfg.head_dim, cfg.norm_eps, dtype) if cfg.qk_norm else nn.Identity()
        cells = device_ops.cells(dtype)
        self.rotary = cells.Rotary()
        self.attention = cells.Attention(cfg.n_heads, cfg.n_kv_heads, cfg.head_dim)

    def heads(self, x_BLD, n: int):
        b, length, _ = x_BLD.shape
        return x_BLD.reshape((b, length, n, self.head_dim))

    def qkv(self, x_BLD, cos, sin):
        """Rotated queries (B, H, L, E), rotated keys and values (B, K, L, E)."""
        q = self.q_norm(self.heads(self.q_proj(x_BLD), self.n_heads)).transpose((0, 2, 1, 3))
        k = self.k_norm(self.heads(self.k_proj(x_BLD), self.n_kv_heads)).transpose((0, 2, 1, 3))
        v = self.heads(self.v_proj(x_BLD), self.n_kv_heads).transpose((0, 2, 1, 3))
        return self.rotary(q, cos, sin), self.rotary(k, cos, sin), v

    def construct(self, x_BLD, cos, sin, mask, k_cache=None, v_cache=None, slots=None):
        q, k, v = self.qkv(x_BLD, cos, sin)
        if k_cache is None:
            return self.o_proj(self.attention(q, k, v, mask))
        return self.o_proj(self.attention.cached(q, k, v, mask, k_cache, v_cache, slots))


class DecoderMLP(nn.Cell):
    """down(silu(gate(x)) * up(x)) (SwiGLU, Shazeer 2020)."""

    def __init__(self, cfg: DecoderConfig, linear):
        super().__init__()
        self.gate_proj = linear("gate_proj", cfg.d_model, cfg.d_ff, False)
        self.up_proj = linear("up_proj", cfg.d_model, cfg.d_ff, False)
        self.down_proj = linear("down_proj", cfg.d_ff, cfg.d_model, False)
        self.swiglu = device_ops.cells(self.gate_proj.weight.dtype).SwiGLU()

    def construct(self, x):
        return self.down_proj(self.swiglu(self.gate_proj(x), self.up_proj(x)))


class DecoderLayer(nn.Cell):
    """Pre-norm attention and MLP, each with a residual."""

    def __init__(self, cfg: DecoderConfig, linear, dtype):
        super().__init__()
        self.self_attn = DecoderAttention(cfg, linear)
        self.mlp = DecoderMLP(cfg, linear)
        self.input_layernorm = RMSNorm(cfg.d_model, cfg.norm_eps, dtype)
        self.post_attention_layernorm = RMSNorm(cfg.d_model, cfg.norm_eps, dtype)

    def construct(self, x_BLD, cos, sin, mask, k_cache=None, v_cache=None, slots=None):
        x_BLD = x_BLD + self.self_attn(self.input_layernorm(x_BLD), cos, sin, mask, k_cache, v_cache, slots)
        return x_BLD + self.mlp(self.post_attention_layernorm(x_BLD))


class DecoderModel(nn.Cell):
    """Token embedding, layers, last norm."""

    def __init__(self, cfg: DecoderConfig, lora: LoraConfig, dtype):
        super().__init__()

        def linear(name: str, d_in: int, d_out: int, bias: bool) -> Linear:
            adapted = lora.rank > 0 and name in lora.targets
            return Linear(d_in, d_out, bias, dtype, lora if adapted else None)

        self.embed_tokens = Embedding(cfg.vocab_size, cfg.d_model, dtype)
        self.layers = nn.CellList([DecoderLayer(cfg, linear, dtype) for _ in range(cfg.n_layers)])
        self.norm = RMSNorm(cfg.d_model, cfg.norm_eps, dtype)
        self.inv_freq = device_ops.inverse_frequencies(cfg.head_dim, cfg.rope_theta)
        self.attention_mask = device_ops.cells(dtype).attention_mask

    def construct(self, x_BLD, positions_BL, mask, caches=None, slots=None):
        cos, sin = device_ops.rotary_tables(positions_BL, self.inv_freq)
        length = x_BLD.shape[1]
        if caches is None or length > 1:
            mask = self.attention_mask(mask, length)
        for i, layer in enumerate(self.layers):
            if caches is None:
                x_BLD = layer(x_BLD, cos, sin, mask)
            else:
                x_BLD = layer(x_BLD, cos, sin, mask, caches[2 * i], caches[2 * i + 1], slots)
        return self.norm(x_BLD)


class Decoder(nn.Cell):
    """The language model: embeddings in, hidden states out; `logits` maps them to the vocabulary."""

    def __init__(self, cfg: DecoderConfig, lora: LoraConfig, dtype=ms.float32):
        super().__init__()
        self.model = DecoderModel(cfg, lora, dtype)
        self.lm_head = None if cfg.tie_embeddings else Linear(cfg.d_model, cfg.vocab_size, False, dtype)
        self.d_model = cfg.d_model
        self.cache, self.kv_shape = device_ops.cells(dtype).Cache, (cfg.n_kv_heads, cfg.head_dim)

    def new_cache(self, batch: int, places: int) -> nn.Cell:
        """How keys and values of `batch` sequences of `places` places lie in the parameters of a cache."""
        return self.cache(batch, places, *self.kv_shape)

    def embed(self, ids):
        """Rows of the token embedding."""
        return self.model.embed_tokens(ids)

    def construct(self, x_BLD, positions_BL, mask, caches=None, slots=None):
        """Run the layers.

        Parameters
        ----------
        x_BLD : input embeddings.
        positions_BL : int32 rotary positions.
        mask : bool (B or 1, 1, L, L), True for what a query may not see, None for causal; in decode (a cache
            and L = 1) what the cache's `seen` gives.
        caches : parameters (k_0, v_0, k_1, v_1, ...) in the cache's `shape`; None to recompute everything.
        slots : where the new keys go, the cache's `slots`.

        Returns
        -------
        (B, L, D) after the last norm.
        """
        return self.model(x_BLD, positions_BL, mask, caches, slots)

    def logits(self, hidden):
        """float32 scores over the vocabulary for hidden states (..., D)."""
        if self.lm_head is None:
            flat = device_ops.matmul_t(hidden.reshape((-1, self.d_model)), self.model.embed_tokens.weight)
            return ops.cast(flat.reshape(hidden.shape[:-1] + (-1,)), ms.float32)
        return ops.cast(self.lm_head(hidden), ms.float32)
