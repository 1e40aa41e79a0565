"""Cells with the parameter names of the published checkpoints: weight, bias, lora_A.weight, lora_B.weight.

Legend: B batch, T time, D width, C channels, H heads, E head size.
Parameters start as zeros; `systems/init.py` initialises them for training, loading overwrites them.
"""

from collections.abc import Iterable, Sequence

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn, ops
from mindspore.common.initializer import initializer
from mindspore.nn.utils import no_init_parameters
from mindspore.ops.auto_generate import Dense, SiLU

from mindspore_osum.models import ops as device_ops
from mindspore_osum.models.dropout import Dropout
from mindspore_osum.models.llama.config import LoraConfig
from mindspore_osum.models.target import target


def zeros(shape, dtype) -> Parameter:
    """A parameter to be filled later."""
    return Parameter(initializer("zeros", shape, dtype))


def transposed(weight: Parameter) -> Parameter:
    """The transpose of a matrix, or of the shape of one without values."""
    if weight.has_init:
        return zeros(weight.shape[::-1], weight.dtype)
    return Parameter(ops.transpose(weight, (1, 0)), name=weight.name, requires_grad=False)


def transpose_all(cell: nn.Cell) -> None:
    """`Linear.transpose` of all linear layers inside."""
    for _, part in cell.cells_and_names():
        if isinstance(part, Linear):
            part.transpose()


def recompute(layers: Iterable[nn.Cell], config) -> None:
    """Recompute layers in the backward pass instead of storing their activations.

    Parameters
    ----------
    config : MindFormers' `recompute_config`: recompute, and the handling of communication in layers.
    """
    for layer in layers:
        layer.recompute(
            mp_comm_recompute=config.mp_comm_recompute,
            parallel_optimizer_comm_recompute=config.parallel_optimizer_comm_recompute,
            recompute_slice_activation=config.recompute_slice_activation,
        )


class Linear(nn.Cell):
    """x W^T + b, plus B(scale * A(dropout(x))) if `lora` is given (Hu et al. 2022, eq. 3).

    Parameters: weight (d_out, d_in), bias (d_out), lora_A.weight (rank, d_in), lora_B.weight (d_out, rank).
    """

    def __init__(
        self, d_in: int, d_out: int, bias: bool = True, dtype=ms.float32, lora: LoraConfig | None = None
    ):
        super().__init__()
        self.d_in, self.d_out = d_in, d_out
        self.matmul = ops.MatMul(transpose_b=True)
        # on CPU the general Add keeps and reads a table of indices for the axes it broadcasts
        self.add_bias = ops.BiasAdd() if target() == "CPU" else ops.Add()
        self.weight = zeros((d_out, d_in), dtype)
        self.bias = zeros((d_out,), dtype) if bias else None
        self.scale = lora.scale if lora else 0.0
        self.lora_A = Linear(d_in, lora.rank, False, dtype) if lora else None
        self.lora_B = Linear(lora.rank, d_out, False, dtype) if lora else None
        self.lora_dropout = Dropout(lora.dropout, d_in) if lora and lora.dropout > 0 else None
        self.scale_low, self.add_low = ops.Mul(), ops.Add()
        self.dense = None  # product and bias in one operator, after `fuse_bias`

    def construct(self, x):
        if self.dense is not None:
            y = self.dense(x.reshape((-1, self.d_in)), self.weight, self.bias)
        else:
            y = self.matmul(x.reshape((-1, self.d_in)), self.weight)
            if self.bias is not None:
                y = self.add_bias(y, self.bias)
        y = y.reshape(x.shape[:-1] + (self.d_out,))
        if self.lora_A is not None:
            low = x if self.lora_dropout is None else self.lora_dropout(x)
            y = self.add_low(y, self.lora_B(self.scale_low(self.lora_A(low), self.scale)))
        return y

    def transpose(self):
        """Keep the weight as (d_in, d_out), on CPU: see models/joined.py."""
        if target() == "CPU" and self.dense is None:
            self.matmul, self.weight = ops.MatMul(), transposed(self.weight)

    def fuse_bias(self):
        """Add the bias in the operator of the product."""
        if self.bias is not None:
            self.dense = Dense()

    def merge_lora(self):
        """Add the adapters' product to the weight, in float32 and rounded once, and drop them."""
        if self.lora_A is None:
            return
        if not self.weight.has_init:  # else there is no data: the graph alone is of interest
            low, high = (linear.weight.astype(ms.float32) for linear in (self.lora_A, self.lora_B))
            weight = self.weight.astype(ms.float32) + self.scale * ops.matmul(high, low)
            self.weight.set_data(weight.astype(self.weight.dtype))
        del self.lora_A, self.lora_B
        self.lora_A = self.lora_B = self.lora_dropout = None

    @classmethod
    def joined(cls, linears: Sequence["Linear"]) -> "Linear":
        """One product with the results of several of the same input, side by side.

        Parameters
        ----------
        linears : none with adapters; one without a bias gets zeros if another has one.
        """
        dtype, bias = linears[0].weight.dtype, any(x.bias is not None for x in linears)
        with no_init_parameters():
            one = cls(linears[0].d_in, sum(x.d_out for x in linears), bias, dtype)
        if linears[0].weight.has_init:  # without values: the graph alone is of interest
            return one
        one.weight.set_data(ops.concat([x.weight for x in linears], 0))
        if bias:
            none = [ms.Tensor(np.zeros(x.d_out, np.float32)).astype(dtype) for x in linears]
            parts = [zero if x.bias is None else x.bias for x, zero in zip(linears, none, strict=True)]
            one.bias.set_data(ops.concat(parts, 0))
        return one

    def shard(self, p, d_in: int = 1, d_out: int = 1):
        """Shard the rows of x, its width into `d_in` parts and the result's into `d_out`; one of them is 1.

        With a sharded d_in every device computes a partial sum, and these are reduced. Where norms and
        residuals are sharded over more rows, the result is reduce-scattered into the same layout.
        """
        rows = p.norm_rows if d_in > 1 else p.rows
        self.matmul.shard(((p.rows, d_in), (d_out, d_in)), ((rows, 1),) if rows != p.rows else None)
        self.add_bias.shard(((rows, d_out), (d_out,)))
        if self.lora_A is not None:
            self.lora_A.shard(p, d_in=d_in)
            self.lora_B.matmul.shard(((rows, 1), (d_out, 1)))
            self.scale_low.shard(((rows, 1), ()))
            self.add_low.shard(((rows, d_out), (rows, d_out)))
            if self.lora_dropout is not None:
                self.lora_dropout.shard((p.rows, d_in))


class LayerNorm(nn.Cell):
    """Layer normalisation over the last axis (Ba et al. 2016); weight and bias (D)."""

    def __init__(self, d: int, eps: float, dtype=ms.float32):
        super().__init__()
        self.weight = zeros((d,), dtype)
        self.bias = zeros((d,), dtype)
        self.norm = device_ops.cells(dtype).LayerNorm(d, eps)

    def construct(self, x):
        return self.norm(x, self.weight, self.bias)

    def shard(self, rows: int):
        """Shard the rows of x, which has two axes."""
        self.norm.shard(rows)


class RMSNorm(nn.Cell):
    """Root-mean-square normalisation over the last axis; weight (D)."""

    def __init__(self, d: int, eps: float, dtype=ms.float32):
        super().__init__()
        self.weight = zeros((d,), dtype)
        self.norm = device_ops.cells(dtype).RMSNorm(d, eps)

    def construct(self, x):
        return self.norm(x, self.weight)

    def added(self, x, y):
        """The norm of x + y, and x + y."""
        return self.norm.added(x, y, self.weight)

    def shard(self, rows: int, rows_out: int = 0):
        """Shard the rows of x, which has two axes; those of the result into `rows_out` parts if given."""
        self.norm.shard(rows, rows_out)


class Embedding(nn.Cell):
    """Looks up rows of weight (n, D)."""

    def __init__(self, n: int, d: int, dtype=ms.float32):
        super().__init__()
        self.weight = zeros((n, d), dtype)
        self.gather = ops.Gather()

    def construct(self, ids):
        return self.gather(self.weight, ids, 0)

    def shard(self, p, vocabulary: int = 1):
        """Shard batch and positions of the ids, and the rows of the table into `vocabulary` parts."""
        self.gather.shard(((vocabulary, 1), (p.data_parallel, p.context_parallel)))


# adds axes to weights replicated on every device; MindSpore might shard them at a Reshape
_first_axis, _last_axis, _second_axis, _weight_axis = (
    device_ops.whole(ops.ExpandDims(), rank) for rank in (1, 2, 3, 3)
)


def convolve(conv, x, weight):
    """A convolution in float32, the only type that every device supports; the result has x's type."""
    return ops.cast(conv(ops.cast(x, ms.float32), ops.cast(weight, ms.float32)), x.dtype)


class Conv1d(nn.Cell):
    """1-D convolution of (B, C_in, T) padded with zeros; weight (C_out, C_in/groups, kernel), bias."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        stride: int,
        pad: tuple[int, int],
        dtype=ms.float32,
        *,
        groups: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        self.weight = zeros((c_out, c_in // groups, kernel), dtype)
        self.bias = zeros((c_out,), dtype) if bias else None
        self.conv = ops.Conv2D(
            c_out, (1, kernel), pad_mode="pad", pad=(0, 0) + pad, stride=(1, stride), group=groups
        )
        self.add_bias = ops.Add()

    def construct(self, x_BCT):
        b, c, t = x_BCT.shape
        y = convolve(self.conv, x_BCT.reshape((b, c, 1, t)), _weight_axis(self.weight, 2))
        y_BCT = y.reshape((b, y.shape[1], -1))
        if self.bias is None:
            return y_BCT
        return self.add_bias(y_BCT, _last_axis(_first_axis(self.bias, 0), -1))

    def shard(self, p):
        """Shard the batch."""
        self.conv.shard(((p.data_parallel, 1, 1, 1), (1, 1, 1, 1)))
        self.add_bias.shard(((p.data_parallel, 1, 1), (1, 1, 1)))


class Conv2d(nn.Cell):
    """3 x 3 convolution, stride 2 on both axes; weight (C_out, C_in, 3, 3), bias (C_out)."""

    def __init__(self, c_in: int, c_out: int, dtype=ms.float32, pad: int = 1):
        super().__init__()
        self.weight = zeros((c_out, c_in, 3, 3), dtype)
        self.bias = zeros((c_out,), dtype)
        self.conv = ops.Conv2D(c_out, 3, pad_mode="pad", pad=pad, stride=2)
        self.add_bias = ops.Add()

    def construct(self, x_BCTD):
        bias = _second_axis(_last_axis(_first_axis(self.bias, 0), -1), -1)
        return self.add_bias(convolve(self.conv, x_BCTD, self.weight), bias)

    def shard(self, p):
        """Shard the batch."""
        parts = (p.data_parallel, 1, 1, 1)
        self.conv.shard((parts, (1, 1, 1, 1)))
        self.add_bias.shard((parts, (1, 1, 1, 1)))


class SelfAttention(nn.Cell):
    """Multi-head self-attention over all unmasked frames; Whisper's keys have no bias, the adapter's do."""

    def __init__(self, d: int, n_heads: int, key_bias: bool, dtype=ms.float32):
        super().__init__()
        self.n_heads, self.head_dim = n_heads, d // n_heads
        self.attention = device_ops.cells(dtype).Attention(n_heads, n_heads, self.head_dim)
        self.linear_q = Linear(d, d, dtype=dtype)
        self.linear_k = Linear(d, d, bias=key_bias, dtype=dtype)
        self.linear_v = Linear(d, d, dtype=dtype)
        self.linear_out = Linear(d, d, dtype=dtype)

    def heads(self, x, frames: int):
        return x.reshape((-1, frames, self.n_heads, self.head_dim))

    def construct(self, x, mask):
        t = mask.shape[-1]
        q, k, v = (
            self.heads(self.linear_q(x), t),
            self.heads(self.linear_k(x), t),
            self.heads(self.linear_v(x), t),
        )
        return self.linear_out(self.attention(q, k, v, mask).reshape(x.shape))

    def shard(self, p):
        """Shard batch and heads."""
        for linear in (self.linear_q, self.linear_k, self.linear_v):
            linear.shard(p, d_out=p.model_parallel)
        self.linear_out.shard(p, d_in=p.model_parallel)
        self.attention.shard(p)


_ACTIVATIONS = {"relu": ops.ReLU, "silu": SiLU, "gelu": device_ops.Gelu}


class FeedForward(nn.Cell):
    """w_2(act(w_1(x)))."""

    def __init__(self, d: int, d_ff: int, activation: str, dtype=ms.float32):
        super().__init__()
        self.w_1 = Linear(d, d_ff, dtype=dtype)
        self.w_2 = Linear(d_ff, d, dtype=dtype)
        self.activation = _ACTIVATIONS[activation]()

    def construct(self, x):
        return self.w_2(self.activation(self.w_1(x)))

    def shard(self, p):
        """Shard the rows and the inner width."""
        parts = (p.rows, p.model_parallel)
        self.w_1.shard(p, d_out=p.model_parallel)
        self.activation.shard((parts,) if isinstance(self.activation, ops.Primitive) else parts)
        self.w_2.shard(p, d_in=p.model_parallel)


class TransformerLayer(nn.Cell):
    """Pre-norm Transformer encoder layer (attention, feed-forward, each with a residual) on (B, T, D), or on
    rows (B*T, D) if the layer is sharded."""

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
        self.dropout = Dropout(dropout, d) if dropout > 0 else nn.Identity()
        self.add_attention, self.add_feed_forward = ops.Add(), ops.Add()

    def for_answers(self):
        """Transpose the weights."""
        transpose_all(self)

    def construct(self, x, mask):
        x = self.add_attention(x, self.dropout(self.self_attn(self.norm1(x), mask)))
        return self.add_feed_forward(x, self.dropout(self.feed_forward(self.norm2(x))))

    def shard(self, p):
        """Shard rows, heads and inner width."""
        self.self_attn.shard(p)
        self.feed_forward.shard(p)
        for norm in (self.norm1, self.norm2):
            norm.shard(p.rows)
        for add in (self.add_attention, self.add_feed_forward):
            add.shard(((p.rows, 1), (p.rows, 1)))
        if isinstance(self.dropout, Dropout):
            self.dropout.shard((p.rows, 1))
