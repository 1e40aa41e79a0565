"""Generation with an encoder, an adapter and a decoder: hybrid prompts as model inputs, and the cell that
embeds them.

A model has the cells `encoder`, `adapter` and `decoder`, and the methods `encode_speech` and `embed`, as
systems/speech_network.py `SpeechModel` has them.

Legend: B batch, T mel frames, U encoder frames, E encoder width, Z speech tokens, L prompt positions,
D decoder width, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from mindspore import nn

from mindspore_osum.models.buckets import SMALLEST_FRAMES, frame_bucket
from mindspore_osum.systems.generation import Generation
from mindspore_osum.systems.prompt import Prompt
from mindspore_osum.text.sequence import stack_sequences


class Embed(nn.Cell):
    """Input embeddings (B, L, D) of prompts."""

    def __init__(self, model: nn.Cell):
        super().__init__(auto_prefix=False)  # keeps parameter names
        self.model = model

    def construct(self, mel_BTF, mel_len_B, token_ids_BL, speech_row_BL):
        if mel_BTF is None:
            return self.model.decoder.embed(token_ids_BL)
        z_BZD = self.model.encode_speech(mel_BTF, mel_len_B)[0]
        return self.model.embed(token_ids_BL, speech_row_BL, z_BZD)


class Encode(nn.Cell):
    """Encoder frames (B, U, E) and speech tokens (B, Z, D), each with its lengths (B,)."""

    def __init__(self, model: nn.Cell):
        super().__init__(auto_prefix=False)
        self.encoder, self.adapter = model.encoder, model.adapter

    def construct(self, mel_BTF, mel_len_B):
        frames_BUE, frames_B = self.encoder(mel_BTF, mel_len_B)
        return frames_BUE, frames_B, *self.adapter(frames_BUE, frames_B)


class SpeechGeneration(Generation):
    """The generation interface of one model.

    Parameters
    ----------
    usual : settings of generation for who gives none, by the names of `Sampling`.
    """

    encode_columns = ("mel_BTF", "mel_len_B")
    encode_names = ("encoder_BUE", "encoder_len_B", "adapter_BZD", "adapter_len_B")

    def __init__(self, model: nn.Cell, usual: Mapping[str, Any] | None = None):
        self.cfg, self.embed, self.decoder = model.cfg, Embed(model), model.decoder
        self.usual = usual or {}
        self.eos_ids, self.positions = (model.cfg.decoder.eos_id,), model.cfg.decoder.max_positions
        self.encode = Encode(model)

    def settings(self, sampling: Any) -> Any:
        return replace(sampling, **self.usual) if self.usual and sampling.is_open else sampling

    def inputs(self, prompts: Sequence[Prompt], rows: int, length: int) -> dict[str, np.ndarray | None]:
        mels = [p.mel_TF for p in prompts if p.mel_TF is not None]
        frames = frame_bucket(self.cfg, max(map(len, mels))) if mels else 0
        slots, pad = rows if mels else 0, ((0, rows - len(prompts)), (0, 0))
        columns = stack_sequences([p.sequence for p in prompts], length, self.cfg.tokens(frames), slots)
        texts = {
            "token_ids_BL": np.pad(columns["token_ids_BL"], pad),
            "speech_row_BL": np.pad(columns["speech_row_BL"], pad, constant_values=-1),
        }
        if not mels:
            return {"mel_BTF": None, "mel_len_B": None} | texts
        mel_BTF = np.zeros((slots, frames, self.cfg.features.n_mels), np.float32)
        mel_len_B = np.full(slots, SMALLEST_FRAMES, np.int32)
        for slot, mel_TF in enumerate(mels):
            mel_BTF[slot, : len(mel_TF)] = mel_TF
            mel_len_B[slot] = len(mel_TF)
        return {"mel_BTF": mel_BTF, "mel_len_B": mel_len_B} | texts
