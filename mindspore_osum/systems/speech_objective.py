"""The objective of models that learn tokens alone: cross-entropy, a mean over all labels of a step.

Legend: B rows, T mel frames, Z speech tokens, D width, M positions with a next one.
"""

from collections.abc import Mapping

import mindspore as ms
from mindspore import ops

from mindspore_osum.data.batches.batching import TARGETS
from mindspore_osum.models.ops import frame_places
from mindspore_osum.systems.job import NamedLoss
from mindspore_osum.systems.label_losses import LabelLosses


class SpeechObjective(LabelLosses):
    """The model and its loss.

    Parameters
    ----------
    model : a `speech_network.SpeechModel`.
    speech : whether any example of the job has a recording.
    spans : name of a reported loss -> number of the span whose labels it is a mean over.
    near_end : whether all labels of a sequence are behind its recording.
    """

    def __init__(self, model, speech: bool, spans: Mapping[str, int] = {}, near_end: bool = True):
        super().__init__(model)
        self.speech, self.near_end = speech, near_end
        self.names, self.numbers = tuple(spans), tuple(spans.values())
        self.losses = (NamedLoss("ce", TARGETS), *map(NamedLoss, spans))

    def construct(self, batch):
        """(loss, values, counts) of the columns of a batch, float32: as `System.objective`."""
        z_BZD, room, mel_len_B = None, 0, batch["mel_len_B"]
        if self.speech:
            b, t, _ = batch["mel_BTF"].shape
            packed = mel_len_B.ndim == 2  # several recordings per row
            places = frame_places(mel_len_B, b, t) if packed else mel_len_B
            z_BZD = self.model.encode_speech(batch["mel_BTF"], places)[0]
            if self.near_end and not packed:  # labels are within the text positions
                room = batch["labels_BL"].shape[1] - z_BZD.shape[1] - 2
        loss_BM, spans_BM = self.label_losses(batch, z_BZD, room)
        ce = ops.reduce_sum(loss_BM) / ops.maximum(ops.mean(batch["targets_B"]), 1.0)
        values, counts = {"ce": ce}, {}
        for name, number in zip(self.names, self.numbers):
            inside_BM = ops.cast(spans_BM == number, ms.float32)
            values[name], counts[name] = ops.reduce_sum(loss_BM * inside_BM), ops.reduce_sum(inside_BM)
        return ce, values, counts
