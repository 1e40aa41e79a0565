"""Whisper (Radford et al. 2022): the encoder, with its stored positions, and the text decoder.

Legend: B batch, T mel frames, U encoder frames, L positions, D width, V vocabulary.
"""

import mindspore as ms
from mindspore import nn

from mindspore_osum.models.layers import recompute
from mindspore_osum.models.whisper.decoder import TextDecoder
from mindspore_osum.models.whisper.network import WhisperEncoder
from mindspore_osum.systems.whisper_asr.config import WhisperConfig


class WhisperModel(nn.Cell):
    """A Whisper; cells in `cfg.dtype`."""

    def __init__(self, cfg: WhisperConfig):
        super().__init__()
        self.cfg, dtype = cfg, getattr(ms, cfg.dtype)
        self.encoder = WhisperEncoder(cfg.encoder, dtype, cfg.positions)
        self.decoder = TextDecoder(cfg.decoder, cfg.positions, dtype)

    def recompute_layers(self, config):
        """As models/layers.py `recompute`."""
        recompute([*self.encoder.encoders, *self.decoder.decoders], config)

    def read(self, mel_BTF, mel_len_B, ids_BL):
        """What the decoder reads: token embeddings, the memory of the recordings' frames, their numbers."""
        frames_BUD, frames_B = self.encoder(mel_BTF, mel_len_B)
        return self.decoder.embed(ids_BL), self.decoder.memory(frames_BUD), frames_B

    def construct(self, mel_BTF, mel_len_B, ids_BL, positions_BL):
        """Scores (B, L, V) of the token after each position."""
        return self.decoder.logits(self.decoder(self.read(mel_BTF, mel_len_B, ids_BL), positions_BL, None))
