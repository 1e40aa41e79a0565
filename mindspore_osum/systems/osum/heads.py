"""Heads used in training only: CTC and label classifiers. Saved and exported models do not contain them.

Notable choices
- The CTC head's class 0 is the blank, class i+1 token i.

Legend: B utterances, U encoder frames, Z speech tokens, D width, S CTC labels, V classes, C label sets.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from mindspore_osum.models.losses import IGNORE, token_losses
from mindspore_osum.models.ops import matmul_t
from mindspore_osum.systems.osum.alignment import BLANK
from mindspore_osum.tasks import LABEL_SETS


class CtcHead(nn.Cell):
    """A linear layer to vocabulary + blank; the CTC loss, and a frame-wise one where word times are known."""

    def __init__(self, d_model: int, vocab: int, seed: int):
        super().__init__()
        weight = np.random.default_rng([seed, *b"ctc_head"]).standard_normal((vocab + 1, d_model), np.float32)
        self.weight = Parameter(Tensor(weight * np.float32(d_model**-0.5)))
        self.bias = Parameter(Tensor(np.zeros(vocab + 1, np.float32)))
        self.log_softmax = nn.LogSoftmax(-1)

    def construct(self, h_BUD, len_B, labels_BS, label_len_B, frames_BU):
        """Two means over the batch.

        CTC : -log p(labels) / length; 0 where there are no labels or no path exists.
        aligned : -log p(class) averaged over the frames whose class is known; 0 without any. None where
            frames_BU is None.
        """
        b, u, d = h_BUD.shape
        flat = matmul_t(ops.cast(h_BUD, ms.float32).reshape((-1, d)), self.weight) + self.bias
        log_p_BUV = self.log_softmax(flat.reshape((b, u, -1)))
        log_p_UBV = log_p_BUV.transpose((1, 0, 2))
        # the operator fails on more labels than frames, and gives infinity, whatever its flag, with too few
        # frames for the blanks between equal labels: such items are computed with one label and left out
        inside_BS = ops.arange(1, labels_BS.shape[1]).expand_dims(0) < label_len_B.expand_dims(-1)
        repeats_BS = ops.logical_and(labels_BS[:, 1:] == labels_BS[:, :-1], inside_BS)
        needed_B = label_len_B + ops.reduce_sum(ops.cast(repeats_BS, ms.int32), 1)
        counts_B = ops.logical_and(label_len_B > 0, needed_B <= len_B)
        length_B = ops.select(counts_B, label_len_B, ops.ones_like(label_len_B))
        loss_B = ops.ctc_loss(log_p_UBV, labels_BS + 1, len_B, length_B, BLANK, "none")[0]
        ctc = ops.mean(loss_B * ops.cast(counts_B, ms.float32) / ops.cast(length_B, ms.float32))
        if frames_BU is None:
            return ctc, None
        known_BU = ops.cast(frames_BU != IGNORE, ms.float32)
        picked_BU = ops.gather_elements(log_p_BUV, -1, ops.maximum(frames_BU, 0).expand_dims(-1)).squeeze(-1)
        known_B = ops.maximum(ops.reduce_sum(known_BU, 1), 1.0)
        return ctc, -ops.mean(ops.reduce_sum(picked_BU * known_BU, 1) / known_B)


class LabelHeads(nn.Cell):
    """A linear classifier for each label set, on the mean of an utterance's speech tokens."""

    def __init__(self, d_model: int, seed: int):
        super().__init__()
        self.sizes = [len(labels.values) for labels in LABEL_SETS.values()]
        rng = np.random.default_rng([seed, *b"label_heads"])
        weight = rng.standard_normal((sum(self.sizes), d_model), np.float32) * np.float32(d_model**-0.5)
        self.weight = Parameter(Tensor(weight))
        self.bias = Parameter(Tensor(np.zeros(sum(self.sizes), np.float32)))

    def construct(self, z_BZD, z_len_B, classes_BC):
        """Cross-entropy summed over the label sets, mean over the batch; unknown labels (IGNORE) count 0."""
        length_B1 = ops.cast(z_len_B, ms.float32).expand_dims(-1)
        inside_BZ = ops.arange(0, z_BZD.shape[1]).expand_dims(0) < z_len_B.expand_dims(-1)
        inside_BZ1 = ops.cast(inside_BZ, ms.float32).expand_dims(-1)
        mean_BD = ops.reduce_sum(ops.cast(z_BZD, ms.float32) * inside_BZ1, 1) / length_B1
        logits_BV = matmul_t(mean_BD, self.weight) + self.bias
        loss, first = ops.zeros((), ms.float32), 0
        for number, size in enumerate(self.sizes):
            losses_B, _ = token_losses(logits_BV[:, first : first + size], classes_BC[:, number])
            loss, first = loss + ops.reduce_sum(losses_B), first + size
        return loss / z_BZD.shape[0]
