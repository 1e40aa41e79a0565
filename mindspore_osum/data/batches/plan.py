"""The plan of an epoch: which utterances make up each step, in buckets of similar length or in packs.

An item is one use of an utterance in an epoch; items are numbered in the epoch's random order.
"""

from dataclasses import dataclass

import numpy as np

from mindspore_osum.data.batches.packing import EMPTY_PACK, Pack, Room, pack_items

NOBODY = -1  # instead of an item number: an empty row


@dataclass(frozen=True)
class Epoch:
    """One pass over the data.

    Attributes
    ----------
    numbers_N : number of each item's utterance.
    requests_N : index of each item's request in its set.
    steps : for each step, the number of its shape and the rows of all ranks and micro-batches.
    """

    numbers_N: np.ndarray
    requests_N: np.ndarray
    steps: list[tuple[int, np.ndarray | list[Pack]]]

    def rows(self, place: int) -> tuple[int, list[Pack]]:
        """Shape and rows of a step; without packing, each row holds one item or none."""
        shape, rows = self.steps[place]
        if isinstance(rows, np.ndarray):
            rows = [EMPTY_PACK if i == NOBODY else Pack((int(i),), (0,)) for i in rows]
        return shape, rows


def in_buckets(buckets_N: np.ndarray, groups: list[int], rng: np.random.Generator) -> list:
    """Steps in random order, each of `groups[k]` items of one bucket k.

    Items left over in a bucket move to the next longer one; the very last group is filled up with NOBODY.
    """
    steps, rest = [], np.zeros(0, np.int64)
    for bucket, group in enumerate(groups):
        pool = np.concatenate([rest, np.flatnonzero(buckets_N == bucket)])
        full = len(pool) // group * group
        steps += [(bucket, part) for part in pool[:full].reshape(-1, group)]
        rest = pool[full:]
    if len(rest):
        nobody = np.full(groups[-1] - len(rest), NOBODY)
        steps.append((len(groups) - 1, np.concatenate([rest, nobody])))
    return [steps[i] for i in rng.permutation(len(steps))]


def in_packs(tokens_N: np.ndarray, speech_N: np.ndarray, room: Room, group: int) -> list:
    """Steps of `group` packs each, in the order of the items; the last is filled up with empty packs."""
    packs = pack_items(tokens_N, speech_N, room)
    packs += [EMPTY_PACK] * (-len(packs) % group)
    return [(0, packs[i : i + group]) for i in range(0, len(packs), group)]
