"""Parity at the published widths, with random weights: float32 must hold over long sums and many layers.

Legend: T mel frames, F mel bins, L positions, D width.
"""

from dataclasses import replace

import numpy as np
import pytest
from mindspore import Tensor, nn

from mindspore_osum.models.adapters.kinds import module_of
from mindspore_osum.models.llama.network import Decoder
from mindspore_osum.models.ops import segment_causal_mask
from mindspore_osum.models.whisper.network import WhisperEncoder
from mindspore_osum.systems.registry import preset
from tests.models import reference
from tests.models.common import TOLERANCE, error, fill
from tests.models.reference import torch

pytestmark = pytest.mark.slow
OSUM = preset("osum_pangu_7b")
FRAMES = 449  # 4.5 s, odd


class Speech(nn.Cell):
    """Encoder and adapter: frames at half the rate, and speech tokens."""

    def __init__(self):
        super().__init__()
        self.encoder = WhisperEncoder(OSUM.encoder)
        adapter = module_of(OSUM.adapter.kind, "network").Adapter
        self.adapter = adapter(OSUM.encoder.d_model, OSUM.decoder.d_model, OSUM.adapter)

    def construct(self, mel_BTF, mel_len_B):
        h_BUD, len_B = self.encoder(mel_BTF, mel_len_B)
        return h_BUD, self.adapter(h_BUD, len_B)[0]


def test_whisper_medium_and_its_adapter():
    cell = Speech()
    weights = reference.tensors(fill(cell, seed=40))
    mel_TF = np.random.default_rng(41).standard_normal((FRAMES, OSUM.encoder.n_mels), np.float32)
    h_BUD, z_BZD = cell(Tensor(mel_TF[None]), Tensor(np.array([FRAMES], np.int32)))
    with torch.no_grad():
        want_UD = reference.whisper_encoder(
            OSUM.encoder, reference.part(weights, "encoder"), torch.tensor(mel_TF)
        )
        want_ZD = reference.adapter(OSUM.adapter, reference.part(weights, "adapter"), want_UD)
    assert z_BZD.shape == (1, 57, 4096)
    assert error(h_BUD.asnumpy()[0], want_UD.numpy()) <= TOLERANCE
    assert error(z_BZD.asnumpy()[0], want_ZD.numpy()) <= TOLERANCE


class Hidden(nn.Cell):
    """Embeddings to hidden states and logits."""

    def __init__(self, decoder):
        super().__init__()
        self.decoder = decoder

    def construct(self, x_BLD, positions_BL, segments_BL):
        hidden_BLD = self.decoder(x_BLD, positions_BL, segment_causal_mask(segments_BL))
        return hidden_BLD, self.decoder.logits(hidden_BLD)


def test_two_layers_of_the_7b_decoder():
    cfg = replace(OSUM.decoder, n_layers=2, vocab_size=1000)
    lora = replace(OSUM.lora, dropout=0.0)
    decoder = Decoder(cfg, lora)
    weights = reference.tensors(fill(decoder, seed=42))
    length = 63
    x_LD = np.random.default_rng(43).standard_normal((length, cfg.d_model), np.float32)
    ones = np.ones((1, length), np.int32)
    hidden_BLD, logits_BLV = Hidden(decoder)(
        Tensor(x_LD[None]), Tensor(np.cumsum(ones, 1) - ones), Tensor(ones)
    )
    with torch.no_grad():
        want_LD, want_LV = reference.decoder(cfg, lora, weights, torch.tensor(x_LD))
    assert error(hidden_BLD.asnumpy()[0], want_LD.numpy()) <= TOLERANCE
    assert error(logits_BLV.asnumpy()[0], want_LV.numpy()) <= TOLERANCE
