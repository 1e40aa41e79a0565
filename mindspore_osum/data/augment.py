"""Augmentation of training audio: speed, noise and volume of the waveform, SpecAugment of the features.

Notable choices
- All randomness comes from the generator passed in, one for each (seed, step, row): a resumed run and any
  other process draw the same numbers. An augmentation that is off draws none.
- The order follows the signal path: the speaker (speed), the surroundings (noise), the microphone (volume).
- Speed is not changed for tasks with word timestamps: the labels would have to change with it.

Legend: N samples at 16 kHz, T mel frames, F mel bins.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.files import as_text, read_bytes
from mindspore_osum.speech.audio import SAMPLE_RATE, duration_seconds, load_audio

_MAX_LIST = 2**26  # bytes of a list of noise
MAX_NOISE_SECONDS = 600.0  # longest noise recording; it is decoded whole even for a short piece


class NoiseError(UserError):
    """A noise recording that cannot be decoded; not an error of any utterance."""


@dataclass(frozen=True)
class SpecAugment:
    """SpecAugment (Park et al. 2019) and substitution as in U2++ (Wu et al. 2021, 3.2.3); 0 turns one off.

    The defaults are the published ones.
    """

    time_masks: int = 2
    time_max: int = 50  # mel frames (10 ms)
    freq_masks: int = 2
    freq_max: int = 10  # mel bins
    subs: int = 3  # stretches replaced by earlier ones
    sub_max: int = 30  # mel frames


@dataclass(frozen=True)
class WaveAugment:
    """Changes of the waveform; all off by default, as published."""

    speeds: list[float] = field(default_factory=lambda: [1.0])  # one is drawn; pitch changes with it
    noise: str = ""  # a file that lists recordings of noise, one path a line; "" = none
    noise_share: float = 0.5  # share of the utterances that get noise
    snr_db: list[float] = field(default_factory=lambda: [5.0, 20.0])  # lowest and highest, uniform in between
    volume_db: list[float] = field(default_factory=lambda: [0.0, 0.0])  # gain, also lowest and highest

    def __post_init__(self):
        if not self.speeds or not all(0.5 <= s <= 2 for s in self.speeds):
            raise UserError(f"wave_augment.speeds: {self.speeds} must be numbers from 0.5 to 2")
        if not 0 <= self.noise_share <= 1:
            raise UserError(f"wave_augment.noise_share: {self.noise_share} must be from 0 to 1")
        for name in ("snr_db", "volume_db"):
            value = getattr(self, name)
            if len(value) != 2 or not -100 <= value[0] <= value[1] <= 100:
                raise UserError(f"wave_augment.{name}: {value} must be the lowest and highest value, in dB")

    @property
    def active(self) -> bool:
        """Whether any change is turned on."""
        return bool(self.noise) or set(self.speeds) != {1.0} or any(self.volume_db)

    def longest(self, frames: int, task: str) -> int:
        """Most mel frames that a recording of `frames` can have after the slowest speed change."""
        slowest = min(self.speeds)
        return frames if slowest >= 1 or keeps_speed(task) else math.ceil((frames + 1) / slowest)


def keeps_speed(task: str) -> bool:
    """Whether the task has word timestamps, so that the speed must not change."""
    return "<ALIGN>" in task.upper() or task == "srwt"


class Augment:
    """Augmentation of training recordings.

    Parameters
    ----------
    spec, wave : the settings.

    Raises
    ------
    UserError : the list of noise, or a recording in it, cannot be read.
    """

    def __init__(self, spec: SpecAugment, wave: WaveAugment | None = None):
        self.spec, self.wave = spec, wave or WaveAugment()
        self.noises = read_noise_list(self.wave.noise) if self.wave.noise else []

    def change_wave(self, wave_N: np.ndarray, rng: np.random.Generator, task: str) -> np.ndarray:
        """The waveform with speed, noise and volume drawn from `rng`; the given one stays as it is."""
        w = self.wave
        if len(w.speeds) > 1 or w.speeds[0] != 1:
            speed = w.speeds[rng.integers(len(w.speeds))]
            wave_N = wave_N if keeps_speed(task) else change_speed(wave_N, speed)
        if self.noises and rng.random() < w.noise_share:
            noise_N = _noise(self.noises[rng.integers(len(self.noises))])
            wave_N = mix(wave_N, noise_N, rng.uniform(*w.snr_db), int(rng.integers(len(noise_N))))
        if any(w.volume_db):
            wave_N = wave_N * np.float32(10 ** (rng.uniform(*w.volume_db) / 20))
        return wave_N

    def change_mel(self, mel_TF: np.ndarray, rng: np.random.Generator) -> None:
        """Masks, then substitution (the published order), in place."""
        spec_augment(mel_TF, rng, self.spec)
        substitute(mel_TF, rng, self.spec)


def spec_augment(mel_TF: np.ndarray, rng, spec: SpecAugment) -> None:
    """Zero random stretches of time and frequency in place."""
    frames, bins = mel_TF.shape
    for _ in range(spec.time_masks):
        start = rng.integers(0, frames)
        mel_TF[start : start + rng.integers(1, spec.time_max + 1)] = 0.0
    for _ in range(spec.freq_masks):
        start = rng.integers(0, bins)
        mel_TF[:, start : start + rng.integers(1, spec.freq_max + 1)] = 0.0


def substitute(mel_TF: np.ndarray, rng, spec: SpecAugment) -> None:
    """Overwrite stretches of the features with earlier, unmodified ones, in place."""
    before_TF = mel_TF.copy() if spec.subs else mel_TF
    for _ in range(spec.subs):
        start = rng.integers(0, len(mel_TF))
        end = min(len(mel_TF), start + rng.integers(1, spec.sub_max + 1))
        back = rng.integers(0, start + 1)
        mel_TF[start:end] = before_TF[start - back : end - back]


def change_speed(wave_N: np.ndarray, speed: float) -> np.ndarray:
    """Play a waveform `speed` times as fast: ceil(N / speed) samples, the pitch changes too (soxr HQ)."""
    if speed == 1:
        return wave_N
    import soxr

    wanted = math.ceil(len(wave_N) / speed)
    changed_N = soxr.resample(wave_N, SAMPLE_RATE * speed, SAMPLE_RATE, quality="HQ")[:wanted]
    return np.pad(changed_N, (0, wanted - len(changed_N)))


def mix(wave_N: np.ndarray, noise_N: np.ndarray, snr_db: float, start: int) -> np.ndarray:
    """Add noise from its sample `start` on, repeated as needed, so that the mean powers differ by `snr_db`.

    If the waveform or the piece of noise is silent, the waveform is unchanged: the ratio is undefined.
    """
    piece_N = np.take(noise_N, np.arange(start, start + len(wave_N)), mode="wrap")
    signal, noise = (np.mean(np.square(x, dtype=np.float64)) for x in (wave_N, piece_N))
    if not signal or not noise:
        return wave_N
    return wave_N + piece_N * np.float32(np.sqrt(signal / noise) * 10 ** (-snr_db / 20))


def read_noise_list(path: str) -> list[str]:
    """Paths of the noise recordings in a list (one per line, relative to the list); each is opened once."""
    lines = as_text(read_bytes(path, "a list of noise", _MAX_LIST), path).splitlines()
    noises = [str(Path(path).parent / line.strip()) for line in lines if line.strip()]
    if not noises:
        raise UserError(f"{path}: names no recording of noise; give one path a line")
    for noise in noises:
        if duration_seconds(noise) > MAX_NOISE_SECONDS:
            raise UserError(f"{noise}: longer than {MAX_NOISE_SECONDS:g} s; split the noise file")
    return noises


@lru_cache(maxsize=4)
def _noise(path: str) -> np.ndarray:
    try:
        return load_audio(path, max_seconds=MAX_NOISE_SECONDS)
    except UserError as error:
        raise NoiseError(f"wave_augment.noise: {error}") from None
