"""Log-mel features of a waveform, exactly as OSUM and Whisper compute them.

Legend: N samples, T frames (10 ms), W samples of a window (400), Q frequency bins (201), F mel bins.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mindspore_osum.errors import UserError
from mindspore_osum.speech.config import FBANK, FEATURES, FeatureConfig
from mindspore_osum.speech.fbank import as_samples, fbank

_CHUNK = 512  # frames computed at once: 1.6 MB of windows, which fits the CPU cache
_FLOOR = 1e-10  # lowest mel power; its logarithm is -10
_RANGE = 8.0  # decades kept below the loudest cell of the utterance


def log_mel(wave_N: np.ndarray, cfg: FeatureConfig = FEATURES) -> np.ndarray:
    """Log-mel features of one utterance (Whisper's ``log_mel_spectrogram``; OSUM uses it without padding).

    Periodic Hann window and DFT of `n_fft`, frames centred on samples 0, `hop`, ... with reflect padding, the
    last frame dropped; power; Slaney mel filters up to half the sample rate; log10 of at least 1e-10; at most
    8 below the utterance's largest value; (x + 4) / 4. Computed in float64: float32 is off by more than
    1e-5 in quiet bands next to a loud tone.

    Parameters
    ----------
    wave_N : np.ndarray
        (N,) float at `cfg.sample_rate`, finite, N >= 1.
    cfg : FeatureConfig
        The model's feature configuration. A shorter waveform is first padded with zeros to `pad_to_seconds`.

    Returns
    -------
    np.ndarray
        mel_TF, float32, T = `cfg.frames` (N after padding). Values span at most 2.0; silence is -1.5.
        A waveform up to half a window, which torch refuses to reflect, is reflected repeatedly
        (0 1 2 1 0 1 ...); a single sample is repeated.

    Raises
    ------
    UserError
        Not a 1-D float array, no samples, samples that are not finite, or an impossible n_mels.
    """
    wave_N = as_samples(wave_N, "log_mel")
    missing = round(cfg.pad_to_seconds * cfg.sample_rate) - len(wave_N)
    if missing > 0:
        wave_N = np.pad(wave_N, (0, missing))
    mel_filters(cfg.n_mels, cfg.sample_rate, cfg.n_fft)  # refuses an impossible n_mels
    mel_TF = np.empty((cfg.frames(len(wave_N)), cfg.n_mels), np.float32)
    for start in range(0, len(mel_TF), _CHUNK):
        stop = min(start + _CHUNK, len(mel_TF))
        mel_TF[start:stop] = log_power(_frames(wave_N, start, stop, cfg), cfg)
    peak = mel_TF.max()
    if not np.isfinite(peak):
        raise UserError("waveform: has NaN or infinite samples; see load_audio")
    return normalized(mel_TF, peak)


def features_of(wave_N: np.ndarray, cfg: FeatureConfig = FEATURES) -> np.ndarray:
    """Features of the kind that the model needs, (T, F) float32: `log_mel`, or `fbank` of speech/fbank.py."""
    return fbank(wave_N, cfg) if cfg.kind == FBANK else log_mel(wave_N, cfg)


def log_power(frames_TW: np.ndarray, cfg: FeatureConfig) -> np.ndarray:
    """Logarithm to base 10 of the mel power of frames of samples, (T, F) float64, at least -10."""
    window_W = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(cfg.n_fft) / cfg.n_fft)
    filters_QF = mel_filters(cfg.n_mels, cfg.sample_rate, cfg.n_fft).T
    with np.errstate(invalid="ignore"):  # from Inf samples, which `log_mel` refuses
        spectrum_TQ = np.fft.rfft(frames_TW * window_W)
        power_TQ = spectrum_TQ.real**2 + spectrum_TQ.imag**2
        return np.log10(np.maximum(power_TQ @ filters_QF, _FLOOR))


def normalized(mel_TF: np.ndarray, peak: float) -> np.ndarray:
    """Features from float32 logarithms of power, in place; `peak` is the recording's largest."""
    np.maximum(mel_TF, peak - _RANGE, out=mel_TF)
    mel_TF += 4
    mel_TF /= 4
    return mel_TF


@lru_cache(maxsize=4)
def mel_filters(n_mels: int, sample_rate: int, n_fft: int) -> np.ndarray:
    """Slaney mel filter bank: triangles with corners evenly spaced in mel to half the rate, each of area 1.

    The mel scale (Slaney, Auditory Toolbox, 1998) is linear to 1 kHz, 200/3 Hz a mel, then logarithmic,
    27 mels for a factor of 6.4. Equals ``librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels)``.

    Parameters
    ----------
    n_mels : int
        F. Refused if so large that a filter falls between two bins of the DFT.
    sample_rate, n_fft : int
        As in the feature configuration.

    Returns
    -------
    np.ndarray
        (F, Q) float64, read-only, in 1/Hz.

    Raises
    ------
    UserError
        n_mels is not positive or too large.
    """
    if n_mels < 1:
        raise UserError(f"n_mels {n_mels}: must be positive; published encoders use 80 or 128")
    highest = sample_rate / 2000  # kHz
    mels = np.linspace(0, 15 + 27 * np.log(highest) / np.log(6.4), n_mels + 2)
    corners = np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))
    left_F1, centre_F1, right_F1 = (corners[i : i + n_mels, None] for i in range(3))
    bins_Q = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    rise_FQ = (bins_Q - left_F1) / (centre_F1 - left_F1)
    fall_FQ = (right_F1 - bins_Q) / (right_F1 - centre_F1)
    filters_FQ = np.maximum(0, np.minimum(rise_FQ, fall_FQ)) * 2 / (right_F1 - left_F1)
    if not filters_FQ.any(axis=1).all():
        raise UserError(
            f"n_mels {n_mels}: some filters are narrower than a frequency bin of "
            f"{sample_rate // n_fft} Hz; published encoders use 80 or 128"
        )
    filters_FQ.setflags(write=False)
    return filters_FQ


def _frames(wave_N: np.ndarray, start: int, stop: int, cfg: FeatureConfig) -> np.ndarray:
    """Frames [start, stop), (T, W), of the waveform reflected at both ends; only these are computed."""
    first = start * cfg.hop - cfg.n_fft // 2
    last = (stop - 1) * cfg.hop + cfg.n_fft // 2
    if 0 <= first and last <= len(wave_N):
        part = wave_N[first:last]
    else:  # not np.pad, whose releases differ if a short waveform is reflected more than once
        end = len(wave_N) - 1
        part = wave_N[end - np.abs(end - np.arange(first, last) % max(1, 2 * end))]
    return sliding_window_view(part, cfg.n_fft)[:: cfg.hop]
