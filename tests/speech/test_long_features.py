"""Features of long recordings, window by window, against those of the whole recording at once."""

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.speech.config import FeatureConfig
from mindspore_osum.speech.features import log_mel
from mindspore_osum.speech.long_features import LongFeatures

SILENCE = 30 * 16_000  # samples


@pytest.mark.parametrize("samples", [1, 100, 159, 160, 1000, 48_001, 700_123])
@pytest.mark.parametrize("mels", [80, 128])
def test_windows(samples, mels):
    """Overlapping windows of any length; silence follows the recording."""
    rng, cfg = np.random.default_rng(samples), FeatureConfig(mels)
    wave_N = (rng.normal(size=samples) * np.linspace(0.01, 0.3, samples)).astype(np.float32)
    whole_TF = log_mel(np.pad(wave_N, (0, SILENCE)), cfg)
    found = LongFeatures((wave_N, 16_000), cfg)
    assert found.frames == max(1, samples // 160) and found.error is None
    first = 0
    while first < found.frames:
        count = min(found.frames - first, int(rng.integers(1, 1500)))
        window_TF = found.window(first, count)
        assert window_TF.dtype == np.float32
        assert np.abs(window_TF - whole_TF[first : first + count]).max() < 1e-6
        first += int(rng.integers(1, count + 1))


def test_a_window_can_be_asked_for_again():
    wave_N = np.random.default_rng(0).normal(size=32_000).astype(np.float32)
    found = LongFeatures((wave_N, 16_000), FeatureConfig())
    first_TF = found.window(20, 100)
    first_TF += 1  # what is done with it changes nothing
    assert np.array_equal(found.window(20, 100) + 1, first_TF)


def test_memory_is_bounded(tmp_path):
    """Not more than the window and what is read at once is held."""
    import soundfile

    path = tmp_path / "long.wav"
    wave_N = np.random.default_rng(0).normal(size=120 * 16_000).astype(np.float32) * 0.1
    soundfile.write(path, wave_N, 16_000)
    found = LongFeatures(path, FeatureConfig())
    for first in range(0, found.frames - 3000, 3000):
        found.window(first, 3000)
        assert len(found._held_TF) < 9000


def test_damaged_recordings(tmp_path, monkeypatch):
    """What is before the damage is there, and the damage is reported; nothing readable is refused."""
    import mindspore_osum.speech.long_features as module

    wave_N = np.random.default_rng(0).normal(size=16_000).astype(np.float32)

    def damaged(source, **how):
        yield from source
        raise UserError("a.mp3: damaged after 1.00 s")

    monkeypatch.setattr(module, "audio_blocks", damaged)
    found = LongFeatures([wave_N], FeatureConfig())
    assert found.frames == 100 and found.error == "a.mp3: damaged after 1.00 s"
    assert found.window(0, 100).shape == (100, 80)
    with pytest.raises(UserError, match="damaged"):
        LongFeatures([], FeatureConfig())
