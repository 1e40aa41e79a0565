"""The Whisper encoder against Hugging Face's, on recordings of any length.

Legend: B batch, T mel frames, U encoder frames, F mel bins, D width.
"""

import numpy as np
import pytest
from mindspore import Tensor

from mindspore_osum.models.whisper.config import EncoderConfig
from mindspore_osum.models.whisper.network import MAX_FRAMES, WhisperEncoder, sinusoids
from tests.models import reference
from tests.models.common import SAME, TOLERANCE, error, fill
from tests.models.reference import torch

CONFIGS = {
    "80 bins": EncoderConfig(n_mels=80, d_model=36, n_layers=2, n_heads=3, d_ff=52),
    "128 bins": EncoderConfig(n_mels=128, d_model=40, n_layers=1, n_heads=5, d_ff=48),
}
# padded lengths odd and even, items odd and even, full and short
BATCHES = {"80 bins": (45, [45, 44, 31, 7, 1]), "128 bins": (52, [52, 33, 51])}


@pytest.fixture(scope="module", params=list(CONFIGS))
def encoded(request):
    """Config, weights, cell, a batch with garbage beyond each item's end, and what comes out."""
    cfg, (length, lengths) = CONFIGS[request.param], BATCHES[request.param]
    cell = WhisperEncoder(cfg)
    weights = fill(cell, seed=1)
    mel_BTF = np.random.default_rng(2).standard_normal((len(lengths), length, cfg.n_mels), np.float32)
    out_BUD, len_B = (out.asnumpy() for out in cell(Tensor(mel_BTF), Tensor(np.array(lengths, np.int32))))
    return cfg, weights, cell, mel_BTF, lengths, out_BUD, len_B


def test_batch_is_hugging_face_one_by_one(encoded):
    cfg, weights, _, mel_BTF, lengths, out_BUD, len_B = encoded
    assert len_B.tolist() == [-(-n // 2) for n in lengths]
    assert out_BUD.shape[1] == -(-mel_BTF.shape[1] // 2)
    for mel_TF, frames, out_UD, n in zip(mel_BTF, lengths, out_BUD, len_B):
        want = reference.whisper_encoder(cfg, reference.tensors(weights), torch.tensor(mel_TF[:frames]))
        assert error(out_UD[:n], want.detach().numpy()) <= TOLERANCE
        assert not out_UD[n:].any(), "beyond the end must be zero"


def test_padded_bucket_is_exact_length(encoded):
    cfg, _, cell, mel_BTF, lengths, out_BUD, len_B = encoded
    exact = cell(Tensor(mel_BTF[2:3, : lengths[2]]), Tensor([lengths[2]]).int())[0].asnumpy()
    assert error(out_BUD[2, : len_B[2]], exact[0]) <= SAME


def test_frames_beyond_the_end_do_not_matter(encoded):
    _, _, cell, mel_BTF, lengths, out_BUD, _ = encoded
    changed = mel_BTF.copy()
    for mel_TF, frames in zip(changed, lengths):
        mel_TF[frames:] = -1e4
    assert np.array_equal(cell(Tensor(changed), Tensor(np.array(lengths, np.int32)))[0].asnumpy(), out_BUD)


@pytest.mark.parametrize("width", [36, 1024])
def test_positions_are_whispers(width):
    from transformers.models.whisper.modeling_whisper import sinusoids as hugging_face

    # torch's float32 exp may be an ulp off, on some processors: the angle is then the next float32
    ulp = np.spacing(np.float32(1499))
    assert error(sinusoids(1500, width), hugging_face(1500, width).numpy()) <= ulp
    # float64 at 60 s, the end of the table
    rate = 10000.0 ** (-np.arange(width // 2) / (width // 2 - 1))
    last = (MAX_FRAMES - 1) * rate
    assert error(sinusoids(MAX_FRAMES, width)[-1], np.concatenate([np.sin(last), np.cos(last)])) <= 5e-4
