"""Sizes of the decoder and of its LoRA; does not import MindSpore."""

from dataclasses import dataclass, replace
from typing import ClassVar

# modules that may have LoRA
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class DecoderConfig:
    """openPangu-Embedded and its Llama-shaped relatives; defaults are openPangu-Embedded-7B-V1.1."""

    vocab_size: int = 153376
    d_model: int = 4096
    n_layers: int = 34
    n_heads: int = 32
    n_kv_heads: int = 8  # grouped-query attention (Ainslie et al. 2023)
    head_dim: int = 128
    d_ff: int = 12800
    rope_theta: float = 1.6e7  # base of the rotary angles
    norm_eps: float = 1e-5  # RMSNorm
    qkv_bias: bool = True
    o_bias: bool = True
    qk_norm: bool = False  # RMSNorm on each head of q and k (Qwen3)
    tie_embeddings: bool = False  # lm_head shares embed_tokens
    max_positions: int = 32768
    bos_id: int = 1
    eos_id: int = 45892  # [unused10]

    RETIRED: ClassVar = ("pad_id",)  # in older config.json files; it had no effect


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (Hu et al. 2022) of the decoder's projections: W x + alpha/rank * B (A x)."""

    rank: int = 64  # 0 = no adapters: merged, or never present
    alpha: float = 32.0
    dropout: float = 0.1  # on the adapter's input, in training only
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "down_proj")

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank


_QWEN2 = DecoderConfig(
    vocab_size=151936,
    d_model=896,
    n_layers=24,
    n_heads=14,
    n_kv_heads=2,
    head_dim=64,
    d_ff=4864,
    rope_theta=1e6,
    norm_eps=1e-6,
    o_bias=False,
    tie_embeddings=True,
    max_positions=131072,
    bos_id=151643,  # <|endoftext|>; the tokenizer never puts it in front
    eos_id=151643,
)
_WIDER = replace(_QWEN2, n_layers=28, head_dim=128)
_QWEN3 = replace(
    _QWEN2,
    d_model=1024,
    n_layers=28,
    n_heads=16,
    n_kv_heads=8,
    head_dim=128,
    d_ff=3072,
    qkv_bias=False,
    qk_norm=True,
    max_positions=40960,
    eos_id=151645,  # <|im_end|>
)
# Published decoders, as in their config.json. The Instruct models end with <|im_end|>, 151645.
DECODERS = {
    "qwen2-0.5b": _QWEN2,
    "qwen2-1.5b": replace(_WIDER, d_model=1536, n_heads=12, d_ff=8960),
    "qwen2-7b": replace(
        _WIDER, vocab_size=152064, d_model=3584, n_heads=28, n_kv_heads=4, d_ff=18944, tie_embeddings=False
    ),
    "qwen3-0.6b": _QWEN3,
    "qwen3-1.7b": replace(_QWEN3, d_model=2048, d_ff=6144),
    "yi-6b": DecoderConfig(
        vocab_size=64000,
        n_layers=32,
        n_kv_heads=4,
        d_ff=11008,
        rope_theta=5e6,
        qkv_bias=False,
        o_bias=False,
        max_positions=4096,
        eos_id=2,
    ),
    # ends with <|im_end|>, as its Instruct model does
    "smollm2-135m": DecoderConfig(
        vocab_size=49152,
        d_model=576,
        n_layers=30,
        n_heads=9,
        n_kv_heads=3,
        head_dim=64,
        d_ff=1536,
        rope_theta=1e5,
        qkv_bias=False,
        o_bias=False,
        tie_embeddings=True,
        max_positions=8192,
        eos_id=2,
    ),
}
