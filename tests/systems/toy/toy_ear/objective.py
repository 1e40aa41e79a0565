"""What it learns: one loss.

Legend: B rows, L positions, M positions with a next one, D width.
"""

from mindspore import nn, ops

from mindspore_osum.data.batches.batching import TARGETS
from mindspore_osum.models.losses import token_losses
from mindspore_osum.models.ops import segment_causal_mask
from mindspore_osum.systems.job import NamedLoss


class EarObjective(nn.Cell):
    """Cross-entropy of what was said."""

    losses = (NamedLoss("ce", TARGETS),)

    def __init__(self, model):
        super().__init__()
        self.model = model

    def construct(self, batch):
        x_BLD = self.model(batch["mel_BTF"], batch["token_ids_BL"], batch["speech_row_BL"])
        mask = segment_causal_mask(batch["segments_BL"])
        hidden_BLD = self.model.decoder(x_BLD, batch["positions_BL"], mask)
        loss_BM, _ = token_losses(self.model.decoder.logits(hidden_BLD[:, :-1]), batch["labels_BL"][:, 1:])
        ce = ops.reduce_sum(loss_BM) / ops.mean(batch["targets_B"])
        return ce, {"ce": ce}, {}
