"""Samples of any type and number of channels -> one channel of float32.

Legend: S samples at the recording's own rate, C channels.
"""

import numpy as np

from mindspore_osum.errors import UserError

BLOCK_VALUES = 2**18
"""Samples x channels decoded at once: memory does not depend on the channels."""

INTEGER_SCALES = {"int16": (0, 2**15), "int32": (0, 2**31), "uint8": (128, 2**7)}
"""Type -> zero level, full scale."""

_CANCELLED = 0.01  # power of the mean over that of the channels; unrelated ones have 1 / C
_SILENT = 1e-10  # mean square


def as_float(x_SC: np.ndarray) -> np.ndarray:
    """A new array as float32; integers are scaled to [-1, 1)."""
    zero, scale = INTEGER_SCALES.get(x_SC.dtype.name, (0, 1))
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes Inf and is refused by name
        x_SC = x_SC.astype(np.float32)
    if scale != 1:
        x_SC -= zero
        x_SC /= scale
    return x_SC


class Mixer:
    """Makes one channel of a recording's, block by block: their mean, or one of them.

    Where the mean is silent although they are not (opposite phase, as of a wire the wrong way round), the
    first channel is taken.

    Parameters
    ----------
    name : of the recording, for errors.
    channel : number of the one to take, from 0; None for the mean.
    repair : whether the first channel is taken where the mean is silent; not for blocks of any size, whose
        sound would depend on how it came (see `StreamMixer`).

    Attributes
    ----------
    cancelled : whether such a block was met.
    """

    def __init__(self, name: str, rate: float, channel: int | None = None, repair: bool = True):
        self.name, self.rate, self.channel, self.cancelled = name, rate, channel, False
        self._done, self._repair = 0, repair

    def __call__(self, x_SC: np.ndarray) -> np.ndarray:
        """(S,) float32 of a block x_SC, float32; UserError if it is not finite."""
        channels = x_SC.shape[1]
        with np.errstate(over="ignore", invalid="ignore"):
            if self.channel is not None:
                wave_S = x_SC[:, min(self.channel, channels - 1)].copy()
            else:
                wave_S = _mean(x_SC)
        bad_S = ~np.isfinite(wave_S)
        if bad_S.any():
            raise UserError(
                f"{self.name}: NaN or infinite sample at {(self._done + bad_S.argmax()) / self.rate:.4f} s; "
                "export the recording again"
            )
        self._done += len(x_SC)
        if self._repair and channels > 1 and self.channel is None:
            power, mixed = _powers(x_SC, wave_S)
            if power > _SILENT * len(x_SC) and mixed < _CANCELLED * power:
                self.cancelled = True
                return x_SC[:, 0].copy()
        return wave_S


class StreamMixer:
    """As `Mixer`, for blocks of any size, of which the result does not depend.

    Each second is mixed as the last one with sound in it asks for: where the mean was silent although the
    channels were not, the first one is taken from the next second on.
    """

    def __init__(self, name: str, rate: float):
        self._mixer = Mixer(name, rate, repair=False)
        self.cancelled = False
        self._second = self._left = max(1, round(rate))  # samples
        self._power = self._mixed = 0.0  # of the current second

    def __call__(self, x_SC: np.ndarray) -> np.ndarray:
        """(S,) float32 of a block x_SC, float32; UserError if it is not finite."""
        if x_SC.shape[1] == 1:
            return self._mixer(x_SC)
        waves = []
        while len(x_SC):
            part_SC, x_SC = x_SC[: self._left], x_SC[self._left :]
            waves.append(self._mixer(part_SC))
            power, mixed = _powers(part_SC, _mean(part_SC))
            self._power, self._mixed = self._power + power, self._mixed + mixed
            self._left -= len(part_SC)
            if not self._left:
                self._choose()
        return np.concatenate(waves) if waves else np.empty(0, np.float32)

    def _choose(self) -> None:
        """What is heard of the next second."""
        if self._power > _SILENT * self._second:
            silent = self._mixed < _CANCELLED * self._power
            self._mixer.channel = 0 if silent else None
            self.cancelled = self.cancelled or silent
        self._power, self._mixed, self._left = 0.0, 0.0, self._second


def _mean(x_SC: np.ndarray) -> np.ndarray:
    return x_SC @ np.full(x_SC.shape[1], 1 / x_SC.shape[1], np.float32)  # 20 times as fast as mean(axis=1)


def _powers(x_SC: np.ndarray, mean_S: np.ndarray) -> tuple[float, float]:
    """Sums of squares: of a channel, on average, and of the channels' mean."""
    with np.errstate(over="ignore"):
        return float(np.vdot(x_SC, x_SC)) / x_SC.shape[1], float(np.vdot(mean_S, mean_S))
