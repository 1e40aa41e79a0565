"""The named encoders have the published sizes."""

import pytest

from mindspore_osum.models.whisper.config import ENCODERS


# parameters of the whole models are in Radford et al. 2022, Table 1; heads are 64 wide in all of them
@pytest.mark.parametrize(
    "name, width, layers",
    [
        ("tiny", 384, 4),
        ("base", 512, 6),
        ("small", 768, 12),
        ("medium", 1024, 24),
        ("large-v3", 1280, 32),
    ],
)
def test_whisper_encoders(name, width, layers):
    enc = ENCODERS[name]
    assert (enc.d_model, enc.n_layers, enc.d_ff) == (width, layers, 4 * width)
    assert enc.d_model // enc.n_heads == 64
    assert enc.n_mels == (128 if name == "large-v3" else 80)
