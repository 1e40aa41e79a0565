"""Operators that are the same on every device, and attention masks.

Legend: B batch, L positions, S keys, E head size, N rows, D width.

Notable choices
- A mask is bool, True for hidden keys; each path converts it to the form that its attention needs.
- Rotary angles are computed in float32 whatever the weights' type.
- Operators on lengths and positions are small: where a batch is sharded over devices, each device computes
  them for the full batch ("whole" below) without communication. Large operators are cells that can be
  sharded.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindspore_osum.models import positions

matmul_t = ops.MatMul(transpose_b=True)


def whole(op, *ranks: int):
    """An operator on tensors of these ranks that every device computes in full (replicated)."""
    return op.shard(tuple((1,) * rank for rank in ranks))


_add_one, _half = whole(ops.Add(), 1, 0), whole(ops.FloorDiv(), 1, 0)
_less, _not_less = whole(ops.Less(), 2, 2), whole(ops.GreaterEqual(), 2, 2)
_first_rows = whole(ops.StridedSlice(), 2)


class RotaryTables(nn.Cell):
    """cos and sin of position * frequency, each (B, L, 1, E), float32 (Su et al. 2021, rotate-half form)."""

    def __init__(self, head_dim: int, theta: float):
        super().__init__()
        self.inv_freq = inverse_frequencies(head_dim, theta)
        self.angle, self.twice, self.cos, self.sin = ops.Mul(), ops.Concat(-1), ops.Cos(), ops.Sin()

    def construct(self, positions_BL):
        b, length = positions_BL.shape
        angle = self.angle(ops.cast(positions_BL, ms.float32).reshape((b, length, 1)), self.inv_freq)
        angle = self.twice((angle, angle)).reshape((b, length, 1, -1))
        return self.cos(angle), self.sin(angle)

    def shard(self, p):
        """Shard the batch and the positions."""
        parts = (p.data_parallel, p.context_parallel, 1)
        self.angle.shard((parts, (1,)))
        self.twice.shard((parts, parts))
        for op in (self.cos, self.sin):
            op.shard(((p.data_parallel, p.context_parallel, 1, 1),))


def inverse_frequencies(head_dim: int, theta: float) -> Tensor:
    """theta^(-2i/E) for i < E/2, float32."""
    return Tensor(positions.inverse_frequencies(head_dim, theta))


def frame_places(spans_N2, rows: int, length: int):
    """Index of each frame in its recording, -1 between recordings; int32 (rows, length).

    Parameters
    ----------
    spans_N2 : int32, first frame (counted over the concatenated rows) and number of frames of each recording.
    """
    frame_1T = ops.arange(0, rows * length).expand_dims(0)
    first_N1, count_N1 = spans_N2[:, :1], spans_N2[:, 1:]
    inside_NT = ops.logical_and(frame_1T >= first_N1, frame_1T < first_N1 + count_N1)
    place_NT = ops.cast(inside_NT, ms.float32) * ops.cast(frame_1T - first_N1 + 1, ms.float32)
    return ops.cast(ops.reduce_sum(place_NT, 0), ms.int32).reshape((rows, length)) - 1


def halved(frames):
    """Convert lengths (B,), or `frame_places` (B, T), to half the frame rate, rounding up."""
    if frames.ndim == 1:
        return _half(_add_one(frames, 1), 2)
    even_BU = frames[:, ::2]
    return ops.select(even_BU >= 0, even_BU // 2, even_BU)


def frame_positions(table_TD, frames, length: int):
    """Rows of a table of positions for `length` frames, by lengths (B,) or by `frame_places` (B, T)."""
    if frames.ndim == 1:
        rows, width = table_TD.shape
        if length == rows:  # a slice that takes all is copied element by element on CPU
            return table_TD.reshape((1, length, width))
        return _first_rows(table_TD, (0, 0), (length, width), (1, 1)).reshape((1, length, width))
    return ops.gather(table_TD, ops.maximum(frames, 0), 0)


def length_mask(length: int, lengths_B):
    """(B, length) float32: 1 for positions before each item's length, 0 after; or by `frame_places`."""
    if lengths_B.ndim == 2:
        return ops.cast(lengths_B >= 0, ms.float32)
    return ops.cast(_less(_places(length), lengths_B.reshape((-1, 1))), ms.float32)


def key_mask(length: int, lengths_B):
    """(B, 1, 1, length) mask that hides keys at or beyond each item's length.

    With `frame_places`, (B, 1, length, length): a frame sees the frames of its own recording. A frame between
    recordings sees itself, since softmax is undefined for a row that is fully masked.
    """
    if lengths_B.ndim == 2:
        place_L = ops.arange(0, length)
        start_BL = place_L.expand_dims(0) - lengths_B  # equal within a recording
        same_BLL = ops.logical_and(
            start_BL.expand_dims(2) == start_BL.expand_dims(1), (lengths_B >= 0).expand_dims(1)
        )
        own_LL = place_L.expand_dims(1) == place_L.expand_dims(0)
        return ops.logical_not(ops.logical_or(same_BLL, own_LL.expand_dims(0))).expand_dims(1)
    return _not_less(_places(length), lengths_B.reshape((-1, 1))).reshape((-1, 1, 1, length))


def _places(length: int):
    """(1, length): 0, 1, ..."""
    return Tensor(np.arange(length, dtype=np.int32)[None])


def causal_mask(length: int):
    """(1, 1, length, length) mask: a query sees itself and earlier keys."""
    place_1L = _places(length)
    return _less(place_1L.reshape((length, 1)), place_1L).reshape((1, 1, length, length))


class SegmentCausalMask(nn.Cell):
    """(B, 1, L, L) mask: a query sees itself and earlier keys of its own segment."""

    def __init__(self):
        super().__init__()
        self.other, self.either = ops.NotEqual(), ops.LogicalOr()

    def construct(self, segments_BL):
        b, length = segments_BL.shape
        other_BLL = self.other(segments_BL.reshape((b, length, 1)), segments_BL.reshape((b, 1, length)))
        return self.either(other_BLL.reshape((b, 1, length, length)), causal_mask(length))

    def shard(self, p):
        """Shard the batch and the queries."""
        dp, cp = p.data_parallel, p.context_parallel
        self.other.shard(((dp, cp, 1), (dp, 1, 1)))
        self.either.shard(((dp, 1, cp, 1), (1, 1, cp, 1)))


segment_causal_mask = SegmentCausalMask()


class _LogSumExp(nn.Cell):
    """log(sum(exp(x))) over the last axis, by the two operators whose sums are fast on CPU."""

    def __init__(self):
        super().__init__()
        self.log_softmax, self.softmax = ops.LogSoftmax(axis=-1), ops.Softmax(axis=-1)

    def construct(self, x):
        """(..., n) -> (...): x - log_softmax(x) is the same for every element."""
        return x[..., 0] - self.log_softmax(x)[..., 0]

    def bprop(self, x, out, dout):
        """dout * softmax(x)."""
        return (self.softmax(x) * dout.expand_dims(-1),)


log_sum_exp = _LogSumExp()
