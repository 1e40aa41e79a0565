"""Lengths and batch sizes are rounded up, so that few static shapes serve everything.

Lengths have buckets, four an octave, so that padding costs at most a quarter; batch sizes powers of two.
"""

SMALLEST_LENGTH = 64  # sequence positions, of prompts and of caches; a block of models/ops/fused.py
SMALLEST_FRAMES = 128  # mel frames


def bucket(n: int, smallest: int) -> int:
    """The least bucket that holds `n`.

    Buckets are multiples of `smallest`; above 8 * `smallest`, of an eighth of the next power of two.
    """
    step = max(smallest, 1 << max(n - 1, 0).bit_length() >> 3)
    return max(1, -(-n // step)) * step


def batch_bucket(n: int) -> int:
    """The least power of two that holds `n` rows."""
    return 1 << max(n - 1, 0).bit_length()
