"""Graphs compiled before the first client connects."""

from collections.abc import Iterable

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.speech.config import SAMPLE_RATE


def warm_up(engine, seconds: Iterable[float], batch_size: int, sampling) -> None:
    """Answer noise of these lengths (s) in every batch size, so that a client waits for no compilation.

    Raises
    ------
    UserError : a length that the model cannot take.
    """
    rng = np.random.default_rng(0)
    for length in seconds:
        wave_N = 0.01 * rng.standard_normal(round(length * SAMPLE_RATE)).astype(np.float32)
        rows = 1
        while rows < 2 * batch_size:
            recordings = [(wave_N, SAMPLE_RATE)] * min(rows, batch_size)
            results = engine.answer(recordings, batch_size=batch_size, sampling=sampling)
            if results[0].error:  # nothing was compiled
                raise UserError(f"--warm-up {length:g}: {results[0].error.removeprefix('array: ')}")
            rows *= 2
