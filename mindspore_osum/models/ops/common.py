"""Operators that are the same on every device, and the masks.

Legend: B batch, L positions, S keys, E head size, N rows, D width.

Notable choices
- A mask is bool, True for what may not be seen; each path makes of it what its attention takes.
- Rotary angles are computed in float32 whatever the weights' type.
"""

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindspore_osum.models import positions

matmul_t = ops.MatMul(transpose_b=True)


def gelu(x):
    """x * Phi(x), the exact (erf) form that Whisper uses."""
    return x * 0.5 * (1.0 + ops.erf(x * 0.7071067811865476))


def rotary_tables(positions_BL, inv_freq: Tensor):
    """cos and sin of position * frequency, each (B, 1, L, E), float32 (Su et al. 2021, rotate-half form)."""
    angle = ops.cast(positions_BL, ms.float32).expand_dims(-1) * inv_freq
    angle = ops.concat((angle, angle), -1).expand_dims(1)
    return ops.cos(angle), ops.sin(angle)


def inverse_frequencies(head_dim: int, theta: float) -> Tensor:
    """theta^(-2i/E) for i < E/2, float32."""
    return Tensor(positions.inverse_frequencies(head_dim, theta))


def frame_places(spans_N2, rows: int, length: int):
    """Place of each frame in its recording, -1 between recordings; int32 (rows, length).

    Parameters
    ----------
    spans_N2 : int32, first frame in the rows laid end to end, and number of frames, of each recording.
    """
    frame_1T = ops.arange(0, rows * length).expand_dims(0)
    first_N1, count_N1 = spans_N2[:, :1], spans_N2[:, 1:]
    inside_NT = ops.logical_and(frame_1T >= first_N1, frame_1T < first_N1 + count_N1)
    place_NT = ops.cast(inside_NT, ms.float32) * ops.cast(frame_1T - first_N1 + 1, ms.float32)
    return ops.cast(ops.reduce_sum(place_NT, 0), ms.int32).reshape((rows, length)) - 1


def halved(frames):
    """Lengths (B,), or `frame_places` (B, T), at half the frame rate, rounded up."""
    if frames.ndim == 1:
        return (frames + 1) // 2
    even_BU = frames[:, ::2]
    return ops.select(even_BU >= 0, even_BU // 2, even_BU)


def frame_positions(table_TD, frames, length: int):
    """Rows of a table of positions for `length` frames, by lengths (B,) or by `frame_places` (B, T)."""
    if frames.ndim == 1:
        return table_TD[:length].expand_dims(0)
    return ops.gather(table_TD, ops.maximum(frames, 0), 0)


def length_mask(length: int, lengths_B):
    """(B, length) float32: 1 for positions before each item's length, 0 after; or by `frame_places`."""
    if lengths_B.ndim == 2:
        return ops.cast(lengths_B >= 0, ms.float32)
    return ops.cast(ops.arange(0, length).expand_dims(0) < lengths_B.expand_dims(-1), ms.float32)


def key_mask(length: int, lengths_B):
    """(B, 1, 1, length) mask that hides keys at or beyond each item's length.

    By `frame_places`, (B, 1, length, length): a frame sees those of its own recording; one between recordings
    itself, since a row that sees nothing has no softmax.
    """
    if lengths_B.ndim == 2:
        place_L = ops.arange(0, length)
        start_BL = place_L.expand_dims(0) - lengths_B  # equal within a recording
        same_BLL = ops.logical_and(start_BL.expand_dims(2) == start_BL.expand_dims(1),
                                   (lengths_B >= 0).expand_dims(1))
        own_LL = place_L.expand_dims(1) == place_L.expand_dims(0)
        return ops.logical_not(ops.logical_or(same_BLL, own_LL.expand_dims(0))).expand_dims(1)
    return (ops.arange(0, length).expand_dims(0) >= lengths_B.expand_dims(-1)).expand_dims(1).expand_dims(1)


def causal_mask(length: int):
    """(1, 1, length, length) mask: a query sees itself and earlier keys."""
    place_L = ops.arange(0, length)
    return (place_L.expand_dims(1) < place_L.expand_dims(0)).expand_dims(0).expand_dims(0)


def segment_causal_mask(segments_BL):
    """(B, 1, L, L) mask: a query sees itself and earlier keys of its own segment."""
    other_BLL = segments_BL.expand_dims(2) != segments_BL.expand_dims(1)
    return ops.logical_or(other_BLL.expand_dims(1), causal_mask(segments_BL.shape[1]))


class _LogSumExp(nn.Cell):
    """log(sum(exp(x))) over the last axis, by the two operators whose sums are fast on CPU."""

    def __init__(self):
        super().__init__()
        self.log_softmax, self.softmax = ops.LogSoftmax(axis=-1), ops.Softmax(axis=-1)

    def construct(self, x):
        """(..., n) -> (...): x - log_softmax(x) is the same in every place."""
        return x[..., 0] - self.log_softmax(x)[..., 0]

    def bprop(self, x, out, dout):
        """dout * softmax(x)."""
        return (self.softmax(x) * dout.expand_dims(-1),)


log_sum_exp = _LogSumExp()
