"""The full model: encoder (Whisper or FireRed), projector, decoder.

Legend: B sequences, N audio slots, T mel frames, F mel bins, Z speech tokens per slot, D decoder width.
"""

import mindspore as ms
from mindspore import Tensor, ops

from mindspore_osum.models.firered.config import FireRedConfig
from mindspore_osum.models.firered.network import FireRedEncoder
from mindspore_osum.models.llama.network import Decoder
from mindspore_osum.models.ops import length_mask
from mindspore_osum.models.projector.network import Projector
from mindspore_osum.models.whisper.network import WhisperEncoder
from mindspore_osum.systems.speech_network import SpeechModel
from mindspore_osum.systems.touch_asu.config import PLACEHOLDER, TouchAsuConfig


class TouchAsuModel(SpeechModel):
    """The composite speech language model."""

    def __init__(self, cfg: TouchAsuConfig):
        super().__init__()
        self.cfg, dtype = cfg, getattr(ms, cfg.dtype)
        if isinstance(cfg.encoder, FireRedConfig):
            self.encoder = FireRedEncoder(cfg.encoder, dtype, cfg.positions, stored=True)
        else:
            self.encoder = WhisperEncoder(cfg.encoder, dtype, cfg.positions)
        self.adapter = Projector(cfg.encoder.d_model, cfg.decoder.d_model, cfg.adapter, dtype)
        self.decoder = Decoder(cfg.decoder, cfg.lora, dtype)
        self.has_placeholders = cfg.leftover == PLACEHOLDER
        self.placeholder_11 = Tensor([[0]], ms.int32)  # the token that the published code puts into slots

    def encode_speech(self, mel_NTF, mel_len_N):
        """(N, T, F) log-mel and lengths -> (N, Z, D) speech tokens, and how many of each are of whole frames.

        A slot with frames for only a part of a token is what `TouchAsuConfig.leftover` says; it is attended
        to in any case, as in the published code.
        """
        h_NUE, len_N = self.encoder(mel_NTF, mel_len_N)
        z_NZD, whole_N = self.adapter(h_NUE, len_N)
        if self.has_placeholders:
            whole_NZ = length_mask(z_NZD.shape[1], whole_N) > 0
            row_11D = self.decoder.embed(self.placeholder_11)
            z_NZD = ops.select(
                whole_NZ.expand_dims(-1).broadcast_to(z_NZD.shape), z_NZD, row_11D.broadcast_to(z_NZD.shape)
            )
        return z_NZD, whole_N
