"""Which frame each token is heard at: from cross-attention to a path through tokens and frames (numpy, on the
host).

The same numbers as openai-whisper's `timing.py`: softmax over the frames of the recording, each frame
standardised over the tokens, a median over neighbouring frames, the mean of the heads, and dynamic time
warping (Sakoe & Chiba 1978) on its negative.

Legend: A heads, L tokens, U frames.
"""

import numpy as np

MEDIAN_FRAMES = 7
_BOTH, _TOKEN, _FRAME = 0, 1, 2  # what a step of the path advances


def alignment_matrix(scores_ALU: np.ndarray) -> np.ndarray:
    """How well each token fits each frame, float32 (L, U).

    Parameters
    ----------
    scores_ALU : cross-attention before its softmax, cut to the frames of the recording; float32.
    """
    weights_ALU = np.exp(scores_ALU - scores_ALU.max(-1, keepdims=True))
    weights_ALU /= weights_ALU.sum(-1, keepdims=True)
    mean_A1U, deviation_A1U = weights_ALU.mean(1, keepdims=True), weights_ALU.std(1, keepdims=True)
    return median_filter((weights_ALU - mean_A1U) / np.maximum(deviation_A1U, 1e-30)).mean(0)


def median_filter(x: np.ndarray, width: int = MEDIAN_FRAMES) -> np.ndarray:
    """The median of each value and its neighbours along the last axis, which is reflected at both ends.

    Fewer values than half a width stay as they are.
    """
    half = width // 2
    if x.shape[-1] <= half:
        return x
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(half, half)], mode="reflect")
    rest = [padded[..., n : n + x.shape[-1]] for n in range(width)]
    # the median is never the smallest or the largest of more than half of all: leave these out, one by one
    held = [rest.pop() for _ in range(half + 2)]
    while len(held) > 1:
        for n in range(len(held) - 1):
            held[n], held[n + 1] = np.minimum(held[n], held[n + 1]), np.maximum(held[n], held[n + 1])
        for n in reversed(range(len(held) - 2)):
            held[n], held[n + 1] = np.minimum(held[n], held[n + 1]), np.maximum(held[n], held[n + 1])
        held = held[1:-1] + ([rest.pop()] if rest else [])
    return held[0]


def warping_path(cost_LU: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cheapest path from the first token and frame to the last ones: tokens and frames of its steps.

    A step advances the token, the frame, or both. As in openai-whisper, it advances the frame alone where
    two of these cost the same, and sums are rounded to float32. All cells of an antidiagonal are computed at
    once.

    Parameters
    ----------
    cost_LU : of a token at a frame.
    """
    tokens, frames = cost_LU.shape
    cost_LU = cost_LU.astype(np.float64)
    came = np.empty((tokens, frames), np.int8)
    # sums of the two antidiagonals before, by token + 1; outside the table they are infinite
    before, last = (np.full(tokens + 1, np.inf, np.float32) for _ in range(2))
    before[0] = 0.0  # where the path begins
    for diagonal in range(tokens + frames - 1):
        token = np.arange(max(0, diagonal - frames + 1), min(tokens, diagonal + 1))
        both, down, right = before[token], last[token], last[token + 1]
        step = np.where((both < down) & (both < right), _BOTH, _FRAME)
        step[(down < both) & (down < right)] = _TOKEN
        came[token, diagonal - token] = step
        least = np.where(step == _BOTH, both, np.where(step == _TOKEN, down, right))
        sums = np.full(tokens + 1, np.inf, np.float32)
        sums[token + 1] = cost_LU[token, diagonal - token] + least
        before, last = last, sums
    came[0], came[:, 0] = _FRAME, _TOKEN
    return _traced(came)


def _traced(came: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The path that ends in the last cell, by the step with which each cell was reached."""
    token, frame = came.shape[0] - 1, came.shape[1] - 1
    path = [(token, frame)]
    while token or frame:
        step = came[token, frame]
        token, frame = token - (step != _FRAME), frame - (step != _TOKEN)
        path.append((token, frame))
    tokens_P, frames_P = np.array(path[::-1]).T
    return tokens_P, frames_P
