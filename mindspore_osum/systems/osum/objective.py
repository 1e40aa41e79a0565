"""The losses of an OSUM model on a batch, by name.

Notable choices
- Cross-entropy is divided by the loader's label count for the whole step, so that the sum over micro-batches
  and ranks is the token mean of the step (the published loss), however the labels are distributed. Weights of
  the intent and the content span (OSUM-Pangu eq. 5) multiply the loss of each of their labels.
- CTC is likewise divided by the utterances of the whole step.
- A job without speech has a graph without encoder and adapter.
- CTC head and label heads belong to the objective, not to the model; the next stage loads them from the
  checkpoints of the run that wrote its start model.

Legend: B utterances, T mel frames, U encoder frames, Z speech tokens, F mel bins, D width, L sequence
positions, M positions with a next one, S CTC labels, C label sets.
"""

import mindspore as ms
from mindspore import nn, ops

from mindspore_osum.data.batches.batching import TARGETS, UTTERANCES
from mindspore_osum.models.ops import frame_places
from mindspore_osum.systems.job import NamedLoss
from mindspore_osum.systems.label_losses import LabelLosses
from mindspore_osum.systems.osum.heads import CtcHead, LabelHeads
from mindspore_osum.systems.osum.job import Sections
from mindspore_osum.systems.osum.network import OsumModel
from mindspore_osum.systems.osum.template import CONTENT, INTENT

LOSSES = (
    NamedLoss("ce", TARGETS),  # cross-entropy of all labels, unweighted
    NamedLoss("ctc", UTTERANCES),
    NamedLoss("aligned", UTTERANCES),  # frame-wise cross-entropy of the words
    NamedLoss("labels", UTTERANCES),  # of the label heads
    NamedLoss("intent_loss"),  # cross-entropy of the labels of the intent span
    NamedLoss("content_loss"),
)


def unpacked(h_BUD, spans_N2, frames: int):
    """Frames (N, U, D) and lengths (at least 1) of each recording in packed rows; U is the length of a row.

    Parameters
    ----------
    h_BUD : packed frames, of any rate.
    spans_N2 : first mel frame (counted over the concatenated rows) and number of frames of each recording.
    frames : mel frames of a row.
    """
    b, u, d = h_BUD.shape
    rate = frames // u
    place_NU = (spans_N2[:, :1] // rate) + ops.arange(0, u).expand_dims(0)
    h_NUD = ops.gather(h_BUD.reshape((-1, d)), ops.minimum(place_NU, b * u - 1), 0)
    return h_NUD, ops.maximum((spans_N2[:, 1] + rate - 1) // rate, 1)


class OsumObjective(LabelLosses):
    """The training objective: the model, the heads, and the losses of a batch.

    Parameters
    ----------
    model : of the job.
    sections : of the job.
    vocab : tokens of the CTC head.
    seed : of the heads' random weights.
    speech : whether any example of the job has a recording.
    """

    losses = LOSSES

    def __init__(self, model: OsumModel, sections: Sections, vocab: int, seed: int, speech: bool):
        super().__init__(model)
        self.speech, cfg = speech, model.cfg
        self.intent_weight, self.content_weight = sections.loss.intent, sections.loss.content
        ctc = sections.ctc
        self.ctc_weight, self.ctc_only, self.ctc_on_speech = ctc.weight, ctc.only, ctc.at == "adapter"
        self.aligned_weight = ctc.aligned
        width = cfg.decoder.d_model if self.ctc_on_speech else cfg.encoder.d_model
        self.ctc = CtcHead(width, vocab, seed) if ctc.weight > 0 else None
        self.classify_weight = sections.classify.weight
        self.classify = LabelHeads(cfg.decoder.d_model, seed) if self.classify_weight > 0 else None

    def construct(self, batch):
        """(loss, values, counts) of the columns of a batch, float32.

        values : by the names of `losses`: a mean over the count `over` of the loss, or a sum.
        counts : of the losses that are sums.
        """
        ce = weighted = ctc = aligned = heads = ops.zeros((), ms.float32)
        sums = counts = (ce, ce)  # of the intent span, of the content
        mel_BTF, mel_len_B, utterances_B = batch["mel_BTF"], batch["mel_len_B"], batch["utterances_B"]
        packed = mel_len_B.ndim == 2  # several recordings per row: a pack
        z_BZD = None
        if self.speech:
            b, t, _ = mel_BTF.shape
            h_BUD, h_len_B = self.model.encoder(
                mel_BTF, frame_places(mel_len_B, b, t) if packed else mel_len_B
            )
            z_BZD, z_len_B = self.model.adapter(h_BUD, h_len_B)
            share = batch["ctc_labels_BS"].shape[0] / ops.mean(utterances_B)
            if self.classify is not None:
                spoken = unpacked(z_BZD, mel_len_B, t) if packed else (z_BZD, z_len_B)
                heads = self.classify(*spoken, batch["classes_BC"]) * share
            if self.ctc is not None:
                if self.ctc_on_speech:
                    h_BUD, h_len_B = z_BZD, z_len_B
                if packed:
                    h_BUD, h_len_B = unpacked(h_BUD, mel_len_B, t)
                frames = batch["frames_BZ"] if self.aligned_weight > 0 else None
                ctc, at_frames = self.ctc(h_BUD, h_len_B, batch["ctc_labels_BS"], batch["ctc_len_B"], frames)
                ctc = ctc * share
                if at_frames is not None:
                    aligned = at_frames * share
        if not self.ctc_only:
            one_a_row = self.speech and not packed  # its labels are within the text positions
            room = batch["labels_BL"].shape[1] - z_BZD.shape[1] - 2 if one_a_row else 0
            loss_BM, spans_BM = self.label_losses(batch, z_BZD, room)
            targets = ops.maximum(ops.mean(batch["targets_B"]), 1.0)
            intent_BM = ops.cast(spans_BM == INTENT, ms.float32)
            content_BM = ops.cast(spans_BM == CONTENT, ms.float32)
            weight_BM = self.intent_weight * intent_BM + self.content_weight * content_BM
            ce = ops.reduce_sum(loss_BM) / targets
            weighted = ops.reduce_sum(loss_BM * weight_BM) / targets
            sums = ops.reduce_sum(loss_BM * intent_BM), ops.reduce_sum(loss_BM * content_BM)
            counts = ops.reduce_sum(intent_BM), ops.reduce_sum(content_BM)
        loss = weighted + self.ctc_weight * ctc + self.aligned_weight * aligned + self.classify_weight * heads
        values = {
            "ce": ce,
            "ctc": ctc,
            "aligned": aligned,
            "labels": heads,
            "intent_loss": sums[0],
            "content_loss": sums[1],
        }
        return loss, values, {"intent_loss": counts[0], "content_loss": counts[1]}

    def sharded(self, p) -> nn.Cell:
        """The same losses for a sharded model, as one vector: loss, values, counts."""
        from mindspore_osum.systems.osum.sharded_objective import ShardedLosses

        return ShardedLosses(self, p)
