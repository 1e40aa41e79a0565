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
    start : seconds before the first block, for errors.
    repair : whether the first channel is taken where the mean is silent; not for blocks of any size, as of a
        stream, whose sound would depend on how it came.

    Attributes
    ----------
    cancelled : whether such a block was met.
    """

    def __init__(
        self, name: str, rate: float, channel: int | None = None, start: float = 0.0, repair: bool = True
    ):
        self.name, self.rate, self.channel, self.cancelled = name, rate, channel, False
        self._done, self._repair = start * rate, repair

    def __call__(self, x_SC: np.ndarray) -> np.ndarray:
        """(S,) float32 of a block x_SC, float32; UserError if it is not finite."""
        channels = x_SC.shape[1]
        with np.errstate(over="ignore", invalid="ignore"):
            if self.channel is not None:
                wave_S = x_SC[:, min(self.channel, channels - 1)].copy()
            else:
                wave_S = x_SC @ np.full(
                    channels, 1 / channels, np.float32
                )  # 20 times as fast as mean(axis=1)
        bad_S = ~np.isfinite(wave_S)
        if bad_S.any():
            raise UserError(
                f"{self.name}: NaN or infinite sample at {(self._done + bad_S.argmax()) / self.rate:.4f} s; "
                "export the recording again"
            )
        self._done += len(x_SC)
        if self._repair and channels > 1 and self.channel is None:
            with np.errstate(over="ignore"):
                power, mixed = np.vdot(x_SC, x_SC) / channels, np.vdot(wave_S, wave_S)
            if power > _SILENT * len(x_SC) and mixed < _CANCELLED * power:
                self.cancelled = True
                return x_SC[:, 0].copy()
        return wave_S
