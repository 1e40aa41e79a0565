"""Whisper's generation interface: prompts as inputs, language detection, and the rules of its timestamps.

Legend: B batch, T mel frames, U encoder frames, L prompt positions, D width, V vocabulary, R values that the
rules remember of a sequence. In the rules the vocabulary is W text, S special tokens, T timestamps, X others.
"""

from collections.abc import Sequence
from dataclasses import replace

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindspore_osum.models.buckets import frame_bucket
from mindspore_osum.models.ops import MASKED
from mindspore_osum.systems.generation import Generation
from mindspore_osum.systems.prompt import Prompt
from mindspore_osum.systems.whisper_asr.config import WhisperConfig
from mindspore_osum.systems.whisper_asr.descriptions import suppressed, suppressed_first
from mindspore_osum.systems.whisper_asr.network import WhisperModel
from mindspore_osum.systems.whisper_asr.tags import is_task
from mindspore_osum.systems.whisper_asr.vocabulary import DETECT, TIME_STEP

LABEL = -1  # instead of whether a sequence has timestamps


class Embed(nn.Cell):
    """What the decoder reads of prompts, and the detected languages.

    A language is the likeliest one after the beginning of a transcript; it takes the place of `DETECT`.
    """

    def __init__(self, model: WhisperModel):
        super().__init__(auto_prefix=False)  # keeps parameter names
        self.encoder, self.decoder = model.encoder, model.decoder
        words = model.cfg.vocabulary
        self.sot, self.detects, self.first = words.sot, words.multilingual, words.first_language
        self.last = words.first_language + words.languages

    def construct(self, mel_BTF, mel_len_B, token_ids_BL, about_BR):
        frames_BUD, frames_B = self.encoder(mel_BTF, mel_len_B)
        return self.prompted(self.decoder.memory(frames_BUD), frames_B, token_ids_BL, about_BR)

    def prompted(self, memory, frames_B, token_ids_BL, about_BR):
        """`construct` for the memory of the frames (`TextDecoder.memory`)."""
        b = frames_B.shape[0]
        language_B, chance_B = about_BR[:, 2], ops.ones((b,), ms.float32)
        if self.detects:
            begin_B1 = ops.full((b, 1), self.sot, dtype=ms.int32)
            read = (self.decoder.embed(begin_B1), memory, frames_B)
            h_B1D = self.decoder(read, ops.zeros((b, 1), ms.int32), None)
            p_BL = ops.softmax(self.decoder.logits(h_B1D).reshape((b, -1))[:, self.first : self.last], -1)
            best_B = ops.cast(ops.argmax(p_BL, -1), ms.int32)
            language_B = ops.select(language_B == DETECT, best_B + self.first, language_B)
            chance_B = ops.gather_elements(p_BL, 1, (language_B - self.first).expand_dims(1)).reshape((b,))
            found_BL = language_B.expand_dims(1).broadcast_to(token_ids_BL.shape)
            token_ids_BL = ops.select(token_ids_BL == DETECT, found_BL, token_ids_BL)
        return self.decoder.embed(token_ids_BL), memory, frames_B, language_B, chance_B, about_BR


class Encode(nn.Cell):
    """Encoder frames (B, U, D), and how many each recording has (B,)."""

    def __init__(self, model: WhisperModel):
        super().__init__(auto_prefix=False)
        self.encoder = model.encoder

    def construct(self, mel_BTF, mel_len_B):
        return self.encoder(mel_BTF, mel_len_B)


class Rules(nn.Cell):
    """What may follow what was written: scores of other tokens become `MASKED` or less.

    Some tokens are never written. With timestamps, these come first, in pairs around texts, and never go
    back; and if all timestamps together are likelier than any other token, one of them follows.

    Where a label is asked (tags.py), nothing else is written; elsewhere no tag is.

    The memory of a sequence, int32: whether it has timestamps (`LABEL` if it is a label); whether its last
    token and the one before are such (before the first token: yes); the last timestamp, 0 if there is none.
    """

    width = 4  # of the memory

    def __init__(self, decoder: nn.Cell, cfg: WhisperConfig):
        super().__init__(auto_prefix=False)
        self.decoder, words, rows = decoder, cfg.vocabulary, cfg.decoder.vocab_size
        self.eot, self.no_speech = words.eot, words.no_speech
        self.first_time, self.last_time = words.first_time, words.last_time
        self.latest = words.first_time + round(cfg.latest_first_time / TIME_STEP)
        self.id_1V = Tensor(np.arange(rows, dtype=np.int32)[None])
        never_V, first_V = np.zeros(rows, bool), np.zeros(rows, bool)
        never_V[[*suppressed(cfg)]] = True
        first_V[[*suppressed_first(cfg)]] = True
        self.first_1V = Tensor((never_V | first_V)[None])
        self.never_1V = Tensor((never_V * MASKED).astype(np.float32)[None])
        # special tokens from the end to the first timestamp: what timed answers do not have
        special_S = np.arange(self.eot, self.first_time) == words.no_timestamps
        self.untimed_1S = Tensor((special_S * MASKED).astype(np.float32)[None])
        self.time_1T = Tensor(np.arange(self.first_time, self.last_time + 1, dtype=np.int32)[None])
        self.more = rows > self.last_time + 1  # tokens after the timestamps
        self.has_tags, id_V = bool(cfg.tags), np.arange(rows)
        label_V = np.isin(id_V, [i for tag, i in cfg.tag_ids.items() if not is_task(tag)])
        # not beside words: tags; not as a label: all but labels, and after one all but the end
        self.tag_1V = Tensor((id_V >= rows - len(cfg.tags))[None])
        self.no_label_1V, self.no_end_1V = Tensor(~label_V[None]), Tensor((id_V != words.eot)[None])

    def begin(self, scores_BV, h_BLD, read):
        """The scores of first tokens under the rules, the memory, and `facts` (3, B) of the recordings."""
        language_B, chance_B, about_BR = read[3], read[4], read[5]
        b, length = h_BLD.shape[:2]
        # nobody speaks: by the scores after the token that begins the transcript
        sot_B = ops.arange(0, b, dtype=ms.int32) * length + about_BR[:, 1]
        h_BD = ops.gather(h_BLD.reshape((b * length, -1)), sot_B, 0)
        silence_B = ops.softmax(self.decoder.logits(h_BD), -1)[:, self.no_speech]
        timed_B1 = about_BR[:, :1] > 0
        outside_BV = ops.logical_or(self.id_1V < self.first_time, self.id_1V > self.latest)
        hidden_BV = ops.logical_or(self.first_1V, ops.logical_and(timed_B1, outside_BV))
        if self.has_tags:
            hidden_BV = self.with_tags(hidden_BV, about_BR[:, :1], self.no_label_1V)
        ones_B1 = ops.ones((b, 1), ms.int32)
        memory_BR = ops.concat((about_BR[:, :1], ones_B1, ones_B1, ops.zeros((b, 1), ms.int32)), 1)
        facts = ops.stack((ops.cast(language_B, ms.float32), chance_B, silence_B))
        return ops.select(hidden_BV, MASKED * ops.ones_like(scores_BV), scores_BV), memory_BR, facts

    def with_tags(self, hidden_BV, kind_B1, of_label_1V):
        """The tokens that cannot follow; of labels `of_label_1V`."""
        label_BV = (kind_B1 == LABEL).broadcast_to(hidden_BV.shape)
        words_BV = ops.logical_or(hidden_BV, self.tag_1V)
        return ops.select(label_BV, of_label_1V.broadcast_to(hidden_BV.shape), words_BV)

    def construct(self, scores_BV, token_B, memory_BR):
        """The scores after `token_B`, and the memory with it."""
        kind_B1, before_B1, token_B1 = memory_BR[:, :1], memory_BR[:, 1:2], token_B.expand_dims(1)
        timed_B1 = ops.maximum(kind_B1, 0) if self.has_tags else kind_B1
        last_B1 = ops.logical_and(token_B1 >= self.first_time, token_B1 <= self.last_time)
        time_B1 = ops.select(last_B1, token_B1, memory_BR[:, 3:])
        last_B1 = ops.cast(last_B1, ms.int32)
        closed_B1 = last_B1 * before_B1  # text follows
        open_B1 = last_B1 - closed_B1  # a timestamp or the end follows
        memory_BR = ops.concat((kind_B1, last_B1, before_B1, time_B1), 1)
        # what is hidden has `MASKED` added; of the text, which is nearly all, everything or nothing is
        timed_B1 = ops.cast(timed_B1, ms.float32)
        no_text_B1 = timed_B1 * ops.cast(open_B1, ms.float32) * MASKED
        past_BT = ops.cast(self.time_1T < time_B1 + 1 - open_B1, ms.float32) + ops.cast(closed_B1, ms.float32)
        scores_BV = scores_BV + self.never_1V
        if self.has_tags:
            barred_BV = self.with_tags(scores_BV <= MASKED, kind_B1, self.no_end_1V)
            scores_BV = ops.select(barred_BV, MASKED * ops.ones_like(scores_BV), scores_BV)
        text_BW, special_BS, times_BT = (
            scores_BV[:, : self.eot],
            scores_BV[:, self.eot : self.first_time] + timed_B1 * self.untimed_1S,
            scores_BV[:, self.first_time : self.last_time + 1] + past_BT * (timed_B1 * MASKED),
        )
        # timestamps together against the best of all others
        others_B1 = ops.maximum(
            text_BW.max(-1, keepdims=True) + no_text_B1, special_BS.max(-1, keepdims=True)
        )
        more_BX = scores_BV[:, self.last_time + 1 :] if self.more else None
        if self.more:
            others_B1 = ops.maximum(others_B1, more_BX.max(-1, keepdims=True))
        best_B1 = times_BT.max(-1, keepdims=True)
        together_B1 = best_B1 + ops.log(ops.exp(times_BT - best_B1).sum(-1, keepdims=True))
        only_B1 = timed_B1 * ops.cast(together_B1 > others_B1, ms.float32) * MASKED
        parts = (text_BW + (no_text_B1 + only_B1), special_BS + only_B1, times_BT)
        if self.more:
            parts += (more_BX + only_B1,)
        return ops.concat(parts, 1), memory_BR


class WhisperInputs(Generation):
    """What of the generation interface needs no network: exported graphs have it, too."""

    log_probabilities = True
    beams = "openai-whisper"

    def __init__(self, cfg: WhisperConfig):
        self.cfg, self.eos_ids, self.positions = cfg, (cfg.decoder.eos_id,), cfg.decoder.max_positions

    def facts(self, values):
        language, chance, silence = values
        code = self.cfg.vocabulary.code(round(language))
        return {"language": code, "language_probability": chance, "no_speech_probability": silence}

    def settings(self, sampling):
        """Without the repetition penalty that OSUM has by default; answers of half the positions at most."""
        usual = type(sampling)()
        penalty = sampling.repetition_penalty
        return replace(
            sampling,
            repetition_penalty=1.0 if penalty == usual.repetition_penalty else penalty,
            max_new_tokens=min(sampling.max_new_tokens, self.positions // 2),
        )

    def length(self, longest: int) -> int:
        return self.cfg.static_length(longest)

    def inputs(self, prompts: Sequence[Prompt], rows: int, length: int) -> dict[str, np.ndarray]:
        words, tags = self.cfg.vocabulary, self.cfg.tag_ids.values()
        frames = frame_bucket(self.cfg, max(len(prompt.mel_TF) for prompt in prompts))
        mel_BTF = np.zeros((rows, frames, self.cfg.encoder.n_mels), np.float32)
        mel_len_B = np.full(rows, frames, np.int32)
        token_ids_BL = np.full((rows, length), words.eot, np.int32)
        # whether it has timestamps (or is a label), the slot of sot, the language
        about_BR = np.tile(np.array([0, 0, words.first_language], np.int32), (rows, 1))
        for row, prompt in enumerate(prompts):
            ids = prompt.sequence.ids_L
            token_ids_BL[row, : len(ids)] = ids
            mel_BTF[row, : len(prompt.mel_TF)] = prompt.mel_TF
            mel_len_B[row] = len(prompt.mel_TF)
            begin = int(np.flatnonzero(ids == words.sot)[-1])
            about_BR[row, :2] = ids[-1] != words.no_timestamps, begin
            if words.multilingual:
                about_BR[row, 2] = ids[begin + 1]
                if ids[begin + 2] in tags:
                    about_BR[row, 0] = LABEL
        return {
            "mel_BTF": mel_BTF,
            "mel_len_B": mel_len_B,
            "token_ids_BL": token_ids_BL,
            "about_BR": about_BR,
        }


class WhisperGeneration(WhisperInputs):
    """The generation interface of one model."""

    encode_columns = ("mel_BTF", "mel_len_B")
    encode_names = ("encoder_BUD", "encoder_len_B")

    def __init__(self, model: WhisperModel):
        super().__init__(model.cfg)
        self.embed, self.decoder = Embed(model), model.decoder
        self.encode, self.rules = Encode(model), Rules(model.decoder, model.cfg)

    def states(self, batch: int):
        return self.decoder.memory_states(batch)
