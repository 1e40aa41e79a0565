"""Corpora as an endless, seeded sequence of training steps: step number -> batch, a pure function.

Notable choices
- Position is one integer, the step: order, request and augmentation are drawn from (seed, epoch) or (seed,
  step, row), so resuming is exact and needs no saved state, and any process can compute any other's share.
- A step is a group of size x accumulation x ranks utterances of one length bucket; ranks and micro-batches
  take their parts of it. Its label total is known beforehand, so that the parts add up to the token mean of
  the whole group.
- Features may be kept in memory as float16 (a corpus of 6 h takes about 340 MB), once for each recording:
  several lines of a manifest may ask different things of it.
- A recording that cannot be decoded (its header was read in the scan) is counted with the other errors of the
  data, told, and its row stays empty. That follows from the file alone, so a resumed run has the same rows; the
  label total of the step still counts it.
"""

import logging
from functools import lru_cache, partial

import numpy as np

from mindspore_osum.data.augment import Augment
from mindspore_osum.data.batching import (
    COLUMNS,
    EMPTY,
    Shape,
    features,
    recording_of,
    speech_tokens,
    stack_batch,
)
from mindspore_osum.data.checks import UNUSABLE
from mindspore_osum.data.corpus import Corpus
from mindspore_osum.data.manifest import Skipped
from mindspore_osum.errors import UserError

NOBODY = -1  # number of an empty row
_log = logging.getLogger(__name__)


class Loader:
    """Step number -> batches.

    Parameters
    ----------
    corpus : what to train on.
    seed : of order, requests and augmentation.
    accumulation : micro-batches a step.
    rank, ranks : this process and their number (data parallel).
    augment : None for validation.
    cache : keep features in memory as float16.
    """

    def __init__(
        self,
        corpus: Corpus,
        seed: int,
        accumulation: int = 1,
        rank: int = 0,
        ranks: int = 1,
        augment: Augment | None = None,
        cache: bool = False,
    ):
        self.corpus, self.seed, self.augment = corpus, seed, augment
        self.accumulation, self.rank, self.ranks = accumulation, rank, ranks
        self.group = corpus.shapes[0].size * accumulation * ranks
        self.plan = lru_cache(maxsize=2)(self._plan)  # two: the dataset's thread may be an epoch ahead
        self.steps_per_epoch = len(self.plan(0))
        self.cache: dict[tuple, np.ndarray] | None = {} if cache else None  # by recording
        self.broken: set[int] = set()  # numbers of utterances whose recording cannot be decoded

    def _plan(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        """(bucket, utterance numbers of the group) of every step of an epoch.

        What does not fill a group of its bucket moves up to the next longer one; the last group of all is
        filled up with NOBODY, empty rows.
        """
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(self.corpus.weighted(rng))
        if not len(order):
            raise UserError("data.train: the weights leave no utterance in an epoch; raise them")
        buckets = np.asarray(self.corpus.buckets)[order]
        groups, rest = [], order[:0]
        for bucket in range(len(self.corpus.shapes)):
            pool = np.concatenate([rest, order[buckets == bucket]])
            full = len(pool) // self.group * self.group
            groups += [(bucket, part) for part in pool[:full].reshape(-1, self.group)]
            rest = pool[full:]
        if len(rest):
            nobody = np.full(self.group - len(rest), NOBODY)
            groups.append((len(self.corpus.shapes) - 1, np.concatenate([rest, nobody])))
        return [groups[i] for i in rng.permutation(len(groups))]

    def position(self, step: int) -> tuple[int, int]:
        """(epoch, place in it) of a step."""
        return divmod(step, self.steps_per_epoch)

    def numbers(self, step: int) -> tuple[Shape, np.ndarray]:
        """The shape and all utterance numbers (or NOBODY) of a step, over all ranks and micro-batches."""
        epoch, place = self.position(step)
        bucket, group = self.plan(epoch)[place]
        return self.corpus.shapes[bucket], group

    def keys(self, step: int) -> list[str]:
        """Keys of all utterances of a step."""
        return [self.corpus.utterances[n].key for n in self.numbers(step)[1] if n != NOBODY]

    def counts(self, step: int) -> tuple[int, int]:
        """Utterances and labels of a step."""
        real = [n for n in self.numbers(step)[1] if n != NOBODY]
        return len(real), sum(self.corpus.labels[n] for n in real)

    def micro_batch(self, step: int, micro: int) -> tuple[np.ndarray, ...]:
        """This rank's arrays of one micro-batch, in the order of COLUMNS."""
        shape, group = self.numbers(step)
        first = (micro * self.ranks + self.rank) * shape.size
        targets = self.counts(step)[1] / (self.accumulation * self.ranks)
        rows = [self.example(int(group[row]), step, row) for row in range(first, first + shape.size)]
        return stack_batch(shape, self.corpus.encoder.n_mels, *zip(*rows, strict=True), targets)

    def example(self, number: int, step: int, row: int):
        """(mel or None, sequence, CTC ids) of one utterance as row `row` of a step."""
        corpus = self.corpus
        if number == NOBODY:
            return None, EMPTY, []
        utt, rng = corpus.utterances[number], np.random.default_rng([self.seed, step, row])
        requests = corpus.texts.requests(utt)
        request = requests[rng.integers(len(requests))]
        mel_TF = None
        if utt.wav is not None:
            try:
                mel_TF = self.mel(number, rng)
            except UserError as error:
                self._leave_out(number, error)
                return None, EMPTY, []
            if self.augment:
                self.augment.change_mel(mel_TF, rng)
        n_speech = speech_tokens(len(mel_TF)) if mel_TF is not None else None
        ids = corpus.texts.ctc_ids(utt) if corpus.ctc else []
        if ids and needed_frames(ids) > corpus.ctc_frames(len(mel_TF)):
            ids = []  # spoken too fast to be aligned: no path exists, the loss would be infinite
        return mel_TF, corpus.texts.sequence(utt, request, n_speech), ids

    def _leave_out(self, number: int, error: UserError) -> None:
        """Count and tell an utterance that cannot be used, once; UserError if that was one too many."""
        if number not in self.broken:
            self.corpus.errors.take(Skipped(UNUSABLE, str(error)))
            self.broken.add(number)
            _log.warning("left out: %s", error)

    def mel(self, number: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """A fresh (T, F) float32 array of an utterance's features; `rng` for changes of the waveform."""
        encoder, utt = self.corpus.encoder, self.corpus.utterances[number]
        change = None
        if self.augment and self.augment.wave.active:
            change = partial(self.augment.change_wave, rng=rng, task=utt.task)
        recording = recording_of(utt)
        if self.cache is not None and recording in self.cache:
            return self.cache[recording].astype(np.float32)
        mel_TF = features(utt, encoder.n_mels, encoder.pad_to_seconds, change)
        room = self.corpus.shapes[self.corpus.buckets[number]].frames
        if len(mel_TF) > room:
            raise UserError(f"{utt.where}: {utt.wav} has {len(mel_TF)} frames, its header said {room}: "
                            "the file changed or its header is wrong, export it again")
        if self.cache is not None:
            # the rounded features are used the first time too: a resumed run must see the same numbers
            self.cache[recording] = mel_TF.astype(np.float16)
            return self.cache[recording].astype(np.float32)
        return mel_TF


def needed_frames(ids: list[int]) -> int:
    """Frames the shortest CTC path of a label takes: one each, and a blank between equal neighbours."""
    return len(ids) + sum(a == b for a, b in zip(ids, ids[1:], strict=False))


class Steps:
    """Random access for GeneratorDataset: the micro-batches of steps [first, last), in order."""

    def __init__(self, loader: Loader, first: int, last: int):
        self.loader, self.first, self.last = loader, first, last
        self.error: UserError | None = None  # what stopped a worker; the dataset only passes text on

    def __len__(self) -> int:
        return (self.last - self.first) * self.loader.accumulation

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        step, micro = divmod(int(index), self.loader.accumulation)
        try:
            return self.loader.micro_batch(self.first + step, micro)
        except UserError as error:
            self.error = error
            raise


def generator_dataset(steps: Steps, ahead: int = 4):
    """A MindSpore dataset over `steps`, computed `ahead` batches ahead in a thread."""
    import mindspore.dataset as ds

    ds.config.set_prefetch_size(ahead)
    # one thread: batches stay in order, and numpy's share of a step is far below the network's
    return ds.GeneratorDataset(
        steps, list(COLUMNS), shuffle=False, num_parallel_workers=1, python_multiprocessing=False
    )
