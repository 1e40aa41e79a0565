"""Kaldi's log-mel filter bank of a waveform, as FireRedASR and WeNet compute it.

Legend: N samples, T frames (10 ms), W samples of a window (400), Q frequency bins (257), F mel bins.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mindspore_osum.errors import UserError
from mindspore_osum.speech.config import FeatureConfig

SCALE = 1 << 15  # features are of samples as 16-bit integers, not of -1 to 1
_PREEMPHASIS = 0.97
_LOWEST = 20.0  # Hz, where the first filter begins; the last one ends at half the rate
_FLOOR = np.finfo(np.float32).eps  # lowest mel energy
_CHUNK = 512  # frames computed at once


def fbank(wave_N: np.ndarray, cfg: FeatureConfig) -> np.ndarray:
    """Kaldi's `compute-fbank-feats` with dither 0 and energy_floor 0, and otherwise its defaults.

    Only whole windows of `n_fft` samples are used. Of each: subtract the mean; pre-emphasis of 0.97; Povey's
    window, Hann's to the power of 0.85; DFT of the next power of two; power; triangles evenly spaced on the
    mel scale from 20 Hz; natural logarithm of at least float32's epsilon. Computed in float64.

    Parameters
    ----------
    wave_N : np.ndarray
        (N,) float from -1 to 1 at `cfg.sample_rate`, finite, N >= 1. One shorter than a window is padded with
        zeros to it; Kaldi gives no frame for it.
    cfg : FeatureConfig
        The model's feature configuration.

    Returns
    -------
    np.ndarray
        (T, F) float32, T = `cfg.frames(N)`. Not normalised: the encoder has the statistics for that.

    Raises
    ------
    UserError
        Not a 1-D float array, no samples, samples that are not finite, or an impossible n_mels.
    """
    wave_N = as_samples(wave_N, "fbank")
    if not np.isfinite(wave_N).all():
        raise UserError("waveform: has NaN or infinite samples; see load_audio")
    wave_N = np.pad(wave_N, (0, max(0, cfg.n_fft - len(wave_N))))
    frames_TW = sliding_window_view(wave_N, cfg.n_fft)[:: cfg.hop]
    points = 1 << (cfg.n_fft - 1).bit_length()
    filters_QF = mel_triangles(cfg.n_mels, cfg.sample_rate, points).T
    window_W = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(cfg.n_fft) / (cfg.n_fft - 1))) ** 0.85
    mel_TF = np.empty((len(frames_TW), cfg.n_mels), np.float32)
    for start in range(0, len(mel_TF), _CHUNK):
        x_TW = frames_TW[start : start + _CHUNK].astype(np.float64) * SCALE
        x_TW -= x_TW.mean(axis=1, keepdims=True)
        before_TW = np.concatenate([x_TW[:, :1], x_TW[:, :-1]], axis=1)
        spectrum_TQ = np.fft.rfft((x_TW - _PREEMPHASIS * before_TW) * window_W, points)
        power_TQ = spectrum_TQ.real**2 + spectrum_TQ.imag**2
        mel_TF[start : start + _CHUNK] = np.log(np.maximum(power_TQ @ filters_QF, _FLOOR))
    return mel_TF


@lru_cache(maxsize=4)
def mel_triangles(n_mels: int, sample_rate: int, points: int) -> np.ndarray:
    """Kaldi's mel filters: triangles on the mel scale 1127 ln(1 + f / 700), of height 1; (F, Q) float64.

    Raises
    ------
    UserError
        n_mels is not positive, or so large that a filter falls between two bins of the DFT.
    """
    if n_mels < 1:
        raise UserError(f"n_mels {n_mels}: must be positive; published encoders use 80")
    edges = np.linspace(_mel(_LOWEST), _mel(sample_rate / 2), n_mels + 2)
    left_F1, centre_F1, right_F1 = (edges[i : i + n_mels, None] for i in range(3))
    bins_Q = _mel(np.arange(points // 2 + 1) * sample_rate / points)
    rise_FQ = (bins_Q - left_F1) / (centre_F1 - left_F1)
    fall_FQ = (right_F1 - bins_Q) / (right_F1 - centre_F1)
    filters_FQ = np.maximum(0, np.minimum(rise_FQ, fall_FQ))
    if not filters_FQ.any(axis=1).all():
        raise UserError(
            f"n_mels {n_mels}: some filters are narrower than a frequency bin of "
            f"{sample_rate / points:g} Hz; published encoders use 80"
        )
    filters_FQ.setflags(write=False)
    return filters_FQ


def _mel(hertz):
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)


def as_samples(wave_N, reader: str) -> np.ndarray:
    """A waveform as an array; UserError, in the name of what reads it, if it is none of floats."""
    wave_N = np.asarray(wave_N)
    if wave_N.ndim != 1 or wave_N.dtype.kind != "f" or not wave_N.size:
        raise UserError(
            f"waveform {wave_N.shape} {wave_N.dtype}: {reader} needs floats of shape (samples,), "
            "at least 1; see load_audio"
        )
    return wave_N
