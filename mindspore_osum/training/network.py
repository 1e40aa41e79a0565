"""The training network: OsumModel with the losses of a batch, in the form MindFormers builds from a config.

Notable choices
- Cross-entropy is divided by the label count the loader gives for the whole step, so that micro-batches and
  ranks add up to the token mean of the step (the published loss), whatever their shares. Weights of the
  intent and the content span (OSUM-Pangu eq. 5) multiply the loss of each of their labels.
- CTC is likewise divided by the utterances of the whole step.
- A job without speech has a graph without encoder and adapter.
- CTC head and label heads belong to this network and not to the exported model; the next stage finds them in
  the checkpoints of the run its model comes from. The CTC head's class 0 is the blank, class i+1 token i.

Legend: B utterances, T mel frames, U encoder frames, Z speech tokens, F mel bins, D width, L sequence
positions, M positions with a next one, S CTC labels, V classes, C label sets.
"""

import os

import mindspore as ms
import numpy as np
from mindformers.models import PretrainedConfig, PreTrainedModel
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from mindspore_osum.config import from_dict
from mindspore_osum.models.dropout import count_dropout
from mindspore_osum.models.ops import frame_places, matmul_t, segment_causal_mask
from mindspore_osum.systems.osum.alignment import BLANK
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.osum.init import init_weights
from mindspore_osum.systems.osum.network import IGNORE, OsumModel, token_losses
from mindspore_osum.tasks import LABEL_SETS
from mindspore_osum.text.sequence import CONTENT, INTENT
from mindspore_osum.training.checkpoint import load_heads, load_start
from mindspore_osum.training.config import Classify, Ctc, Loss, part_of
from mindspore_osum.training.parallel import cut_network


class OsumTrainingConfig(PretrainedConfig):
    """What MindFormers hands to the network: the model's description and the job's choices about it.

    Parameters
    ----------
    model : ModelConfig as a dictionary.
    start : model folder, or "" for random weights.
    learn : parts that learn.
    loss, ctc, classify : fields of config.Loss, config.Ctc and config.Classify.
    ctc_vocab : tokens of the CTC head.
    seed : of random weights.
    speech : whether any example of the job has a recording.
    kwargs : what MindFormers adds.
    """

    model_type = "osum"

    def __init__(
        self,
        model=None,
        start="",
        learn=(),
        loss=None,
        ctc=None,
        ctc_vocab=0,
        classify=None,
        seed=0,
        speech=True,
        **kwargs,
    ):
        self.model, self.start, self.learn, self.loss = model or {}, start, list(learn), loss or {}
        self.ctc, self.ctc_vocab, self.classify = ctc or {}, ctc_vocab, classify or {}
        self.seed, self.speech = seed, speech
        super().__init__(**kwargs)


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

        CTC : -log p(labels) / length; 0 where there are no labels or no path for them.
        aligned : -log p(class) averaged over the frames whose class is known; 0 without any. None where
            frames_BU is None.
        """
        b, u, d = h_BUD.shape
        flat = matmul_t(ops.cast(h_BUD, ms.float32).reshape((-1, d)), self.weight) + self.bias
        log_p_BUV = self.log_softmax(flat.reshape((b, u, -1)))
        log_p_UBV = log_p_BUV.transpose((1, 0, 2))
        # the operator fails on more labels than frames, and gives infinity, whatever its flag, where they are
        # too few for the blanks between equal neighbours: such ones are computed with one label and left out
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


def unpacked(h_BUD, spans_N2, frames: int):
    """Frames (N, U, D) and lengths, at least 1, of each recording in packed rows; U is the length of a row.

    Parameters
    ----------
    h_BUD : packed frames, of any rate.
    spans_N2 : first mel frame in the rows laid end to end, and mel frames, of each recording.
    frames : mel frames of a row.
    """
    b, u, d = h_BUD.shape
    rate = frames // u
    place_NU = (spans_N2[:, :1] // rate) + ops.arange(0, u).expand_dims(0)
    h_NUD = ops.gather(h_BUD.reshape((-1, d)), ops.minimum(place_NU, b * u - 1), 0)
    return h_NUD, ops.maximum((spans_N2[:, 1] + rate - 1) // rate, 1)


def last_places(labels_BM, room: int):
    """The `room` positions of each row that end with its last label, int32 (B, room).

    Logits over the vocabulary are the dearest part of a small model's step: nobody needs them beside labels.
    """
    place_1M = ops.arange(0, labels_BM.shape[1]).expand_dims(0)
    last_B1 = ops.max(place_1M * ops.cast(labels_BM != IGNORE, ms.int32), 1, True)[0]
    return ops.maximum(last_B1 - (room - 1), 0) + ops.arange(0, room).expand_dims(0)


def take(values_BMx, places_BN):
    """values[b, places[b, n]] for every row b: (B, N) or (B, N, D)."""
    b, m = values_BMx.shape[:2]
    flat = values_BMx.reshape((b * m,) + values_BMx.shape[2:])
    return ops.gather(flat, places_BN + m * ops.arange(0, b).expand_dims(-1), 0)


class OsumForTraining(PreTrainedModel):
    """Losses of a batch, whose columns are the loader's, in their order."""

    config_class = OsumTrainingConfig
    base_model_prefix = "osum"

    def __init__(self, config: OsumTrainingConfig):
        super().__init__(config)
        cfg = from_dict(ModelConfig, config.model, "model")
        self.model = OsumModel(cfg)
        init_weights(self.model, config.seed)
        if config.start:
            load_start(self.model, config.start)
        weights = from_dict(Loss, config.loss, "loss")
        self.intent_weight, self.content_weight = weights.intent, weights.content
        self.speech = config.speech
        ctc = from_dict(Ctc, config.ctc, "ctc")
        self.ctc_weight, self.ctc_only, self.ctc_on_speech = ctc.weight, ctc.only, ctc.at == "adapter"
        self.aligned_weight = ctc.aligned
        width = cfg.decoder.d_model if self.ctc_on_speech else cfg.encoder.d_model
        self.ctc = CtcHead(width, config.ctc_vocab, config.seed) if ctc.weight > 0 else None
        self.classify_weight = from_dict(Classify, config.classify, "classify").weight
        self.classify = LabelHeads(cfg.decoder.d_model, config.seed) if self.classify_weight > 0 else None
        if config.start:
            load_heads(self, config.start)
        for name, param in self.parameters_and_names():
            param.requires_grad = part_of(name) in config.learn
        is_cut = ms.get_auto_parallel_context("parallel_mode") == "semi_auto_parallel"
        rank = 0 if is_cut else int(os.environ.get("RANK_ID", "0"))  # a cut mask is that of one process
        self.draws = count_dropout(self.model, config.seed, rank)
        self.stage_draws = ParameterTuple([])  # the same number, for the later stages of a pipeline
        parallel = getattr(config, "parallel_config", None)  # MindFormers adds it
        self.cut = cut_network(self, parallel) if is_cut else None
        if parallel is not None:
            self.model.recompute_layers(parallel.recompute)

    def check_pipeline_stage(self):
        """MindFormers asks for it; models/sharding.py `check_split` has looked at the stages."""

    def losses(
        self,
        mel_BTF,
        mel_len_B,
        token_ids_BL,
        speech_row_BL,
        labels_BL,
        positions_BL,
        segments_BL,
        spans_BL,
        ctc_labels_BS,
        ctc_len_B,
        frames_BZ,
        classes_BC,
        draws_B,
        utterances_B,
        targets_B,
    ):
        """(loss, parts_4, spans_4), float32.

        parts_4 : cross-entropy of all labels, unweighted; CTC; frame-wise cross-entropy of the words; that of
            the label heads.
        spans_4 : cross-entropy summed over the labels of the intent span, their number; so for the content.
        """
        if self.draws is not None and self.training:
            ops.assign(self.draws, draws_B[:1])
        ce = weighted = ctc = aligned = heads = ops.zeros((), ms.float32)
        spans_4 = ops.zeros((4,), ms.float32)
        if self.speech:
            packed = mel_len_B.ndim == 2  # several recordings a row: batching.stack_packs
            b, t, _ = mel_BTF.shape
            h_BUD, h_len_B = self.model.encoder(
                mel_BTF, frame_places(mel_len_B, b, t) if packed else mel_len_B
            )
            z_BZD, z_len_B = self.model.adapter(h_BUD, h_len_B)
            share = ctc_labels_BS.shape[0] / ops.mean(utterances_B)
            if self.classify is not None:
                spoken = unpacked(z_BZD, mel_len_B, t) if packed else (z_BZD, z_len_B)
                heads = self.classify(*spoken, classes_BC) * share
            if self.ctc is not None:
                if self.ctc_on_speech:
                    h_BUD, h_len_B = z_BZD, z_len_B
                if packed:
                    h_BUD, h_len_B = unpacked(h_BUD, mel_len_B, t)
                frames = frames_BZ if self.aligned_weight > 0 else None
                ctc, at_frames = self.ctc(h_BUD, h_len_B, ctc_labels_BS, ctc_len_B, frames)
                ctc = ctc * share
                if at_frames is not None:
                    aligned = at_frames * share
        if not self.ctc_only:
            if self.speech:
                x_BLD = self.model.embed(token_ids_BL, speech_row_BL, z_BZD)
            else:
                x_BLD = self.model.decoder.embed(token_ids_BL)
            hidden_BLD = self.model.decoder(x_BLD, positions_BL, segment_causal_mask(segments_BL))
            hidden_BMD, labels_BM, spans_BM = hidden_BLD[:, :-1], labels_BL[:, 1:], spans_BL[:, 1:]
            if self.speech and not packed:  # one sequence a row: its labels are within the text's positions
                room = labels_BL.shape[1] - z_BZD.shape[1] - 2
                places_BM = last_places(labels_BM, room)
                hidden_BMD, labels_BM, spans_BM = (
                    take(hidden_BMD, places_BM),
                    take(labels_BM, places_BM),
                    take(spans_BM, places_BM),
                )
            loss_BM, _ = token_losses(self.model.decoder.logits(hidden_BMD), labels_BM)
            targets = ops.maximum(ops.mean(targets_B), 1.0)
            intent_BM = ops.cast(spans_BM == INTENT, ms.float32)
            content_BM = ops.cast(spans_BM == CONTENT, ms.float32)
            weight_BM = self.intent_weight * intent_BM + self.content_weight * content_BM
            ce = ops.reduce_sum(loss_BM) / targets
            weighted = ops.reduce_sum(loss_BM * weight_BM) / targets
            spans_4 = ops.stack(
                (
                    ops.reduce_sum(loss_BM * intent_BM),
                    ops.reduce_sum(intent_BM),
                    ops.reduce_sum(loss_BM * content_BM),
                    ops.reduce_sum(content_BM),
                )
            )
        loss = weighted + self.ctc_weight * ctc + self.aligned_weight * aligned + self.classify_weight * heads
        return loss, ops.stack((ce, ctc, aligned, heads)), spans_4

    def construct(self, *batch):
        """The loss alone; of a network that is cut over devices what parallel.CutLosses gives."""
        return self.losses(*batch)[0] if self.cut is None else self.cut(*batch)


class Evaluation(nn.Cell):
    """Sums over a batch, without learning: cross-entropy of all labels, the losses of the heads over all
    utterances, spans_4."""

    def __init__(self, network: OsumForTraining):
        super().__init__(auto_prefix=False)
        self.network = network

    def construct(self, *batch):
        _, parts_4, spans_4 = self.network.losses(*batch)
        targets, utterances = ops.mean(batch[-1]), ops.mean(batch[-2])
        return ops.concat((parts_4[:1] * targets, parts_4[1:] * utterances, spans_4))
