"""Vocal events of the speech world, synthesised from harmonics and shaped noise; everyday sounds are OTHER.

Each instance of an event differs in pitch, tempo and formants. The recipes follow how these sounds differ to
the ear: laughter is a series of voiced puffs, a cough one or two bursts, a scream a high harmonic tone ...

Legend: N samples.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import istft, stft

from mindspore_osum.errors import UserError

SILENT = 0.01  # share of the peak; lower samples at both ends are removed
FADE_SECONDS = 0.002
TOP_HERTZ = 7500  # highest harmonic
WINDOW = 256  # samples of the noise filter
KNOT = 50  # samples from one value of a harmonic's gain to the next


def tone(pitch_N: np.ndarray, formants, rate: int, width: float = 0.25, tilt: float = 1.0) -> np.ndarray:
    """Harmonics of a pitch (Hz) with formants (Hz) `width` octaves wide, scaled by number^-tilt."""
    phase_N = 2 * np.pi * np.cumsum(pitch_N) / rate
    out_N = np.zeros_like(pitch_N)
    place_N, knots = np.arange(len(pitch_N)), np.arange(0, len(pitch_N), KNOT)
    for number in range(1, int(min(TOP_HERTZ, rate / 2) / pitch_N.max()) + 1):
        octaves = np.log2(number * pitch_N[knots, None] / np.asarray(formants))
        gain = 0.02 + np.exp(-0.5 * (octaves / width) ** 2).max(axis=1)
        out_N += np.interp(place_N, knots, gain) * number**-tilt * np.sin(number * phase_N)
    return out_N / np.sqrt(np.mean(out_N**2))


def noise(centre_N: np.ndarray, width: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Noise of unit power around a varying centre frequency (Hz); `width` in octaves."""
    hertz, seconds, spectrum = stft(rng.standard_normal(len(centre_N)), rate, nperseg=WINDOW)
    centre = np.interp(seconds, np.arange(len(centre_N)) / rate, centre_N)
    spectrum *= np.exp(-0.5 * (np.log2(np.maximum(hertz, 20)[:, None] / centre) / width) ** 2)
    out_N = istft(spectrum, rate, nperseg=WINDOW)[1][: len(centre_N)]
    return out_N / np.sqrt(np.mean(out_N**2))


def decay(time_N: np.ndarray, start: float, fall: float) -> np.ndarray:
    """Envelope of a blow at `start` s: rises in 2 ms, falls by a factor e in `fall` s."""
    since_N = time_N - start
    return np.where(since_N < 0, 0, np.exp(-np.maximum(since_N, 0) / fall) * np.minimum(1, since_N / 0.002))


def hump(time_N: np.ndarray, start: float, stop: float) -> np.ndarray:
    """Half a sine from `start` to `stop` s, 0 elsewhere."""
    place_N = np.clip((time_N - start) / (stop - start), 0, 1)
    return np.sin(np.pi * place_N)


def times(low: float, high: float, rate: int, rng: np.random.Generator) -> np.ndarray:
    return np.arange(round(rng.uniform(low, high) * rate)) / rate


def laugh(rate: int, rng: np.random.Generator) -> np.ndarray:
    time_N = times(0.6, 0.7, rate, rng)
    count = rng.integers(3, 5)
    period = time_N[-1] / count
    pitch_N = rng.uniform(170, 380) * (1.1 - 0.35 * time_N / time_N[-1])
    voice_N = tone(pitch_N, rng.uniform(0.9, 1.2) * np.array([750, 1250, 2700]), rate)
    breath_N = noise(np.full(len(time_N), rng.uniform(1500, 2200)), 0.8, rate, rng)
    out_N = np.zeros(len(time_N))
    for k in range(count):
        puff_N = hump(time_N, (k + 0.25) * period, (k + 0.95) * period)
        breathy_N = hump(time_N, k * period, (k + 0.4) * period)
        out_N += (1 - 0.6 * k / count) * (puff_N * voice_N + 0.15 * breathy_N * breath_N)
    return out_N


def cough(rate: int, rng: np.random.Generator) -> np.ndarray:
    time_N = times(0.45, 0.65, rate, rng)
    starts = [0.0, time_N[-1] * rng.uniform(0.4, 0.5)][: rng.integers(1, 3)]
    fall = rng.uniform(0.05, 0.08) if len(starts) > 1 else rng.uniform(0.09, 0.12)
    strength_N = sum(decay(time_N, s, fall) * rng.uniform(0.7, 1) for s in starts)
    burst_N = noise(rng.uniform(1100, 1700) * np.ones(len(time_N)), 1.5, rate, rng)
    return strength_N * burst_N


def cry(rate: int, rng: np.random.Generator) -> np.ndarray:
    time_N = times(0.55, 0.7, rate, rng)
    place_N = time_N / time_N[-1]
    waver_N = 1 + 0.07 * np.sin(2 * np.pi * rng.uniform(6, 9) * time_N + rng.uniform(0, 6))
    pitch_N = rng.uniform(380, 600) * waver_N * (1.15 - 0.5 * place_N)
    voice_N = tone(pitch_N, rng.uniform(0.9, 1.15) * np.array([600, 1600, 3000]), rate, 0.35)
    gap = rng.uniform(0.35, 0.6)
    sob_N = 1 - 0.93 * np.exp(-0.5 * ((place_N - gap) / 0.05) ** 2)
    breath_N = noise(np.full(len(time_N), 2500.0), 0.7, rate, rng)
    return voice_N * sob_N * np.minimum(1, 8 * (1 - place_N) + 0.1) + 0.06 * breath_N


def scream(rate: int, rng: np.random.Generator) -> np.ndarray:
    time_N = times(0.5, 0.7, rate, rng)
    place_N = time_N / time_N[-1]
    rise_N = 1 - 0.25 * np.exp(-place_N / 0.08)
    pitch_N = rng.uniform(1000, 1800) * rise_N * (1 + 0.02 * np.sin(2 * np.pi * 7 * time_N))
    voice_N = tone(pitch_N, [1500, 3000, 5000], rate, 0.8, 0.4)
    rough_N = noise(np.full(len(time_N), 3500.0), 0.8, rate, rng)
    return np.tanh(1.5 * voice_N + 0.2 * rough_N) * np.minimum(1, 12 * (1 - place_N) + 0.1)


def sigh(rate: int, rng: np.random.Generator) -> np.ndarray:
    time_N = times(0.55, 0.7, rate, rng)
    place_N = time_N / time_N[-1]
    centre_N = rng.uniform(1500, 2200) * 2 ** (-rng.uniform(1, 1.6) * place_N)
    return noise(centre_N, 0.45, rate, rng) * (0.04 + np.sin(np.pi * place_N**0.7))


def throat_clearing(rate: int, rng: np.random.Generator) -> np.ndarray:
    time_N = times(0.5, 0.68, rate, rng)
    shake_N = np.interp(
        np.arange(len(time_N)),
        np.arange(0, len(time_N), 200),
        rng.uniform(0.85, 1.15, len(range(0, len(time_N), 200))),
    )
    pitch_N = rng.uniform(70, 120) * shake_N
    voice_N = tone(pitch_N, rng.uniform(0.9, 1.1) * np.array([380, 1000, 2300]), rate, 0.3, 0.6)
    rough_N = noise(np.full(len(time_N), 900.0), 1.0, rate, rng)
    pause = rng.uniform(0.33, 0.42) * time_N[-1]
    strength_N = 0.8 * hump(time_N, 0, pause) ** 0.5 + hump(time_N, pause + 0.03, time_N[-1]) ** 0.5
    return strength_N * (voice_N + 0.25 * rough_N)


def sneeze(rate: int, rng: np.random.Generator) -> np.ndarray:
    time_N = times(0.5, 0.68, rate, rng)
    start = time_N[-1] * rng.uniform(0.42, 0.52)
    breath_N = noise(rng.uniform(1000, 1400) * 2 ** (1.3 * np.minimum(time_N / start, 1)), 0.3, rate, rng)
    inhaling_N = np.where(time_N < start, 0.08 + 0.3 * time_N / start, 0)
    burst_N = noise(np.full(len(time_N), rng.uniform(4200, 5500)), 0.5, rate, rng)
    return inhaling_N * breath_N + 1.5 * decay(time_N, start, rng.uniform(0.07, 0.1)) * burst_N


def everyday(rate: int, rng: np.random.Generator) -> np.ndarray:
    """Knocks, claps, beeps or a bell."""
    time_N = times(0.5, 0.7, rate, rng)
    kind = rng.choice(["knocks", "claps", "beeps", "bell"])
    if kind == "bell":
        low = rng.uniform(700, 1300)
        partials = (1, 2.76, 5.4)  # partials of a struck bar
        return sum(decay(time_N, 0, 0.25 / p) * np.sin(2 * np.pi * low * p * time_N) for p in partials)
    count = rng.integers(2, 5)
    starts = time_N[-1] * np.arange(count) / count
    if kind == "beeps":
        beats_N = sum(hump(time_N, s, s + 0.75 * time_N[-1] / count) > 0.2 for s in starts)
        return beats_N * np.sin(2 * np.pi * rng.uniform(900, 2500) * time_N)
    strength_N = sum(decay(time_N, s, 0.035 if kind == "knocks" else 0.03) for s in starts)
    if kind == "claps":
        return strength_N * noise(np.full(len(time_N), rng.uniform(2200, 3000)), 0.35, rate, rng)
    body_N = np.sin(2 * np.pi * rng.uniform(160, 350) * time_N)
    return strength_N * (body_N + 0.15 * rng.standard_normal(len(time_N)))


MAKERS = {
    "LAUGH": laugh,
    "COUGH": cough,
    "CRY": cry,
    "SCREAMING": scream,
    "SIGH": sigh,
    "THROAT CLEARING": throat_clearing,
    "SNEEZE": sneeze,
    "OTHER": everyday,
}
EVENTS = tuple(MAKERS)


def event(name: str, rng: np.random.Generator, rate: int = 16000) -> np.ndarray:
    """One vocal event.

    Parameters
    ----------
    name : one of `EVENTS`
    rng : decides pitch, tempo, formants and noise
    rate : samples per second, at least 16000

    Returns
    -------
    (N,) float32, 0.35 to 0.7 s, peak 1.0, no silence at either end

    Raises
    ------
    UserError
        No such event, or a too low rate.
    """
    if name not in MAKERS:
        raise UserError(f"event {name!r}: choose one of {', '.join(EVENTS)}")
    if rate < 16000:
        raise UserError(f"event {name}: {rate} samples per second; at least 16000")
    out_N = MAKERS[name](rate, rng)
    heard = np.flatnonzero(np.abs(out_N) > SILENT * np.abs(out_N).max())
    out_N = out_N[heard[0] : heard[-1] + 1]
    ramp = np.linspace(0.2, 1, round(FADE_SECONDS * rate))
    out_N[: len(ramp)] *= ramp
    out_N[-len(ramp) :] *= ramp[::-1]
    return (out_N / np.abs(out_N).max()).astype(np.float32)
