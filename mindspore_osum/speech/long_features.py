"""Log-mel of a recording of any length for Whisper's windows, in bounded memory.

Notable choices
- The loudest cell of the whole recording decides what is cut off below it, so a recording is read twice: for
  that and its length, and then for its windows.
- As published, silence follows the recording, not a reflection of its end.

Legend: N samples, W samples of a window, T frames (10 ms), F mel bins.
"""

from collections.abc import Iterable, Iterator
from itertools import chain

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import audio_blocks
from mindspore_osum.speech.config import FeatureConfig
from mindspore_osum.speech.features import log_power, normalized


class LongFeatures:
    """The features of one recording; its windows are asked for from the first to the last.

    Parameters
    ----------
    source, channel, notes : as in `load_audio`, of any length.

    Attributes
    ----------
    frames : of the recording; of a damaged one, of what is before the damage.
    error : the damage, one line; None if there is none.

    Raises
    ------
    UserError : as `load_audio`; not for damage behind the first samples.
    """

    def __init__(self, source, cfg: FeatureConfig, channel: int | None = None, notes=None):
        self.error, samples, peaks = None, 0, []
        waves: Iterator[np.ndarray] = audio_blocks(source, channel=channel, notes=notes)

        def counted() -> Iterator[np.ndarray]:
            nonlocal samples
            try:
                for wave_N in waves:
                    samples += len(wave_N)
                    yield wave_N
            except UserError as error:
                if not samples:
                    raise
                self.error = str(error)

        for mel_TF in log_powers(counted(), cfg):
            peaks.append(mel_TF.max())
        self.frames, self._peak = cfg.frames(samples), max(peaks)
        self._left = log_powers(_whole(audio_blocks(source, channel=channel), samples), cfg)
        self._held_TF, self._first = np.empty((0, cfg.n_mels), np.float32), 0

    def window(self, first: int, count: int) -> np.ndarray:
        """`count` frames from `first` on, (count, F) float32; none begins before the one asked for last.

        Raises
        ------
        UserError : the recording is not what it was when it was read first.
        """
        while True:
            past = min(first - self._first, len(self._held_TF))
            self._held_TF, self._first = self._held_TF[past:], self._first + past
            if self._first == first and len(self._held_TF) >= count:
                return normalized(self._held_TF[:count].copy(), self._peak)
            block_TF = next(self._left, None)
            if block_TF is None:
                raise UserError("the recording became shorter while it was read; leave it alone meanwhile")
            self._held_TF = np.concatenate([self._held_TF, block_TF])


def _whole(waves: Iterable[np.ndarray], samples: int) -> Iterator[np.ndarray]:
    """The first `samples` of a recording, of which it may have more behind a damage."""
    for wave_N in waves:
        yield wave_N[:samples]
        samples -= len(wave_N)
        if samples <= 0:
            return


def log_powers(waves: Iterable[np.ndarray], cfg: FeatureConfig) -> Iterator[np.ndarray]:
    """Logarithms of mel power (T, F), float32, of a waveform that comes in pieces (N,), with a window of
    silence behind it: the features before they are normalized."""
    held_N, begun, half = np.empty(0, np.float32), False, cfg.n_fft // 2
    for wave_N in chain(waves, [np.zeros(cfg.n_fft, np.float32)]):
        held_N = np.concatenate([held_N, wave_N])
        if not begun and len(held_N) > half:
            held_N, begun = np.concatenate([held_N[half:0:-1], held_N]), True
        if len(held_N) >= cfg.n_fft and begun:
            frames_TW = sliding_window_view(held_N, cfg.n_fft)[:: cfg.hop]
            held_N = held_N[len(frames_TW) * cfg.hop :]
            yield log_power(frames_TW, cfg).astype(np.float32)
