"""Voice activity detection: the spans of speech in a recording.

    spans = speech_spans(wave_N)                             # a whole waveform
    vad = VoiceActivity(); vad.push(piece_N); vad.flush()    # a stream: pieces of any size, same spans

Notable choices
- Compares the energy in the speech band with an adaptive noise floor, the minimum over some seconds (minimum
  statistics, Martin 2001). A stretch above the lower of two thresholds is speech if enough of it is above the
  higher one and less flat than noise (spectral flatness).
- When in doubt, a sound counts as speech: missed speech is lost, a false alarm only costs time.
- Nothing is trained and only numpy is needed; a constant sound counts as noise.

Legend: N samples at 16 kHz, T frames (20 ms), W samples of a frame, Q frequency bins of the band.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import SAMPLE_RATE

FRAME = 320
"""Samples of a frame: 20 ms, one after the other."""

_BAND = slice(2, 81)  # 100-4000 Hz in bins of 50 Hz
_SMOOTH = 5  # frames over which the level is averaged for the noise floor
BLOCK = 25
"""Frames (0.5 s) of which the noise floor knows the quietest."""

_AT_ONCE = 4096  # frames analysed together: 10 MB of spectra
_SILENCE = 1e-12  # lowest mean square that is distinguished (-120 dB)


class Span(NamedTuple):
    """A stretch of speech, in samples at 16 kHz; the end is not part of it."""

    start: int
    end: int


@dataclass(frozen=True)
class VadSettings:
    """Thresholds and durations; levels in dB, times in seconds."""

    on_db: float = 9.0  # above the noise floor: a sound begins
    off_db: float = 5.0  # above the noise floor: the sound continues
    flatness: float = 0.4  # spectral flatness below which a sound may be a voice; white noise has 0.56
    floor_seconds: float = 6.0  # the noise floor is the minimum over the last floor_seconds
    ahead_seconds: float = 1.0  # and the next ahead_seconds, by which decisions are delayed
    floor_lowest: float = -75.0  # re full scale; lowest noise floor
    floor_highest: float = -38.0  # highest floor at the beginning, when speech may not have paused yet
    min_speech: float = 0.1  # shorter sounds are clicks
    min_silence: float = 0.3  # shorter pauses belong to the speech
    pad: float = 0.15  # added before and after, for soft onsets and ends; at most half of min_silence
    max_speech: float = 30.0  # longer speech is split at the quietest moment of its second half

    def __post_init__(self):
        if not 0 <= self.pad <= self.min_silence / 2:
            raise UserError(f"pad {self.pad}: must be 0 to half of min_silence ({self.min_silence})")
        if self.max_speech < 1:
            raise UserError(f"max_speech {self.max_speech}: must be 1 second or more")


# whether a recording is worth a question: voices above a lower floor than usual; and, whatever their pitch,
# sounds that stand out of the recording itself, as coughs do
_QUIET_VOICES = VadSettings(floor_lowest=-95.0)
_ANY_SOUNDS = VadSettings(floor_lowest=-95.0, floor_highest=0.0, flatness=1.0, min_speech=0.06)


# of smoothed frames, against the average of all: noise of any colour and hum have 0.84 or more and 1.5 dB or
# less; a recording of speech as loud as white noise has frames of 0.78 or less (docs/USAGE.md, Silence)
_STEADY_FLATNESS, _STEADY_DB = 0.82, 3.0
_STEADY_FRAMES = 25  # fewer cannot be told from a vowel


def stands_out(wave_N: np.ndarray) -> bool:
    """Whether anything in a waveform (N,), float32, 16 kHz, is more than silence and steady sound."""
    found = any(speech_spans(wave_N, settings) for settings in (_QUIET_VOICES, _ANY_SOUNDS))
    return found and not is_steady(wave_N)


def is_steady(wave_N: np.ndarray) -> bool:
    """Whether a waveform (N,) of half a second or more sounds the same all the time, as noise and tones do.

    Each frame's spectrum is divided by the average one. What is left is flat if nothing changes, whatever the
    colour of the sound; voices and coughs leave peaks, and levels that go up and down.
    """
    frames = len(wave_N) // FRAME
    if frames < _STEADY_FRAMES:
        return False
    power_TQ = _band_powers(wave_N[: frames * FRAME].reshape(-1, FRAME))
    ratio_TQ = sliding_window_view(power_TQ, _SMOOTH, axis=0).mean(axis=-1) / power_TQ.mean(axis=0)
    log_T = np.log(ratio_TQ).mean(axis=1)
    level_T = 10 / np.log(10) * (log_T - np.median(log_T))
    other_T = (np.exp(log_T) / ratio_TQ.mean(axis=1) < _STEADY_FLATNESS) | (np.abs(level_T) > _STEADY_DB)
    return int(other_T.sum()) < _frames(_ANY_SOUNDS.min_speech)


def speech_spans(wave_N: np.ndarray, settings: VadSettings | None = None) -> list[Span]:
    """All stretches of speech in a waveform (N,), float32, 16 kHz."""
    vad = VoiceActivity(settings)
    return [*vad.push(wave_N), *vad.flush()]


class VoiceActivity:
    """Voice activity of one recording that arrives in pieces.

    Memory is bounded: it keeps the frames since the beginning of the current speech, at most
    `settings.max_speech` and some seconds.
    """

    def __init__(self, settings: VadSettings | None = None):
        self.settings = settings or VadSettings()
        self._rest_N = np.empty(0, np.float32)  # samples that do not fill a frame yet
        self._seen = 0  # samples so far
        self._last_end = 0  # sample at which the last span ended
        self._first = 0  # first frame of the arrays below
        self._tail_T = np.empty(0)  # levels of the last frames, for the next smooth ones
        self._level_T = self._smooth_T = self._flat_T = np.empty(0)
        self._speech_T = self._sure_T = np.empty(0, bool)  # above the lower threshold; and surely a voice
        self._past_blocks = 0  # blocks of frames before the first of
        self._minima: list[float] = []  # of the smooth level in each block, dB

    @property
    def settled(self) -> int:
        """No future span begins before this sample."""
        return max(self._last_end, self._first * FRAME - _samples(self.settings.pad))

    @property
    def begun(self) -> int | None:
        """The sample at which the current speech begins, padding included; None outside speech.

        It is delayed like all decisions, see `VadSettings.ahead_seconds`.
        """
        surely = self._sure_T.sum() >= _frames(self.settings.min_speech)
        return self.settled if surely else None

    def push(self, wave_N: np.ndarray) -> list[Span]:
        """Add samples, float32 (N,); returns the spans that are now complete."""
        self._seen += len(wave_N)
        wave_N = np.concatenate([self._rest_N, wave_N])
        whole = len(wave_N) // FRAME * FRAME
        self._rest_N = wave_N[whole:].copy()
        for start in range(0, whole, _AT_ONCE * FRAME):
            self._measure(wave_N[start : min(start + _AT_ONCE * FRAME, whole)].reshape(-1, FRAME))
        return self._advance(final=False)

    def flush(self) -> list[Span]:
        """End the recording; returns the last spans."""
        if len(self._rest_N):
            self._measure(np.pad(self._rest_N, (0, FRAME - len(self._rest_N)))[None])
        return self._advance(final=True)

    def _measure(self, wave_TW: np.ndarray) -> None:
        """Append the measurements of each frame and the minima of complete blocks."""
        power_T, flat_T = _spectral(wave_TW)
        level_T = 10 * np.log10(power_T)
        before_T = self._tail_T if len(self._tail_T) else np.repeat(level_T[0], _SMOOTH - 1)
        near_T = np.concatenate([before_T, level_T])
        self._tail_T = near_T[1 - _SMOOTH :]
        smooth_T = sliding_window_view(near_T, _SMOOTH).mean(axis=1)
        self._level_T = np.concatenate([self._level_T, level_T])
        self._smooth_T = np.concatenate([self._smooth_T, smooth_T])
        self._flat_T = np.concatenate([self._flat_T, flat_T])
        known = self._first + len(self._smooth_T)
        while (start := self._measured) + BLOCK <= known:
            block_T = self._smooth_T[start - self._first : start - self._first + BLOCK]
            self._minima.append(float(block_T.min()))

    @property
    def _measured(self) -> int:
        """Frames in complete blocks."""
        return (self._past_blocks + len(self._minima)) * BLOCK

    def _advance(self, final: bool) -> list[Span]:
        self._decide(final)
        spans = list(self._spans(final))
        decided = (self._first + len(self._speech_T)) // BLOCK
        # no future noise floor depends on these
        past = max(0, decided - _blocks(self.settings.floor_seconds) - self._past_blocks)
        del self._minima[:past]
        self._past_blocks += past
        return spans

    def _decide(self, final: bool) -> None:
        """Compare all frames whose context is known with the noise floor."""
        s, past = self.settings, self._past_blocks
        ahead, back = _blocks(s.ahead_seconds), _blocks(s.floor_seconds)
        start, known = self._first + len(self._speech_T), self._first + len(self._level_T)
        stop = known if final else min(known, max(0, self._measured - ahead * BLOCK))
        if stop <= start:
            return
        tail_T = self._smooth_T[self._measured - self._first :]
        minima = self._minima + ([float(tail_T.min())] if final and len(tail_T) else [])
        blocks = range(start // BLOCK, (stop - 1) // BLOCK + 1)
        floors = [
            min(s.floor_highest if b < back else 0.0, *minima[max(0, b - back - past) : b + ahead + 1 - past])
            for b in blocks
        ]
        floor_T = np.maximum(np.repeat(floors, BLOCK), s.floor_lowest)
        floor_T = floor_T[start - blocks[0] * BLOCK :][: stop - start]
        part = slice(start - self._first, stop - self._first)
        above_T = self._level_T[part] - floor_T
        speech_T = above_T > s.off_db
        sure_T = (above_T > s.on_db) & (self._flat_T[part] < s.flatness)
        self._speech_T = np.concatenate([self._speech_T, speech_T])
        self._sure_T = np.concatenate([self._sure_T, sure_T])

    def _spans(self, final: bool) -> Iterator[Span]:
        """Spans that have ended or are split for their length; frames no longer needed are removed."""
        s = self.settings
        pause, enough, most = (_frames(x) for x in (s.min_silence, s.min_speech, s.max_speech - 2 * s.pad))
        done = decided = len(self._speech_T)
        for start, end in _runs(self._speech_T, pause):
            while end - start > most:
                half = start + most // 2
                cut = half + int(self._smooth_T[half : start + most].argmin())
                if self._sure_T[start:cut].sum() >= enough:
                    yield self._span(start, cut, pad_end=False)
                start = cut + int(self._speech_T[cut:end].argmax())
            if decided - end < pause and not final:  # it may continue
                done = start
                break
            if self._sure_T[start:end].sum() >= enough:
                yield self._span(start, end)
        self._first += done
        for name in ("_level_T", "_smooth_T", "_flat_T", "_speech_T", "_sure_T"):
            setattr(self, name, getattr(self, name)[done:])

    def _span(self, start: int, end: int, pad_end: bool = True) -> Span:
        """Frames (from `_first`) -> samples, with the padding."""
        pad = _samples(self.settings.pad)
        first = (self._first + start) * FRAME - pad
        last = (self._first + end) * FRAME + pad_end * pad
        span = Span(max(first, self._last_end), min(last, self._seen))
        self._last_end = span.end
        return span


def _band_powers(wave_TW: np.ndarray) -> np.ndarray:
    """Mean square in each bin of the speech band (T, Q), above 0."""
    window_W = np.hanning(FRAME + 1)[:-1].astype(np.float32)
    spectrum_TQ = np.fft.rfft(wave_TW * window_W)[:, _BAND]
    power_TQ = (spectrum_TQ.real**2 + spectrum_TQ.imag**2) * (2 / FRAME / np.sum(window_W**2))
    return power_TQ + _SILENCE / power_TQ.shape[1]


def _spectral(wave_TW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean square in the speech band and its flatness (geometric / arithmetic mean), each (T,)."""
    power_TQ = _band_powers(wave_TW)
    power_T = power_TQ.sum(axis=1)
    return power_T, np.exp(np.log(power_TQ).mean(axis=1)) * power_TQ.shape[1] / power_T


def _runs(mask_T: np.ndarray, gap: int) -> list[tuple[int, int]]:
    """Runs (start, end) of true frames, joined if fewer than `gap` frames lie between them."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask_T, [False]]).astype(np.int8)))
    runs: list[tuple[int, int]] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if runs and start - runs[-1][1] < gap:
            start = runs.pop()[0]
        runs.append((start, end))
    return runs


def _frames(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE / FRAME)


def _blocks(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE / FRAME / BLOCK)


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)
