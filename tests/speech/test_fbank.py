"""Kaldi's fbank features against kaldi-native-fbank, which FireRedASR uses.

fbank.json: frame 0 of 400 samples of `signal` and frames 0, 23, 46 of 7777, by kaldi-native-fbank 1.23.0
(float32) with FbankOptions of 80 bins, dither 0, energy_floor 0 and otherwise its defaults, 4 decimals.

Legend: N samples, T frames, F mel bins.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.speech.config import FBANK, FeatureConfig
from mindspore_osum.speech.fbank import fbank, mel_triangles
from mindspore_osum.speech.features import features_of, log_mel

KALDI = json.loads((Path(__file__).parent / "fbank.json").read_text())
CFG = FeatureConfig(kind=FBANK)
TOLERANCE = 5e-4  # of a logarithm of about 20: what float32 of 16-bit samples gives; measured 1.8e-4


def signal(n: int) -> np.ndarray:
    """A rising tone, noise and an offset: (N,) float32."""
    rng, t = np.random.default_rng(n), np.arange(n) / 16000
    tone = 0.3 * np.sin(2 * np.pi * (200 + 1500 * t) * t)
    return (tone + 0.02 * rng.standard_normal(n) + 0.01).astype(np.float32)


@pytest.mark.parametrize("samples, rows", [(400, [0]), (7777, [0, 23, 46])])
def test_equals_kaldi(samples, rows):
    mel_TF = features_of(signal(samples), CFG)
    assert mel_TF.dtype == np.float32 and mel_TF.shape == (rows[-1] + 1, 80)
    assert np.abs(mel_TF[rows] - KALDI[str(samples)]).max() <= TOLERANCE


def test_all_of_a_signal_equals_kaldi_native_fbank():
    knf = pytest.importorskip("kaldi_native_fbank", reason="needs kaldi-native-fbank, a second check")
    options = knf.FbankOptions()
    options.frame_opts.dither, options.mel_opts.num_bins, options.energy_floor = 0.0, 80, 0.0
    online, wave_N = knf.OnlineFbank(options), signal(100_003)
    online.accept_waveform(16000, (wave_N * 32768).tolist())
    want_TF = np.stack([online.get_frame(i) for i in range(online.num_frames_ready)])
    assert np.abs(fbank(wave_N, CFG) - want_TF).max() <= TOLERANCE


@pytest.mark.parametrize("samples", [1, 399, 400, 559, 560, 16_000, 83_777])
def test_frames_are_those_of_whole_windows(samples):
    want = max(1, len(range(400, samples + 1, 160)))
    assert len(fbank(signal(samples), CFG)) == CFG.frames(samples) == want


def test_frames_do_not_depend_on_what_follows():
    whole = fbank(signal(90_000), CFG)
    np.testing.assert_array_equal(fbank(signal(90_000)[:1000], CFG), whole[: CFG.frames(1000)])


def test_silence_and_the_other_kind():
    assert np.allclose(fbank(np.zeros(800, np.float32), CFG), np.log(np.finfo(np.float32).eps))
    np.testing.assert_array_equal(features_of(signal(800), FeatureConfig()), log_mel(signal(800)))


@pytest.mark.parametrize(
    "wave_N, said",
    [
        (np.zeros((2, 400), np.float32), r"waveform \(2, 400\) float32: fbank needs floats"),
        (np.zeros(0, np.float32), r"at least 1; see load_audio"),
        (np.array([0.0, np.nan]), "NaN or infinite samples"),
    ],
)
def test_bad_waveforms_are_refused(wave_N, said):
    with pytest.raises(UserError, match=said):
        fbank(wave_N, CFG)


@pytest.mark.parametrize("n_mels", [0, 300])
def test_impossible_bins_are_refused(n_mels):
    with pytest.raises(UserError, match=f"n_mels {n_mels}: .*published encoders use 80"):
        mel_triangles(n_mels, 16_000, 512)
