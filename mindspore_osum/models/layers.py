"""Cells with the parameter names of the published checkpoints: weight, bias, lora_A.weight, lora_B.weight.

Legend: B batch, T time, D width, C channels, H heads, E head size.
Parameters are made as zeros; `models/init.py` draws them for training, loading overwrites them.
"""

import mindspore as ms
from mindspore import Parameter, nn, ops
from mindspore.common.initializer import initializer

from mindspore_osum.config import LoraConfig
from mindspore_osum.models import ops as device_ops
from mindspore_osum.models.dropout import Dropout


def zeros(shape, dtype) -> Parameter:
    """A parameter to be filled later."""
    return Parameter(initializer("zeros", shape, dtype))


class Linear(nn.Cell):
    """x W^T + b, and scale * B(A(dropout(x))) beside it if `lora` is given (Hu et al. 2022, eq. 3).

    Parameters: weight (d_out, d_in), bias (d_out), lora_A.weight (rank, d_in), lora_B.weight (d_out, rank).
    """

    def __init__(
        self, d_in: int, d_out: int, bias: bool = True, dtype=ms.float32, lora: LoraConfig | None = None
    ):
        super().__init__()
        self.d_in, self.d_out = d_in, d_out
        self.weight = zeros((d_out, d_in), dtype)
        self.bias = zeros((d_out,), dtype) if bias else None
        self.scale = lora.scale if lora else 0.0
        self.lora_A = Linear(d_in, lora.rank, False, dtype) if lora else None
        self.lora_B = Linear(lora.rank, d_out, False, dtype) if lora else None
        self.lora_dropout = Dropout(lora.dropout) if lora and lora.dropout > 0 else None

    def construct(self, x):
        y = device_ops.matmul_t(x.reshape((-1, self.d_in)), self.weight)
        if self.bias is not None:
            y = y + self.bias
        y = y.reshape(x.shape[:-1] + (self.d_out,))
        if self.lora_A is not None:
            low = x if self.lora_dropout is None else self.lora_dropout(x)
            y = y + self.lora_B(self.lora_A(low)) * self.scale
        return y


class LayerNorm(nn.Cell):
    """Layer normalisation over the last axis (Ba et al. 2016); weight and bias (D)."""

    def __init__(self, d: int, eps: float, dtype=ms.float32):
        super().__init__()
        self.weight = zeros((d,), dtype)
        self.bias = zeros((d,), dtype)
        self.norm = device_ops.cells(dtype).LayerNorm(d, eps)

    def construct(self, x):
        return self.norm(x, self.weight, self.bias)


class RMSNorm(nn.Cell):
    """Root-mean-square normalisation over the last axis; weight (D)."""

    def __init__(self, d: int, eps: float, dtype=ms.float32):
        super().__init__()
        self.weight = zeros((d,), dtype)
        self.norm = device_ops.cells(dtype).RMSNorm(d, eps)

    def construct(self, x):
        return self.norm(x, self.weight)


class Embedding(nn.Cell):
    """Rows of weight (n, D)."""

    def __init__(self, n: int, d: int, dtype=ms.float32):
        super().__init__()
        self.weight = zeros((n, d), dtype)

    def construct(self, ids):
        return ops.gather(self.weight, ids, 0)


def convolve(conv, x, weight):
    """A convolution in float32, the one type that every device has; the result in x's."""
    return ops.cast(conv(ops.cast(x, ms.float32), ops.cast(weight, ms.float32)), x.dtype)


class Conv1d(nn.Cell):
    """1-D convolution of (B, C_in, T) padded with zeros; weight (C_out, C_in, kernel), bias (C_out)."""

    def __init__(
        self, c_in: int, c_out: int, kernel: int, stride: int, pad: tuple[int, int], dtype=ms.float32
    ):
        super().__init__()
        self.weight = zeros((c_out, c_in, kernel), dtype)
        self.bias = zeros((c_out,), dtype)
        self.conv = ops.Conv2D(c_out, (1, kernel), pad_mode="pad", pad=(0, 0) + pad, stride=(1, stride))

    def construct(self, x_BCT):
        y = convolve(self.conv, x_BCT.expand_dims(2), self.weight.expand_dims(2)).squeeze(2)
        return y + self.bias.expand_dims(0).expand_dims(-1)


class Conv2d(nn.Cell):
    """3 x 3 convolution, stride 2 and padding 1 on both axes; weight (C_out, C_in, 3, 3), bias (C_out)."""

    def __init__(self, c_in: int, c_out: int, dtype=ms.float32):
        super().__init__()
        self.weight = zeros((c_out, c_in, 3, 3), dtype)
        self.bias = zeros((c_out,), dtype)
        self.conv = ops.Conv2D(c_out, 3, pad_mode="pad", pad=1, stride=2)

    def construct(self, x_BCTD):
        return convolve(self.conv, x_BCTD, self.weight) + self.bias.reshape((1, -1, 1, 1))


class SelfAttention(nn.Cell):
    """Multi-head self-attention over all unmasked frames; Whisper's keys have no bias, the adapter's have."""

    def __init__(self, d: int, n_heads: int, key_bias: bool, dtype=ms.float32):
        super().__init__()
        self.n_heads, self.head_dim = n_heads, d // n_heads
        self.attention = device_ops.cells(dtype).Attention(n_heads, n_heads, self.head_dim)
        self.linear_q = Linear(d, d, dtype=dtype)
        self.linear_k = Linear(d, d, bias=key_bias, dtype=dtype)
        self.linear_v = Linear(d, d, dtype=dtype)
        self.linear_out = Linear(d, d, dtype=dtype)

    def heads(self, x_BTD):
        b, t, _ = x_BTD.shape
        return x_BTD.reshape((b, t, self.n_heads, self.head_dim)).transpose((0, 2, 1, 3))

    def construct(self, x_BTD, mask):
        q, k, v = (
            self.heads(self.linear_q(x_BTD)),
            self.heads(self.linear_k(x_BTD)),
            self.heads(self.linear_v(x_BTD)),
        )
        return self.linear_out(self.attention(q, k, v, mask))


class FeedForward(nn.Cell):
    """w_2(act(w_1(x)))."""

    def __init__(self, d: int, d_ff: int, activation: str, dtype=ms.float32):
        super().__init__()
        self.w_1 = Linear(d, d_ff, dtype=dtype)
        self.w_2 = Linear(d_ff, d, dtype=dtype)
        self.activation = ops.relu if activation == "relu" else device_ops.gelu

    def construct(self, x):
        return self.w_2(self.activation(self.w_1(x)))


class TransformerLayer(nn.Cell):
    """Pre-norm Transformer encoder layer (attention, feed-forward, each with a residual)."""

    def __init__(
        self,
        d: int,
        n_heads: int,
        d_ff: int,
        *,
        key_bias: bool,
        activation: str,
        eps: float,
        dropout: float,
        dtype=ms.float32,
    ):
        super().__init__()
        self.self_attn = SelfAttention(d, n_heads, key_bias, dtype)
        self.feed_forward = FeedForward(d, d_ff, activation, dtype)
        self.norm1 = LayerNorm(d, eps, dtype)
        self.norm2 = LayerNorm(d, eps, dtype)
        self.dropout = Dropout(dropout) if dropout > 0 else nn.Identity()

    def construct(self, x_BTD, mask):
        x_BTD = x_BTD + self.dropout(self.self_attn(self.norm1(x_BTD), mask))
        return x_BTD + self.dropout(self.feed_forward(self.norm2(x_BTD)))
