"""The network, and what generation takes of it.

Legend: B batch, T mel frames, F mel bins, Z speech tokens, D width, L positions.
"""

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mindspore_osum.models.buckets import SMALLEST_FRAMES, bucket
from mindspore_osum.models.layers import Linear
from mindspore_osum.models.llama.network import Decoder
from mindspore_osum.systems.generation import Generation
from mindspore_osum.text.sequence import stack_sequences
from toy_ear.config import EarConfig
from toy_ear.keys import NO_LORA


class Ear(nn.Cell):
    """(B, T, F) log-mel -> (B, Z, D) speech tokens of `stacked` frames each."""

    def __init__(self, n_mels: int, stacked: int, d_model: int, dtype):
        super().__init__()
        self.stacked = stacked
        self.project = Linear(n_mels * stacked, d_model, True, dtype)

    def construct(self, mel_BTF):
        b, t, f = mel_BTF.shape
        missing = -t % self.stacked
        if missing > 0:
            mel_BTF = ops.concat((mel_BTF, ops.zeros((b, missing, f), mel_BTF.dtype)), 1)
        return self.project(mel_BTF.reshape((b, -1, f * self.stacked)))


class ToyEar(nn.Cell):
    """Input embeddings (B, L, D) of a sequence of text and speech; the decoder goes on from them."""

    def __init__(self, cfg: EarConfig):
        super().__init__()
        self.cfg, self.dtype = cfg, getattr(ms, cfg.dtype)
        self.ear = Ear(cfg.n_mels, cfg.frames_per_token, cfg.decoder.d_model, self.dtype)
        self.decoder = Decoder(cfg.decoder, NO_LORA, self.dtype)

    def construct(self, mel_BTF, token_ids_BL, speech_row_BL):
        z_BZD = self.ear(ops.cast(mel_BTF, self.dtype))
        speech_BLD = ops.gather(z_BZD.reshape((-1, z_BZD.shape[-1])), ops.maximum(speech_row_BL - 2, 0), 0)
        text_BLD = self.decoder.embed(token_ids_BL)
        is_text_BL1 = (speech_row_BL < 0).expand_dims(-1)
        return ops.select(is_text_BL1.broadcast_to(text_BLD.shape), text_BLD, speech_BLD)


class EarGeneration(Generation):
    """Of one model."""

    def __init__(self, model: ToyEar):
        self.cfg, self.embed, self.decoder = model.cfg, model, model.decoder
        self.eos_ids, self.positions = (model.cfg.decoder.eos_id,), model.cfg.decoder.max_positions

    def inputs(self, prompts, rows: int, length: int):
        frames = bucket(max(len(prompt.mel_TF) for prompt in prompts), SMALLEST_FRAMES)
        mel_BTF = np.zeros((rows, frames, self.cfg.n_mels), np.float32)
        for row, prompt in enumerate(prompts):
            mel_BTF[row, : len(prompt.mel_TF)] = prompt.mel_TF
        texts = stack_sequences([p.sequence for p in prompts], length, self.cfg.tokens(frames), rows)
        pad = ((0, rows - len(prompts)), (0, 0))
        return {"mel_BTF": mel_BTF} | {name: np.pad(ids_NL, pad) for name, ids_NL in texts.items()}
