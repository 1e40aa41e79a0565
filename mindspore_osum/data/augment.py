"""Augmentation of training audio and features."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Augment:
    """SpecAugment; 0 masks = off."""

    time_masks: int = 2
    time_max: int = 50  # mel frames (10 ms)
    freq_masks: int = 2
    freq_max: int = 10  # mel bins


def spec_augment(
    mel_TF: np.ndarray, rng, time_masks: int, time_max: int, freq_masks: int, freq_max: int
) -> None:
    """Zero random stretches of time and frequency in place (SpecAugment, Park et al. 2019)."""
    frames, bins = mel_TF.shape
    for _ in range(time_masks):
        start = rng.integers(0, frames)
        mel_TF[start : start + rng.integers(1, time_max + 1)] = 0.0
    for _ in range(freq_masks):
        start = rng.integers(0, bins)
        mel_TF[:, start : start + rng.integers(1, freq_max + 1)] = 0.0
