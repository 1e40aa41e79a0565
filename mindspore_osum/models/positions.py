"""Positional tables of encoder, adapter and decoder, in numpy; conversion compares checkpoints with them.

Legend: N positions, D width, E head size.

Notable choices
- Exponents are float32 as in the published code, but exp is computed without numpy's float32 error: one ulp
  of a rate is 1e-4 rad at 30 s.
"""

import numpy as np


def sinusoids(length: int, width: int, first: int = 0) -> np.ndarray:
    """Whisper's positions: concat(sin, cos) of t * 10000^(-i / (width/2 - 1)); float32.

    Returns
    -------
    (length, width), for the positions from `first`.
    """
    step = np.log(10000.0) / (width // 2 - 1)
    angle_ND = _angles(length, first, np.float32(-step) * np.arange(width // 2, dtype=np.float32))
    return np.concatenate([np.sin(angle_ND), np.cos(angle_ND)], axis=1).astype(np.float32)


def interleaved_sinusoids(length: int, width: int, first: int = 0) -> np.ndarray:
    """sin at even, cos at odd columns of t * 10000^(-2i/width) (Vaswani et al. 2017); otherwise as above."""
    exponent_D = np.arange(0, width, 2, dtype=np.float32) * np.float32(-(np.log(10000.0) / width))
    angle_ND = _angles(length, first, exponent_D)
    table_ND = np.empty((length, width), np.float32)
    table_ND[:, 0::2], table_ND[:, 1::2] = np.sin(angle_ND), np.cos(angle_ND)
    return table_ND


def relative_sinusoids(length: int, width: int) -> np.ndarray:
    """`interleaved_sinusoids` of the positions length-1 down to -(length-1): (2 length - 1, width)."""
    ahead_ND = interleaved_sinusoids(length, width)
    behind_ND = ahead_ND[1:].copy()
    behind_ND[:, 0::2] *= -1
    return np.concatenate([ahead_ND[::-1], behind_ND])


def inverse_frequencies(head_dim: int, theta: float) -> np.ndarray:
    """Rotary frequencies theta^(-2i/E) for i < E/2 (Su et al. 2021); float32."""
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    return (1.0 / np.float32(theta) ** exponent).astype(np.float32)


def _angles(length: int, first: int, exponent_D: np.ndarray) -> np.ndarray:
    rate_D = np.exp(np.float64(exponent_D)).astype(np.float32)
    return np.arange(first, first + length, dtype=np.float32)[:, None] * rate_D[None, :]
