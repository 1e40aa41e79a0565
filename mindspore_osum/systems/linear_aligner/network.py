"""The network: Whisper's encoder, the aligner and a decoder over one sequence."""

import mindspore as ms

from mindspore_osum.models.aligner.network import Aligner
from mindspore_osum.models.llama.network import Decoder
from mindspore_osum.models.whisper.network import WhisperEncoder
from mindspore_osum.systems.linear_aligner.config import LinearAlignerConfig
from mindspore_osum.systems.speech_network import SpeechModel


class LinearAlignerModel(SpeechModel):
    """As `SpeechModel`; recordings have no embeddings around them, their marks are text."""

    def __init__(self, cfg: LinearAlignerConfig):
        super().__init__()
        self.cfg = cfg
        dtype = getattr(ms, cfg.dtype)
        self.encoder = WhisperEncoder(cfg.encoder, dtype)
        self.adapter = Aligner(cfg.encoder.d_model, cfg.decoder.d_model, cfg.adapter, dtype)
        self.decoder = Decoder(cfg.decoder, cfg.lora, dtype)
