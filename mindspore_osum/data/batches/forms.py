"""Compares forms of batches by their share of padding.

"sorted dynamic" is the published form, for comparison: nearly every batch has its own shape, and each shape
would need a compiled graph. See docs/PACKING.md.
"""

import numpy as np

from mindspore_osum.data.batches.batching import bucket_shapes
from mindspore_osum.data.batches.packing import efficiency, pack_items, room_for
from mindspore_osum.data.batches.plan import in_buckets

SORT_BUFFER, SHUFFLE_BUFFER = 500, 1500  # published
GRID = (2.5, 3.5, 4.5, 6.0, 8.0, 14.5)  # seconds of the buckets


def forms(
    model, frames_N: np.ndarray, tokens_N: np.ndarray, tokens: int
) -> dict[str, tuple[float, float, int]]:
    """Shares of positions and mel frames in use, and number of shapes, by form, in batches of `tokens`."""
    speech_N, grid = model.tokens(frames_N), [model.features.frames_in(seconds) for seconds in GRID]
    room = room_for(model, tokens_N, speech_N, tokens)
    packed = efficiency(pack_items(tokens_N, speech_N, room), tokens_N, frames_N, room)
    return {
        "static": padded(frames_N, tokens_N, _buckets(model, frames_N, tokens_N, tokens, [frames_N.max()])),
        "buckets": padded(frames_N, tokens_N, _buckets(model, frames_N, tokens_N, tokens, grid)),
        "sorted dynamic": padded(frames_N, tokens_N, published_batches(frames_N, tokens_N, tokens)),
        "packed": (*packed, 1),
    }


def padded(frames_N, tokens_N, batches) -> tuple[float, float, int]:
    """Shares in use and number of shapes, for batches (items, mel frames and positions of a row, rows)."""
    items = np.concatenate([items for items, *_ in batches])
    frames, positions = (sum(rows * shape[k] for _, shape, rows in batches) for k in (0, 1))
    shapes = {(shape, rows) for _, shape, rows in batches}
    return tokens_N[items].sum() / positions, frames_N[items].sum() / frames, len(shapes)


def _buckets(model, frames_N, tokens_N, tokens: int, edges) -> list:
    """This package's buckets: a batch has one bucket and as many rows as fit `tokens` (batch.max_tokens)."""
    text = int((tokens_N - 2 - model.tokens(frames_N)).max())
    shapes = bucket_shapes(model, 1, [int(edge) for edge in edges], text, tokens)
    steps = in_buckets(
        np.searchsorted(edges, frames_N), [shape.size for shape in shapes], np.random.default_rng(0)
    )
    return [(i[i >= 0], (shapes[k].frames, shapes[k].length), shapes[k].size) for k, i in steps]


def published_batches(frames_N, tokens_N, tokens: int) -> list:
    """OSUM-Pangu: shuffled in a buffer, sorted in another, batches of longest * rows <= `tokens`."""
    rng, buffer, order = np.random.default_rng(0), [], []
    for item in range(len(frames_N)):
        buffer.append(item)
        if len(buffer) == SHUFFLE_BUFFER:
            order.append(buffer.pop(rng.integers(len(buffer))))
    order += list(rng.permutation(buffer))
    batches, batch = [], []
    for first in range(0, len(order), SORT_BUFFER):
        part = np.array(order[first : first + SORT_BUFFER])
        for item in part[np.argsort(frames_N[part], kind="stable")]:
            if batch and max(tokens_N[[*batch, item]]) * (len(batch) + 1) > tokens:
                batches.append(batch)
                batch = []
            batch.append(item)
    batches.append(batch)
    return [(np.array(b), (int(frames_N[b].max()), int(tokens_N[b].max())), len(b)) for b in batches]
