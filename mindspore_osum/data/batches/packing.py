"""Packing: sequences laid end to end in rows of one length, and their recordings in separate audio rows.

A pack is one row of `Room.tokens` sequence positions and `Room.audio_rows` audio rows for its recordings. All
packs have the same static shape, so one graph serves every batch.

Notable choices
- Audio is packed, too: with one slot of the longest length per recording, two thirds of the encoder's frames
  would be padding on AISHELL (docs/PACKING.md). A recording starts on a speech token boundary, so that all
  strides of the model start there; an empty token after it separates its convolutions from the next one.
- Sizes here are in speech tokens: a recording needs its speech tokens and one for the gap.
- Items wait in a queue of bounded length. A pack takes the oldest first, then the pair that fills it best: no
  item waits long, and except for its last items a pack is a random sample of the data.
- Deterministic: the plan depends only on sizes and order. O(n log q) time for n items and a queue of q.
"""

from dataclasses import dataclass

import numpy as np

QUEUE = 1024  # items a pack chooses from
_RESERVE = 1.5  # capacity kept free for the last pair of a pack, in mean sizes
_TRIES = 8  # pairs tried until the audio rows can hold one
_MARGIN = 1.06  # audio capacity / mean need


@dataclass(frozen=True)
class Room:
    """The capacity of a pack: its static shape."""

    tokens: int  # sequence positions
    audio_rows: int  # rows of audio
    speech: int  # speech tokens per audio row
    items: int  # most utterances
    frames_per_token: int  # mel frames per speech token

    @property
    def frames(self) -> int:
        """Mel frames of an audio row."""
        return self.speech * self.frames_per_token


@dataclass(frozen=True)
class Pack:
    """The contents of one pack."""

    items: tuple[int, ...]  # indices in the given order
    # first speech token of each item in the audio rows laid end to end; -1 for items without audio
    starts: tuple[int, ...]


EMPTY_PACK = Pack((), ())


def room_for(model, tokens_N: np.ndarray, speech_N: np.ndarray, tokens: int) -> Room:
    """The capacity of packs of `tokens` positions, chosen for items of these sizes and the model's Config.

    Audio capacity is the mean need of a full pack plus 6 %, in as many rows as the longest recording allows.
    """
    per_token = np.where(speech_N > 0, speech_N + 1, 0).sum() / tokens_N.sum()
    need, longest = tokens * per_token * _MARGIN, int(speech_N.max()) + 1
    rows = max(1, int(need // longest))
    speech = max(longest, int(np.ceil(need / rows)), 2) - 1  # 2: not empty, even for text alone
    items = max(2, int(np.ceil(1.5 * tokens / tokens_N.mean())))
    return Room(tokens, rows, speech, items, model.frames_per_token)


def pack_items(tokens_N: np.ndarray, speech_N: np.ndarray, room: Room, queue: int = QUEUE) -> list[Pack]:
    """Assign every item to one pack.

    Parameters
    ----------
    tokens_N : int, sequence positions of each item, speech included; 1 <= tokens_N <= room.tokens.
    speech_N : int, speech tokens of each item; 0 without audio; at most room.speech.
    room : the capacity of a pack.
    queue : number of items a pack chooses from.

    Returns
    -------
    The packs; items keep roughly their order.
    """
    packs, arrived = [], min(queue, len(tokens_N))
    waiting = np.arange(arrived)
    while len(waiting):
        filling = _Filling(tokens_N[waiting], speech_N[waiting], room)
        filling.take_oldest()
        filling.fill_up()
        packs.append(Pack(tuple(waiting[filling.items].tolist()), tuple(filling.starts)))
        more = min(len(filling.items), len(tokens_N) - arrived)
        waiting = np.concatenate([waiting[filling.waits_Q], np.arange(arrived, arrived + more)])
        arrived += more
    return packs


class _Filling:
    """One pack that is being filled from the queue."""

    def __init__(self, tokens_Q: np.ndarray, speech_Q: np.ndarray, room: Room):
        self.tokens_Q, self.speech_Q, self.room = tokens_Q, speech_Q, room
        self.left = room.tokens
        self.free = [room.speech + 1] * room.audio_rows  # the last recording of a row needs no gap
        self.items: list[int] = []
        self.starts: list[int] = []
        self.waits_Q = tokens_Q > 0

    def take_oldest(self) -> None:
        """Take the first item and those after it that leave capacity for a last pair; longest audio first."""
        sums_Q = self.tokens_Q.cumsum()
        room = self.room.tokens - _RESERVE * sums_Q[-1] / len(sums_Q)
        count = min(int(sums_Q.searchsorted(room, side="right")), self.room.items - 2)
        self.place(0)
        for i in (-self.speech_Q[1:count]).argsort(kind="stable").tolist() if count > 1 else ():
            self.place(i + 1)

    def fill_up(self) -> None:
        """Take pairs and single items from the queue as long as any fits."""
        while len(self.items) < self.room.items:
            fits_Q = self.waits_Q & (self.tokens_Q <= self.left) & (self.speech_Q < max(self.free))
            candidates = fits_Q.nonzero()[0]
            if not len(candidates) or not self._take_pair(candidates):
                return

    def _take_pair(self, candidates: np.ndarray) -> bool:
        """Take the pair (or single candidate) that leaves the fewest positions; False if none fits."""
        order = candidates[np.argsort(self.tokens_Q[candidates], kind="stable")]
        sizes = np.concatenate([[0], self.tokens_Q[order]])  # 0: no partner
        partner = np.searchsorted(sizes, self.left - sizes, side="right") - 1
        partner = np.minimum(partner, np.arange(len(sizes)) - 1)  # smaller ones: each pair occurs once
        if len(self.items) + 2 > self.room.items:
            partner[:] = 0
        total = sizes + sizes[partner]
        total[0] = -1
        for large in np.argsort(-total, kind="stable")[:_TRIES]:
            small = partner[large]
            if large and self._place_both(int(order[large - 1]), int(order[small - 1]) if small else None):
                return True
        return self.place(int(order[-1]))

    def _place_both(self, large: int, small: int | None) -> bool:
        free = list(self.free)
        if not self.place(large):
            return False
        if small is None or self.place(small):
            return True
        self.free, self.left = free, self.left + int(self.tokens_Q[large])
        self.waits_Q[large] = True
        self.items.pop()
        self.starts.pop()
        return False

    def place(self, i: int) -> bool:
        """Add an item of the queue; its recording goes to the fullest audio row that can hold it."""
        speech = int(self.speech_Q[i])
        start = -1
        if speech:
            row = min(
                (r for r, free in enumerate(self.free) if free > speech),
                key=self.free.__getitem__,
                default=None,
            )
            if row is None:
                return False
            start = (row + 1) * self.room.speech + 1 - self.free[row]
            self.free[row] -= speech + 1
        self.items.append(i)
        self.starts.append(start)
        self.left -= int(self.tokens_Q[i])
        self.waits_Q[i] = False
        return True


def aishell_like(model, count: int, seed: int = 0, around: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Sizes like those of AISHELL-1 for ASR: (mel frames, sequence positions), int arrays.

    Seconds: log-normal around 4.3 with sigma 0.33, clipped to 1.2 .. 14.5, mean 4.5: 178 h in 141,600
    utterances (Bu et al. 2017, AISHELL-1, table 1; openslr.org/33). Characters: 3.2 per second, on average
    14, one token each. Requests: 4 to 24 tokens.

    Parameters
    ----------
    model : Config of the model, which gives the number of speech tokens of a recording.
    around : tokens of system prompt, marks, tags and end; about 100 for OSUM-Pangu, 10 for `compact`.
    """
    rng = np.random.default_rng(seed)
    seconds = np.zeros(0)
    while len(seconds) < count:
        drawn = np.exp(rng.normal(np.log(4.27), 0.33, count))
        seconds = np.concatenate([seconds, drawn[(drawn >= 1.2) & (drawn <= 14.5)]])
    cfg = model.features
    frames = np.floor(seconds[:count] * (cfg.sample_rate / cfg.hop)).astype(np.int64)
    characters = np.maximum(1, np.round(cfg.seconds(frames) * rng.normal(3.2, 0.5, count))).astype(np.int64)
    requests = rng.integers(4, 25, count)
    return frames, around + requests + characters + model.tokens(frames) + 2


def efficiency(packs: list[Pack], tokens_N: np.ndarray, frames_N: np.ndarray, room: Room):
    """Shares of sequence positions and of mel frames that are not padding, (float, float)."""
    frames = len(packs) * room.audio_rows * room.frames
    return tokens_N.sum() / (len(packs) * room.tokens), frames_N.sum() / max(frames, 1)
