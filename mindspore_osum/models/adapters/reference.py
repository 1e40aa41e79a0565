"""The adapters in PyTorch, as a reference for our cells.

It shares no code with the cells. A kind's `reference.py` has a subclass `Adapter` with its convolutions.
Names of parameters are ours.

Legend: B batch, U encoder frames, Z speech tokens, D width, H heads.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.adapters.kinds import module_of


class _Attention(nn.Module):
    def __init__(self, d: int, heads: int):
        super().__init__()
        self.heads = heads
        self.linear_q, self.linear_k, self.linear_v, self.linear_out = (nn.Linear(d, d) for _ in range(4))

    def forward(self, x_BZD):
        b, z, d = x_BZD.shape
        q, k, v = (
            linear(x_BZD).reshape(b, z, self.heads, d // self.heads).transpose(1, 2)
            for linear in (self.linear_q, self.linear_k, self.linear_v)
        )
        out_BHZE = functional.scaled_dot_product_attention(q, k, v)
        return self.linear_out(out_BHZE.transpose(1, 2).reshape(b, z, d))


class _FeedForward(nn.Module):
    def __init__(self, d: int, d_ff: int):
        super().__init__()
        self.w_1, self.w_2 = nn.Linear(d, d_ff), nn.Linear(d_ff, d)

    def forward(self, x):
        return self.w_2(functional.relu(self.w_1(x)))


class _Layer(nn.Module):
    def __init__(self, d: int, cfg: AdapterConfig):
        super().__init__()
        self.self_attn, self.feed_forward = _Attention(d, cfg.n_heads), _FeedForward(d, cfg.d_ff)
        self.norm1, self.norm2 = nn.LayerNorm(d, cfg.norm_eps), nn.LayerNorm(d, cfg.norm_eps)

    def forward(self, x):
        x = x + self.self_attn(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class _Transformer(nn.Module):
    """Linear, LayerNorm, scaling by the root of the width, positions, pre-norm layers, LayerNorm."""

    def __init__(self, d: int, cfg: AdapterConfig, positions: int):
        super().__init__()
        self.embed = nn.ModuleList([nn.Linear(d, d), nn.LayerNorm(d, 1e-5)])
        self.encoders = nn.ModuleList(_Layer(d, cfg) for _ in range(cfg.n_layers))
        self.after_norm = nn.LayerNorm(d, cfg.norm_eps)
        self.register_buffer("positions_ZD", interleaved_positions(positions, d), persistent=False)

    def forward(self, x_BZD):
        linear, norm = self.embed
        x_BZD = norm(linear(x_BZD)) * math.sqrt(x_BZD.shape[2]) + self.positions_ZD[: x_BZD.shape[1]]
        for layer in self.encoders:
            x_BZD = layer(x_BZD)
        return self.after_norm(x_BZD)


def interleaved_positions(length: int, width: int):
    """Vaswani et al. 2017, section 3.5, in float64: sin at even, cos at odd columns."""
    rate = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = torch.arange(length, dtype=torch.float64)[:, None] * rate
    return torch.stack([angle.sin(), angle.cos()], dim=2).reshape(length, width).float()


class BaseAdapter(nn.Module):
    """Base class; a kind adds its convolutions, and `convolved`: (B, U, D) -> (B, Z, D)."""

    def __init__(self, cfg: AdapterConfig, d: int, d_out: int, positions: int = 750):
        super().__init__()
        self.transformer, self.proj = _Transformer(d, cfg, positions), nn.Linear(d, d_out)

    def forward(self, x_BUD):
        """(B, U, D) encoder frames of full rows -> (B, Z, d_out) speech tokens."""
        return self.proj(self.transformer(self.convolved(x_BUD)))


def adapter(cfg: AdapterConfig, d: int, d_out: int) -> BaseAdapter:
    """The adapter of a config's kind, between encoder and decoder of these widths."""
    return module_of(cfg.kind, "reference").Adapter(cfg, d, d_out)
