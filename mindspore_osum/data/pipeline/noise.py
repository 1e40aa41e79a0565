"""Copies of recordings with noise at given signal-to-noise ratios (OSUM, section 2.4: gender and age).

Notable choices
- The ratio is that of mean powers over the whole utterance, as in training (`data.augment.mix`).
- A copy has its recording's sample rate; noise is resampled to it (soxr HQ), starts at a random sample and is
  repeated as needed. What is drawn depends on the seed, the key and the ratio alone.

Legend: S samples at a recording's own rate.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from mindspore_osum.data.augment import MAX_NOISE_SECONDS, mix
from mindspore_osum.data.batches.batching import native_samples
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.data.pipeline.making import Job, draws
from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import load_native

SNR_LIMITS = (-50.0, 60.0)  # dB; beyond, little of one of the two is left in 16 bit


def check_ratios(snrs: Sequence[float]) -> None:
    """UserError for a ratio that is out of range or there twice."""
    for n, snr in enumerate(snrs):
        if not SNR_LIMITS[0] <= snr <= SNR_LIMITS[1]:
            raise UserError(f"--snr {snr:g}: must be from {SNR_LIMITS[0]:g} to {SNR_LIMITS[1]:g} dB")
        if f"{snr:g}" in [f"{other:g}" for other in snrs[:n]]:  # as in the keys of the copies
            raise UserError(f"--snr {snr:g}: is there twice; each ratio gives one copy")


def noise_jobs(
    utterances: Iterable[Utterance], noises: Sequence[str], snrs: Sequence[float], seed: int
) -> Iterator[Job]:
    """A copy of each utterance for each ratio, KEY-snr5; `extra.noise` says what was added."""
    for utt in utterances:
        for snr in snrs:
            yield Job(f"{utt.key}-snr{snr:g}", partial(_noisy, utt, noises, snr, seed), utt)


def _noisy(utt: Utterance, noises: Sequence[str], snr: float, seed: int):
    wave_S, rate = native_samples(utt)
    rng = draws("noise", seed, utt.key, f"{snr:g}")
    path = noises[rng.integers(len(noises))]
    noise_S = _noise(path, rate)
    start = int(rng.integers(len(noise_S)))
    mixed_S = mix(wave_S, noise_S, snr, start)
    if mixed_S is wave_S:
        silent = path if np.any(wave_S) else "the recording"
        raise UserError(f"{utt.where}: {silent} is silent, so there is no ratio; take it out")
    about = {"file": os.path.basename(path), "start": round(start / rate, 6), "snr_db": snr}
    made = replace(utt, wav=None, start=None, end=None, extra=utt.extra | {"noise": about})
    return mixed_S, rate, made


@lru_cache(maxsize=16)
def _noise(path: str, rate: int) -> np.ndarray:
    """A recording of noise at another rate."""
    noise_S, own = load_native(path, max_seconds=MAX_NOISE_SECONDS)
    if own == rate:
        return noise_S
    import soxr

    return soxr.resample(noise_S, own, rate, quality="HQ")
