"""Sounds for the tests of voice activity: something like a voice, and real recordings in a row."""

from pathlib import Path

import numpy as np

from mindspore_osum.speech.audio import SAMPLE_RATE, load_audio

RECORDINGS = sorted(
    (Path(__file__).resolve().parents[2] / "mindspore_osum" / "assets" / "recordings").glob("*.wav")
)


def voice(seconds: float, level: float = 0.1, pitch: float = 120.0) -> np.ndarray:
    """Harmonics of `pitch` in syllables, five a second; float32 (N,) at 16 kHz."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tone = sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 20))
    return (level * tone * (0.55 - 0.45 * np.cos(2 * np.pi * 5 * t))).astype(np.float32)


def noise(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    """White noise of this RMS."""
    rng = np.random.default_rng(seed)
    return level * rng.standard_normal(round(seconds * SAMPLE_RATE)).astype(np.float32)


def row(parts) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Waves and pauses (in seconds) one after the other -> wave_N, and where the waves are, in seconds."""
    waves, places, now = [], [], 0.0
    for part in parts:
        wave_N = np.zeros(round(part * SAMPLE_RATE), np.float32) if isinstance(part, float) else part
        if not isinstance(part, float):
            places.append((now, now + len(wave_N) / SAMPLE_RATE))
        waves.append(wave_N)
        now += len(wave_N) / SAMPLE_RATE
    return np.concatenate(waves), places


def recordings_in_a_row(pauses=(0.8, 1.2, 1.6)) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """The bundled recordings, each at the same level, with pauses between them."""
    parts = []
    for n, path in enumerate(RECORDINGS):
        wave_N = load_audio(path)
        parts += [pauses[n % len(pauses)], wave_N * np.float32(0.05 / np.sqrt((wave_N**2).mean()))]
    return row([*parts, 1.0])
