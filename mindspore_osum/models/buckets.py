"""Lengths and batch sizes are rounded up, so that few static shapes are compiled.

Lengths have four buckets per octave, so that padding adds at most a quarter; batch sizes are powers of two.
"""

SMALLEST_LENGTH = 64  # sequence positions of prompts and caches
SMALLEST_FRAMES = 128  # mel frames


def bucket(n: int, smallest: int) -> int:
    """The smallest bucket that holds `n`.

    Buckets are multiples of `smallest`; above 8 * `smallest`, of an eighth of the next power of two.
    """
    step = max(smallest, 1 << max(n - 1, 0).bit_length() >> 3)
    return max(1, -(-n // step)) * step


def frame_bucket(model, frames: int) -> int:
    """The bucket of a recording's mel frames, at most what `model`, a `systems.config.Config`, takes."""
    return min(bucket(frames, SMALLEST_FRAMES), model.most_frames)


def batch_bucket(n: int) -> int:
    """The smallest power of two that holds `n` rows."""
    return 1 << max(n - 1, 0).bit_length()
