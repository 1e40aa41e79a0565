"""The losses of a batch that is sharded over devices.

Notable choices
- Every device gets the full batch (`full_batch`); the cells shard it (models/sharding.py).
- The loss is written with operators that can be sharded over rows and vocabulary: with a sharded vocabulary
  no device ever holds a full row of logits. All sums of a batch are one small product, so that they take a
  single all-reduce.

Legend: B utterances, L sequence positions, D width, R positions of a sequence with logits, N = B*R rows,
V vocabulary.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindspore_osum.models.losses import IGNORE
from mindspore_osum.models.ops import SegmentCausalMask, whole
from mindspore_osum.systems.osum.template import CONTENT, INTENT


class RowLoss(nn.Cell):
    """Cross-entropy of each row: logits (N, V) float32, labels (N,) -> (N, 1); labels must be in 0..V-1."""

    def __init__(self, p):
        super().__init__()
        parts, column = (p.rows, p.vocabulary), (p.rows, 1)
        self.max = ops.ReduceMax(keep_dims=True).shard((parts,))
        self.subtract, self.exp = ops.Sub().shard((parts, column)), ops.Exp().shard((parts,))
        self.sum, self.log = ops.ReduceSum(keep_dims=True).shard((parts,)), ops.Log().shard((column,))
        self.one_hot, self.pick = ops.OneHot().shard((parts, (), ())), ops.Mul().shard((parts, parts))
        self.picked = ops.ReduceSum(keep_dims=True).shard((parts,))
        self.loss = ops.Sub().shard((column, column))

    def construct(self, logits_NV, labels_N):
        shifted_NV = self.subtract(logits_NV, ops.stop_gradient(self.max(logits_NV, -1)))
        one, zero = Tensor(1.0, ms.float32), Tensor(0.0, ms.float32)
        label_NV = self.one_hot(labels_N, logits_NV.shape[1], one, zero)
        picked_N1 = self.picked(self.pick(label_NV, shifted_NV), -1)
        return self.loss(self.log(self.sum(self.exp(shifted_NV), -1)), picked_N1)


class LastPlaces(nn.Cell):
    """As label_losses.last_places, of sharded labels: (B, L) -> the R positions that end before the last."""

    def __init__(self, p):
        super().__init__()
        batch, column = (p.data_parallel, 1), ((p.data_parallel, 1),)
        self.is_label = ops.NotEqual().shard((batch, ()))
        self.place, self.last = ops.Mul().shard((batch, (1, 1))), ops.ReduceMax(keep_dims=True).shard(column)
        self.back, self.at_least = ops.Sub().shard((batch, ())), ops.Maximum().shard((batch, ()))
        self.count_on = ops.Add().shard((batch, (1, 1)))

    def construct(self, labels_BL, room: int):
        before_1L = Tensor(np.maximum(np.arange(labels_BL.shape[1], dtype=np.float32) - 1, 0)[None])
        last_B1 = self.last(self.place(ops.cast(self.is_label(labels_BL, IGNORE), ms.float32), before_1L), 1)
        first_B1 = self.at_least(self.back(last_B1, float(room - 1)), 0.0)
        return ops.cast(self.count_on(first_B1, Tensor(np.arange(room, dtype=np.float32)[None])), ms.int32)


class ShardedLosses(nn.Cell):
    """The result of the objective for a sharded model as one vector; its gradient is that of the loss.

    Parameters
    ----------
    objective : OsumObjective.
    p : models/sharding.py ParallelConfig.
    """

    def __init__(self, objective, p):
        super().__init__()
        # bypasses nn.Cell, which would rename the parameters
        object.__setattr__(self, "model", objective.model)
        self.speech = objective.speech
        self.weights = (float(objective.intent_weight), float(objective.content_weight))
        self.mask, self.places, self.row_loss = SegmentCausalMask(), LastPlaces(p), RowLoss(p)
        self.mask.shard(p)
        batch, column = (p.data_parallel, 1), (p.rows, 1)
        self.take_hidden = ops.Gather(1).shard(((p.data_parallel, 1, 1), batch))
        self.take = ops.Gather(1).shard((batch, batch))
        self.next_place = ops.Add().shard((batch, ()))
        self.label_at_least = ops.Maximum().shard(((p.rows,), ()))
        self.is_label, self.is_span = ops.NotEqual().shard((column, ())), ops.Equal().shard((column, ()))
        self.weigh, self.add_weights = ops.Mul().shard((column, ())), ops.Add().shard((column, column))
        self.count = ops.Mul().shard((column, column))
        self.join_2, self.join_4 = (ops.Concat(-1).shard((column,) * n) for n in (2, 4))
        self.sums = ops.MatMul(transpose_a=True).shard((column, column))
        self.mean, self.divide = whole(ops.ReduceMean(), 1), whole(ops.RealDiv(), 0, 0)
        self.at_least_one, self.pick = whole(ops.Maximum(), 0, 0), whole(ops.Gather(), 1, 1)
        self.first, self.rest = whole(ops.Mul(), 1, 0), whole(ops.Add(), 1, 1)
        self.order = whole(ops.Mul(), 1, 1)
        self.loss_alone, self.shown, self.both = (whole(op, 1, 1) for op in (ops.Mul(), ops.Mul(), ops.Add()))
        self.place_9 = Tensor(np.array([1, 0, 0, 0, 0, 2, 3, 6, 7], np.int32))
        flags = [[1, 1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1, 1, 1], [1] + [0] * 8, [0] + [1] * 8]
        self.mean_9, self.sum_9, self.loss_9, self.other_9 = (Tensor(np.array(f, np.float32)) for f in flags)
        if p.pipeline_stage > 1:
            self.row_loss.pipeline_stage = p.pipeline_stage - 1

    def construct(self, batch):
        labels_BL = batch["labels_BL"]
        length, room = labels_BL.shape[1], labels_BL.shape[1] - 1
        if self.speech:
            z_BZD, _ = self.model.encode_speech(batch["mel_BTF"], batch["mel_len_B"])
            x_BLD = self.model.embed(batch["token_ids_BL"], batch["speech_row_BL"], z_BZD)
            room = length - z_BZD.shape[1] - 2  # labels are within the text positions
        else:
            x_BLD = self.model.decoder.embed(batch["token_ids_BL"])
        hidden_BLD = self.model.decoder(x_BLD, batch["positions_BL"], self.mask(batch["segments_BL"]))
        place_BR = self.places(labels_BL, room)
        hidden_BRD = self.take_hidden(hidden_BLD, place_BR, 1)
        logits_NV = self.model.decoder.logits(hidden_BRD.reshape((-1, hidden_BRD.shape[-1])))
        next_BR = self.next_place(place_BR, 1)
        labels_N = self.take(labels_BL, next_BR, 1).reshape((-1,))
        spans_N1 = self.take(batch["spans_BL"], next_BR, 1).reshape((-1, 1))
        loss_N1 = self.row_loss(logits_NV, self.label_at_least(labels_N, 0))
        sums_8 = self.summed(loss_N1, labels_N.reshape((-1, 1)), spans_N1)
        return self.in_order(sums_8, self.at_least_one(self.mean(batch["targets_B"]), 1.0))

    def summed(self, loss_N1, labels_N1, spans_N1):
        """Sums over rows of (loss, 1) x (1, weight, intent, content)."""
        loss_N1 = self.count(loss_N1, ops.cast(self.is_label(labels_N1, IGNORE), ms.float32))
        intent_N1 = ops.cast(self.is_span(spans_N1, INTENT), ms.float32)
        content_N1 = ops.cast(self.is_span(spans_N1, CONTENT), ms.float32)
        weight_N1 = self.add_weights(
            self.weigh(intent_N1, self.weights[0]), self.weigh(content_N1, self.weights[1])
        )
        one_N1 = Tensor(np.ones(loss_N1.shape, np.float32))
        left_N2 = self.join_2((loss_N1, one_N1))
        return self.sums(left_N2, self.join_4((one_N1, weight_N1, intent_N1, content_N1))).reshape((8,))

    def in_order(self, sums_8, targets):
        """(loss, ce, 0, 0, 0, intent loss, content loss, labels of both); loss and ce are per label."""
        scale_9 = self.rest(self.first(self.mean_9, self.divide(1.0, targets)), self.sum_9)
        out_9 = self.order(self.pick(sums_8, self.place_9, 0), scale_9)
        shown_9 = self.shown(ops.stop_gradient(out_9), self.other_9)
        return self.both(self.loss_alone(out_9, self.loss_9), shown_9)
