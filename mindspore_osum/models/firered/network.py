"""FireRedASR's Conformer encoder (Xu et al. 2025, section 2.1; Gulati et al. 2020), as WeNet and WEST run it.

Legend: B batch, T fbank frames (10 ms), U encoder frames (40 ms), F bins, D width, C channels, H heads,
E head size, R relative positions (2U-1: from U-1 to -(U-1)).

Notable choices
- Padding never changes results: frames beyond an item's end are zero before the first convolution and before
  each depthwise one, and masked as attention keys. A batch equals its items one by one, which equal the
  published code's. WeNet's own batches do not: it normalises the padding, too, and counts up to two frames
  of it as the recording's.
- A recording gives ceil(T/4) frames: six frames of zeros follow it, as in the published code. (FireRedASR's
  code since the states for TensorRT counts only the frames that see none of these, although it has them.)
- Attention has its own LayerNorm for queries, keys and values, and none in common. Its positional term is
  added to the scores, so no fused attention is used.
- Inputs are plain Kaldi fbank features (speech/fbank.py); the encoder normalises them in float32.
"""

import mindspore as ms
from mindspore import Tensor, nn, ops
from mindspore.ops.auto_generate import SiLU

from mindspore_osum.models.firered.config import MAX_FRAMES, RIGHT_CONTEXT, FireRedConfig
from mindspore_osum.models.layers import (
    Conv1d,
    Conv2d,
    Embedding,
    FeedForward,
    LayerNorm,
    Linear,
    transpose_all,
    zeros,
)
from mindspore_osum.models.ops import elementary, halved, key_mask, length_mask
from mindspore_osum.models.positions import relative_sinusoids


class Normalization(nn.Cell):
    """(x - mean) * istd for every bin; parameters of the features' statistics, never trained."""

    def __init__(self, n_mels: int):
        super().__init__()
        self.mean, self.istd = zeros((n_mels,), ms.float32), zeros((n_mels,), ms.float32)
        self.mean.requires_grad = self.istd.requires_grad = False

    def construct(self, x_BTF):
        return (ops.cast(x_BTF, ms.float32) - self.mean) * self.istd


class Subsampling(nn.Cell):
    """Two 3 x 3 convolutions with stride 2 over frames and bins, and a linear layer to the width."""

    def __init__(self, cfg: FireRedConfig, dtype):
        super().__init__()
        c = cfg.conv_channels
        # items 0, 2: the published list has its ReLU in between
        self.conv = nn.CellList([Conv2d(1, c, dtype, pad=0), nn.Identity(), Conv2d(c, c, dtype, pad=0)])
        self.out = nn.CellList([Linear(c * cfg.bands, cfg.d_model, dtype=dtype)])
        self.relu, self.time_first = ops.ReLU(), ops.Transpose()

    def construct(self, x_BTF):
        b, _, f = x_BTF.shape
        x_BTF = ops.concat((x_BTF, ops.zeros((b, RIGHT_CONTEXT, f), x_BTF.dtype)), 1)
        x_BCTF = self.relu(self.conv[0](x_BTF.expand_dims(1)))
        x_BCUF = self.relu(self.conv[2](x_BCTF))
        return self.out[0](self.time_first(x_BCUF, (0, 2, 1, 3)).reshape((b, x_BCUF.shape[2], -1)))


class RelativeAttention(nn.Cell):
    """softmax(((q + u) k^T + (q + v) p^T) / sqrt(E)) v with the projected relative positions p (Dai et al.
    2019, section 3.3)."""

    def __init__(self, d: int, n_heads: int, eps: float, dtype):
        super().__init__()
        self.n_heads, self.head_dim = n_heads, d // n_heads
        self.pos_bias_u, self.pos_bias_v = (zeros((n_heads, self.head_dim), dtype) for _ in "uv")
        self.layer_norm_q, self.layer_norm_k, self.layer_norm_v = (LayerNorm(d, eps, dtype) for _ in "qkv")
        self.linear_q, self.linear_k, self.linear_v = (Linear(d, d, False, dtype) for _ in "qkv")
        self.linear_out, self.linear_pos = (Linear(d, d, False, dtype) for _ in "op")
        self.attention = elementary().Attention(n_heads, n_heads, self.head_dim)
        self.product, self.transpose = ops.BatchMatMul(transpose_b=True), ops.Transpose()

    def heads(self, x):
        return x.reshape((x.shape[0], -1, self.n_heads, self.head_dim))

    def construct(self, x_BUD, table_RD, mask_B11U):
        q_BUHE = self.heads(self.linear_q(self.layer_norm_q(x_BUD)))
        k_BUHE = self.heads(self.linear_k(self.layer_norm_k(x_BUD)))
        v_BUHE = self.heads(self.linear_v(self.layer_norm_v(x_BUD)))
        bias = ops.cast(self.by_position(q_BUHE, table_RD), ms.float32) + mask_B11U
        return self.linear_out(self.attention(q_BUHE + self.pos_bias_u, k_BUHE, v_BUHE, bias))

    def by_position(self, q_BUHE, table_RD):
        """(B, H, U, U): the positional term of the scores, row i and column j of position i - j."""
        b, u, h, e = q_BUHE.shape
        r = 2 * u - 1
        p_1HRE = self.transpose(self.linear_pos(table_RD).reshape((1, r, h, e)), (0, 2, 1, 3))
        q_BHUE = self.transpose((q_BUHE + self.pos_bias_v) * self.head_dim**-0.5, (0, 2, 1, 3))
        term_BHUR = self.product(q_BHUE, ops.broadcast_to(p_1HRE, (b, h, r, e)))
        # column U-1-i+j of row i moves to column j: with one more column, and U elements less in front,
        # every row begins one earlier than the one above it
        term = ops.concat((ops.zeros((b, h, u, 1), term_BHUR.dtype), term_BHUR), -1).reshape(
            (b, h, 2 * u * u)
        )
        return term[:, :, u:].reshape((b, h, u, r))[..., :u]


class Pointwise(nn.Cell):
    """A convolution of kernel 1 without bias, as a product; weight (d_out, d_in, 1)."""

    def __init__(self, d_in: int, d_out: int, dtype):
        super().__init__()
        self.d_in, self.d_out = d_in, d_out
        self.weight, self.matmul = zeros((d_out, d_in, 1), dtype), ops.MatMul(transpose_b=True)

    def construct(self, x):
        y = self.matmul(x.reshape((-1, self.d_in)), self.weight.reshape((self.d_out, self.d_in)))
        return y.reshape(x.shape[:-1] + (self.d_out,))


class ConvModule(nn.Cell):
    """Pointwise to 4D, gate to 2D, depthwise over frames, LayerNorm, SiLU, pointwise to D."""

    def __init__(self, cfg: FireRedConfig, dtype):
        super().__init__()
        d, inner, pad = cfg.d_model, 2 * cfg.d_model, cfg.kernel // 2
        self.pointwise_conv1 = Pointwise(d, 2 * inner, dtype)
        self.depthwise_conv = Conv1d(inner, inner, cfg.kernel, 1, (pad, pad), dtype, groups=inner, bias=False)
        self.norm = LayerNorm(inner, cfg.norm_eps, dtype)
        self.pointwise_conv2 = Pointwise(inner, d, dtype)
        self.halves, self.sigmoid, self.silu = ops.Split(-1, 2), ops.Sigmoid(), SiLU()
        self.transpose = ops.Transpose()

    def construct(self, x_BUD, keep_BU1):
        x, gate = self.halves(self.pointwise_conv1(x_BUD * keep_BU1))  # no bias: zeros stay zeros
        x_BCU = self.depthwise_conv(self.transpose(x * self.sigmoid(gate), (0, 2, 1)))
        return self.pointwise_conv2(self.silu(self.norm(self.transpose(x_BCU, (0, 2, 1)))))


class ConformerLayer(nn.Cell):
    """Half a feed-forward, attention, convolutions, half a feed-forward, each added to x; then a norm."""

    def __init__(self, cfg: FireRedConfig, dtype):
        super().__init__()
        d, eps = cfg.d_model, cfg.norm_eps
        self.norm_ff_macaron = LayerNorm(d, eps, dtype)
        self.feed_forward_macaron = FeedForward(d, cfg.d_ff, "silu", dtype)
        self.self_attn = RelativeAttention(d, cfg.n_heads, eps, dtype)
        self.norm_conv = LayerNorm(d, eps, dtype)
        self.conv_module = ConvModule(cfg, dtype)
        self.norm_ff = LayerNorm(d, eps, dtype)
        self.feed_forward = FeedForward(d, cfg.d_ff, "silu", dtype)
        self.norm_final = LayerNorm(d, eps, dtype)

    def for_answers(self):
        """Transpose the weights."""
        transpose_all(self)

    def construct(self, x, table_RD, mask_B11U, keep_BU1):
        x = x + 0.5 * self.feed_forward_macaron(self.norm_ff_macaron(x))
        x = x + self.self_attn(x, table_RD, mask_B11U)
        x = x + self.conv_module(self.norm_conv(x), keep_BU1)
        return self.norm_final(x + 0.5 * self.feed_forward(self.norm_ff(x)))


class FireRedEncoder(nn.Cell):
    """Kaldi fbank frames to encoder frames at a quarter of the rate.

    Parameters
    ----------
    positions : encoder frames of the longest recording.
    stored : whether the table of relative positions is a parameter; else it is computed.
    """

    def __init__(
        self, cfg: FireRedConfig, dtype=ms.float32, positions: int = MAX_FRAMES, stored: bool = False
    ):
        super().__init__()
        self.global_cmvn = Normalization(cfg.n_mels)
        self.embed = Subsampling(cfg, dtype)
        self.encoders = nn.CellList([ConformerLayer(cfg, dtype) for _ in range(cfg.n_layers)])
        self.dtype, self.positions, self.attention_mask = dtype, positions, elementary().AttentionMask()
        self.embed_positions = Embedding(2 * positions - 1, cfg.d_model, dtype) if stored else None
        self.table_RD = None if stored else Tensor(relative_sinusoids(positions, cfg.d_model), dtype)
        self.rows = ops.StridedSlice()

    def construct(self, mel_BTF, mel_len_B):
        """Encode.

        Parameters
        ----------
        mel_BTF : (B, T, n_mels) fbank, ceil(T/4) <= positions; values beyond an item's length are ignored.
        mel_len_B : (B,) int32, frames of each item, at least 1.

        Returns
        -------
        (B, ceil(T/4), d_model), zero beyond each item's end, and lengths ceil(mel_len/4).
        """
        b, t, _ = mel_BTF.shape
        inside_BT1 = length_mask(t, mel_len_B).reshape((b, t, 1))
        x_BUD = self.embed(ops.cast(self.global_cmvn(mel_BTF) * inside_BT1, self.dtype))
        u, d = x_BUD.shape[1:]
        len_B = halved(halved(mel_len_B))
        mask_B11U = self.attention_mask(key_mask(u, len_B), u)
        keep_BU1 = ops.cast(length_mask(u, len_B), self.dtype).reshape((b, u, 1))
        table_RD = self.table_RD if self.embed_positions is None else self.embed_positions.weight
        table_RD = self.rows(table_RD, (self.positions - u, 0), (self.positions + u - 1, d), (1, 1))
        for layer in self.encoders:
            x_BUD = layer(x_BUD, table_RD, mask_B11U, keep_BU1)
        return x_BUD * keep_BU1, len_B
