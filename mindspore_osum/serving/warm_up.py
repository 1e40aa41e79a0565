"""Graphs compiled before the first client is answered."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.serving.batcher import Stage
from mindspore_osum.speech.config import SAMPLE_RATE

GRAPHS = 3  # of a static shape: prefill, step, and how sure the model is


def warm_up(
    engine, seconds: Sequence[float], batch_size: int, sampling, enter: Callable[[Stage], None]
) -> bool:
    """Answer noise of these lengths (s) in every batch size, so that a client waits for no compilation.

    Parameters
    ----------
    enter : called with each stage before it begins, and after the last; where lengths share graphs, one takes
        no time.

    Returns
    -------
    Whether all of them are kept; False if the pool had to release some, which will be compiled anew.

    Raises
    ------
    UserError : a length that the model cannot take.
    """
    rng = np.random.default_rng(0)
    sizes = [min(2**n, batch_size) for n in range((batch_size - 1).bit_length() + 1)]
    # what a model may draw anew has a graph of its own
    ways = [replace(sampling, fallback=False, temperature=t) for t in (0.0, *engine.system.temperatures[:1])]
    done, total = 0, GRAPHS * len(sizes) * len(seconds)
    for length in seconds:
        wave_N = 0.01 * rng.standard_normal(round(length * SAMPLE_RATE)).astype(np.float32)
        for rows in sizes:
            enter(Stage("compiling graphs", done, total))
            for how in ways:
                results = engine.answer([(wave_N, SAMPLE_RATE)] * rows, batch_size=batch_size, sampling=how)
                if results[0].error:  # nothing was compiled
                    raise UserError(f"--warm-up {length:g}: {results[0].error.removeprefix('array: ')}")
            done += GRAPHS
    if total:
        enter(Stage("compiling graphs", done, total))
    return not engine.generator.pool.released
