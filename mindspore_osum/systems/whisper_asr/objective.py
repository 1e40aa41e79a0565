"""The loss of a Whisper on a batch: teacher-forced cross-entropy, with label smoothing.

Notable choices
- The sum over the targets of the whole step is divided by its utterances, as in the published training;
  `ce` in the reports is the mean over the targets, without smoothing.
- Recordings are as long as the batch's bucket: the encoder masks what is behind the end of each, and so does
  the decoder's attention to its frames.

Legend: B rows, T mel frames, F mel bins, U encoder frames, S tokens, V vocabulary.
"""

import math

import mindspore as ms
from mindspore import nn, ops

from mindspore_osum.data.batches.batching import TARGETS, UTTERANCES
from mindspore_osum.models.losses import token_losses
from mindspore_osum.models.ops import log_sum_exp
from mindspore_osum.systems.job import NamedLoss
from mindspore_osum.systems.whisper_asr.extractor import LABEL, PREFIX, WORDS
from mindspore_osum.systems.whisper_asr.job import Loss
from mindspore_osum.systems.whisper_asr.network import WhisperModel

SPANS = {"prefix_loss": PREFIX, "words_loss": WORDS, "label_loss": LABEL}  # an answer's end belongs to it
LOSSES = (NamedLoss("ce", TARGETS), *map(NamedLoss, SPANS))


class WhisperObjective(nn.Cell):
    """The training objective.

    Parameters
    ----------
    model : of the job.
    loss : section of the job.
    """

    losses = LOSSES

    def __init__(self, model: WhisperModel, loss: Loss):
        super().__init__()
        self.model, self.share = model, loss.smoothing
        self.others = model.cfg.decoder.vocab_size - 1
        self.entropy = 0.0  # of a smoothed target, which a divergence leaves out
        if self.share > 0:
            spread = self.share * math.log(self.share / self.others)
            self.entropy = spread + (1 - self.share) * math.log(1 - self.share)

    def construct(self, batch):
        """(loss, values, counts) of the columns of a batch, float32: as `System.objective`."""
        labels_BS, spans_BS = batch["labels_BS"], batch["spans_BS"]
        scores_BSV = self.scores(batch["mel_BTF"], batch["mel_len_B"], batch["token_ids_BS"])
        loss_BS, count_BS = token_losses(scores_BSV, labels_BS)
        ce = total = ops.reduce_sum(loss_BS)
        if self.share > 0:
            total = ops.reduce_sum(self.divergence(scores_BSV, loss_BS, count_BS))
        values = {"ce": ce / ops.maximum(ops.mean(batch[TARGETS]), 1.0)}
        counts = {}
        for name, span in SPANS.items():
            inside_BS = ops.cast(spans_BS == span, ms.float32)
            values[name], counts[name] = ops.reduce_sum(loss_BS * inside_BS), ops.reduce_sum(inside_BS)
        return total / ops.maximum(ops.mean(batch[UTTERANCES]), 1e-6), values, counts

    def scores(self, mel_BTF, mel_len_B, token_ids_BS):
        """Scores (B, S, V) of the token after each."""
        model = self.model
        frames_BUD, frames_B = model.encoder(mel_BTF, mel_len_B)
        frames = frames_BUD.shape[1]
        read = model.decoder.embed(token_ids_BS), model.decoder.memory(frames_BUD, frames), frames_B
        place_1S = ops.arange(0, token_ids_BS.shape[1], dtype=ms.int32).expand_dims(0)
        h_BSD = model.decoder.over(read, place_1S, None, frames)
        return model.decoder.logits(h_BSD)

    def divergence(self, scores_BSV, loss_BS, count_BS):
        """Divergence (Kullback-Leibler) of each prediction from its smoothed target.

        Source: WeNet's LabelSmoothingLoss.
        """
        total_BS1 = log_sum_exp(scores_BSV).expand_dims(-1)
        mean_BS = ops.reduce_mean(total_BS1 - scores_BSV, -1)  # cross-entropy of every token
        others_BS = (self.others + 1) * mean_BS * count_BS - loss_BS
        cross_BS = (1 - self.share) * loss_BS + self.share / self.others * others_BS
        return cross_BS + self.entropy * count_BS
