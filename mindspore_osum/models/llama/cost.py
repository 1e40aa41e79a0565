"""The decoder on the planner's tape; `ops` as in models/cost.py.

Legend: B rows, L positions, S cache slots per row, D width, E head size, V vocabulary.
"""

from mindspore_osum.models.cost import CAUSAL_TRIANGLE, low_rank, padded_head
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig


class Decoder:
    """Writes the operators of a decoder of these sizes.

    Parameters
    ----------
    learns, lora_learns : whether its base weights, and those of LoRA, get gradients.
    """

    def __init__(
        self, ops, cfg: DecoderConfig, lora: LoraConfig, learns: bool = False, lora_learns: bool = False
    ):
        self.ops, self.cfg, self.lora = ops, cfg, lora
        self.learns, self.lora_learns = learns, lora_learns
        self._table_grads = None  # of a table that embedding and head share

    def embed(self, positions: int):
        """Rows of the token embedding."""
        cfg, ops = self.cfg, self.ops
        rows, more = cfg.vocab_size // ops.model_parallel, []
        self._table_grads = more if cfg.tie_embeddings else None
        return ops.rows_of(rows, cfg.d_model, positions, self.learns, more)

    def layers(self, x, rows: int, length: int, count: int):
        """`count` layers on (B, L, D), each position seeing the earlier ones of its segment."""
        ops, scores = self.ops, rows * length**2
        mask = ops.data(scores, 1)
        if not ops.fused:
            ops.table(2 * scores * ops.width)  # segments compared, and combined with the causal mask
            mask = ops.copy(ops.linear_map("cast", mask, scores * ops.F32))
        for _ in range(count):
            x = ops.layer(lambda y: self._layer(y, mask, rows, length, length), x)
        return x

    def step(self, rows: int, slots: int):
        """Decode step: one new token per row, with caches of `slots` slots: hidden states (B, D)."""
        cfg, ops = self.cfg, self.ops
        x = ops.data(rows * cfg.d_model, ops.width)
        mask = ops.data(rows * slots, ops.F32)
        for _ in range(cfg.n_layers):
            x = self._layer(x, mask, rows, 1, slots, cached=True)
        return self.norm(x)

    def norm(self, x):
        """The norm after the last layer."""
        return self.ops.norm(x, self.cfg.d_model, self.learns, centred=False)

    def logits(self, x, count: int):
        """float32 scores of `count` positions of x."""
        cfg, ops = self.cfg, self.ops
        taken = ops.linear_map("take", ops.copy(x), count * cfg.d_model * ops.width)
        vocab = cfg.vocab_size // ops.model_parallel
        scores = ops.matmul(taken, cfg.d_model, vocab, self.learns, into=self._table_grads)
        return scores if ops.width == ops.F32 else ops.linear_map("cast", scores, count * vocab * ops.F32)

    def _layer(self, x, mask, rows: int, length: int, keys: int, cached: bool = False):
        cfg, ops, mp = self.cfg, self.ops, self.ops.model_parallel
        heads, kv_heads, e = cfg.n_heads // mp, max(1, cfg.n_kv_heads // mp), cfg.head_dim
        d, d_ff = cfg.d_model, cfg.d_ff // mp
        y = ops.norm(x, d, self.learns, centred=False)
        q, k, v = (
            ops.transposed(self._projection(y, f"{name}_proj", d, n * e, cfg.qkv_bias))
            for name, n in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        )
        if cfg.qk_norm:
            q, k = (ops.norm(z, e, self.learns, centred=False) for z in (q, k))
        q, k = ops.rotary(q, e), ops.rotary(k, e)
        if cached:  # the cache is in parameters
            k, v = (ops.data(rows * keys * kv_heads * e, ops.width) for _ in "kv")
        y = ops.attention(q, k, v, mask, (rows * heads, length, keys, e), causal=not cached)
        x = ops.same("add", x, self._projection(y, "o_proj", heads * e, d, cfg.o_bias))
        y = ops.norm(x, d, self.learns, centred=False)
        gate, up = (self._projection(y, f"{name}_proj", d, d_ff) for name in ("gate", "up"))
        return ops.same("add", x, self._projection(ops.swiglu(gate, up), "down_proj", d_ff, d))

    def _projection(self, x, name: str, d_in: int, d_out: int, bias: bool = False):
        """layers.Linear, with its LoRA."""
        y, lora = self.ops.linear(x, d_in, d_out, self.learns, bias), self.lora
        if not lora.rank or name not in lora.targets:
            return y
        return low_rank(self.ops, x, y, lora.rank, d_in, d_out, self.lora_learns, lora.dropout)


def cache_bytes(cfg: DecoderConfig, rows: int, slots: int, width: int, fused: bool) -> int:
    """Bytes of the keys and values of all layers, `width` bytes per element."""
    head = padded_head(cfg.head_dim) if fused else cfg.head_dim
    return 2 * cfg.n_layers * rows * slots * cfg.n_kv_heads * head * width


def constant_bytes(cfg: DecoderConfig, fused: bool) -> int:
    """Bytes of additional constants for answering."""
    return cfg.n_layers * CAUSAL_TRIANGLE if fused else 0
