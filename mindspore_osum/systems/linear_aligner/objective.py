"""What a linear aligner learns: the cross-entropy of answers and their ends, a mean over a step's tokens."""

from mindspore import ops

from mindspore_osum.data.batches.batching import TARGETS
from mindspore_osum.models.ops import frame_places
from mindspore_osum.systems.job import NamedLoss
from mindspore_osum.systems.label_losses import LabelLosses


class AlignerObjective(LabelLosses):
    """The model and its loss.

    Parameters
    ----------
    speech : whether any example of the job has a recording.
    """

    losses = (NamedLoss("ce", TARGETS),)

    def __init__(self, model, speech: bool):
        super().__init__(model)
        self.speech = speech

    def construct(self, batch):
        """(loss, values, counts) of the columns of a batch, float32."""
        z_BZD, room, mel_len_B = None, 0, batch["mel_len_B"]
        if self.speech:
            b, t, _ = batch["mel_BTF"].shape
            packed = mel_len_B.ndim == 2  # several recordings per row
            places = frame_places(mel_len_B, b, t) if packed else mel_len_B
            z_BZD = self.model.encode_speech(batch["mel_BTF"], places)[0]
            if not packed:  # labels are within the text positions
                room = batch["labels_BL"].shape[1] - z_BZD.shape[1] - 2
        loss_BM, _ = self.label_losses(batch, z_BZD, room)
        ce = ops.reduce_sum(loss_BM) / ops.maximum(ops.mean(batch["targets_B"]), 1.0)
        return ce, {"ce": ce}, {}
