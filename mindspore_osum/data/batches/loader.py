"""Corpora as an endless, seeded sequence of training steps: step number -> batch, a pure function.

Notable choices
- The position is one integer, the step. Order and requests are drawn from (seed, epoch), augmentation from
  (seed, epoch, item): resuming is exact without saved state, and any process can compute any other's share.
- A step is a group of size x accumulation x ranks rows of one shape (data/batches/plan.py); ranks and
  micro-batches take their parts of it. Its label total is known beforehand, so the losses of the parts add up
  to the token mean of the whole group.
- Features may be cached in memory as float16 (6 h of audio take about 340 MB), once per recording, which
  several lines of a manifest may share.
- A recording that cannot be decoded (the scan reads only its header) is counted with the other errors of the
  data and reported, and its row stays empty. This depends on the file alone, so a resumed run has the same
  rows; the label total of the step still counts it.
"""

import logging
import math
import threading
from bisect import bisect_right, insort
from functools import lru_cache, partial

import numpy as np

from mindspore_osum.data.augment import Augment, NoiseError
from mindspore_osum.data.batches.batching import (
    STEP_COLUMNS,
    TARGETS,
    UTTERANCES,
    Shape,
    packed_batch,
    padded_batch,
    recording_of,
    step_columns,
)
from mindspore_osum.data.batches.corpus import Corpus
from mindspore_osum.data.batches.extractor import Example
from mindspore_osum.data.batches.packing import Pack, Room, room_for
from mindspore_osum.data.batches.plan import Epoch, in_buckets, in_packs
from mindspore_osum.data.checks import UNUSABLE
from mindspore_osum.data.formats.manifest import Skipped
from mindspore_osum.errors import Unreachable, UserError

_REQUESTS = 1  # after (seed, epoch): the generator of requests
_OTHERS = 1  # after (seed, epoch, item): that of other tasks' requests
_log = logging.getLogger(__name__)


class Loader:
    """Step number -> batches.

    Parameters
    ----------
    corpus : what to train on.
    seed : of order, requests and augmentation.
    accumulation : micro-batches per step.
    rank, ranks : this process and their number (data parallel).
    augment : None for validation.
    cache : keep features in memory as float16.
    pack : sequence positions of a packed row; 0 for one utterance per row.
    other_requests : share of the spoken examples that get another task's request; only the content of their
        answers is a target.

    Attributes
    ----------
    columns : names of a batch's arrays, in the order of the network's inputs.
    room : the capacity of a pack, chosen for the corpus; None without packing.
    spoken : numbers of the utterances with a recording.
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
        pack: int = 0,
        other_requests: float = 0.0,
    ):
        self.corpus, self.seed, self.augment = corpus, seed, augment
        self.accumulation, self.rank, self.ranks = accumulation, rank, ranks
        self.other_requests = other_requests
        self.columns = (*(column.name for column in corpus.extractor.columns), *STEP_COLUMNS)
        self.spoken = np.flatnonzero(np.asarray(corpus.frames))
        self.groups = [shape.size * accumulation * ranks for shape in corpus.shapes]
        self.room: Room | None = None
        if pack:
            numbers = np.arange(len(corpus.utterances))
            tokens_N, speech_N = corpus.sizes(numbers, self._draw(numbers, 0))
            self.room = room_for(corpus.model, tokens_N, speech_N, pack)
        self.plan = lru_cache(maxsize=2)(self._plan)  # two: the dataset's thread may be an epoch ahead
        self._begins, self._lock = [(0, 0)], threading.Lock()  # known (first step, epoch)
        self.steps_per_epoch = len(self.plan(0).steps)  # of the first; weights and packs may change it
        self.cache: dict[tuple, np.ndarray] | None = {} if cache else None  # by recording
        self.broken: set[int] = set()  # numbers of utterances whose recording cannot be decoded

    def _draw(self, numbers_N: np.ndarray, epoch: int) -> np.ndarray:
        """A request for each item: its index in the set that the utterance draws from."""
        chance_N = np.random.default_rng([self.seed, epoch, _REQUESTS]).random(len(numbers_N))
        return (chance_N * self.corpus.choices_of(numbers_N)).astype(np.int64)

    def _plan(self, epoch: int) -> Epoch:
        corpus, rng = self.corpus, np.random.default_rng([self.seed, epoch])
        numbers_N = rng.permutation(corpus.weighted(rng))
        if not len(numbers_N):
            raise UserError("data.train: the weights leave no utterance in an epoch; raise them")
        requests_N = self._draw(numbers_N, epoch)
        if self.room:
            steps = in_packs(*corpus.sizes(numbers_N, requests_N), self.room, self.groups[0])
        else:
            steps = in_buckets(np.asarray(corpus.buckets)[numbers_N], self.groups, rng)
        return Epoch(numbers_N, requests_N, steps)

    def report(self) -> str:
        """A line about the shapes and how much of them the first epoch fills."""
        plan, shapes = self.plan(0), self.corpus.shapes
        tokens_N, _ = self.corpus.sizes(plan.numbers_N, plan.requests_N)
        if self.room:
            r = self.room
            row = r.tokens, r.audio_rows * r.frames
            what = f"packs of {r.tokens} positions and {r.audio_rows} x {r.frames} mel frames"
            room = sum(len(rows) for _, rows in plan.steps) * np.array(row)
        else:
            what = "batches of " + ", ".join(f"{s.size} x {s.frames} mel frames" for s in shapes)
            room = sum(len(rows) * np.array([shapes[k].length, shapes[k].frames]) for k, rows in plan.steps)
        used = tokens_N.sum(), np.asarray(self.corpus.frames)[plan.numbers_N].sum()
        return (
            f"{what}; {used[0] / room[0]:.1%} of positions and {used[1] / room[1]:.1%} of frames in use, "
            f"{len(plan.steps)} steps an epoch"
        )

    def position(self, step: int) -> tuple[int, int]:
        """(epoch, index in the epoch) of a step."""
        with self._lock:
            first, epoch = self._begins[bisect_right(self._begins, (step, math.inf)) - 1]
            while step >= first + len(self.plan(epoch).steps):
                first, epoch = first + len(self.plan(epoch).steps), epoch + 1
                insort(self._begins, (first, epoch))
        return epoch, step - first

    def resume_at(self, step: int, epoch: int, place: int) -> None:
        """Store a `position` of an earlier run, so that earlier epochs need not be planned again."""
        with self._lock:
            insort(self._begins, (step - place, epoch))

    def rows(self, step: int) -> tuple[Epoch, Shape, list[Pack]]:
        """The epoch, the shape and the rows of a step, over all ranks and micro-batches."""
        epoch, place = self.position(step)
        plan = self.plan(epoch)
        shape, rows = plan.rows(place)
        return plan, self.corpus.shapes[shape], rows

    def numbers(self, step: int) -> list[int]:
        """Numbers of all utterances of a step."""
        plan, _, rows = self.rows(step)
        return [int(plan.numbers_N[i]) for row in rows for i in row.items]

    def keys(self, step: int) -> list[str]:
        """Keys of all utterances of a step."""
        return [self.corpus.utterances[n].key for n in self.numbers(step)]

    def counts(self, step: int) -> dict[str, int]:
        """Utterances and labels of a step, by the names of the columns that hold their shares."""
        numbers = self.numbers(step)
        return {UTTERANCES: len(numbers), TARGETS: sum(self.corpus.labels[n] for n in numbers)}

    def micro_batch(self, step: int, micro: int) -> dict[str, np.ndarray]:
        """This rank's arrays of one micro-batch by name, in the order of `columns`."""
        epoch, _ = self.position(step)
        _, shape, rows = self.rows(step)
        first = (micro * self.ranks + self.rank) * shape.size
        shares = [n / (self.accumulation * self.ranks) for n in self.counts(step).values()]
        examples, starts = [], []
        for row in rows[first : first + shape.size]:
            found = [(self.example(epoch, i), start) for i, start in zip(row.items, row.starts, strict=True)]
            found = [pair for pair in found if pair[0] is not None]
            examples.append([example for example, _ in found])
            starts.append([start for _, start in found])
        declared = self.corpus.extractor.columns, self.corpus.extractor.sizes
        if self.room:
            batch = packed_batch(*declared, self.room, shape.text_tokens, examples, starts)
        else:
            batch = padded_batch(*declared, shape, [row[0] if row else None for row in examples])
        return batch | step_columns(shape.size, step * len(rows) + first, *shares)

    def example(self, epoch: int, item: int) -> Example | None:
        """The model's inputs for an item of an epoch; None if its recording cannot be decoded."""
        corpus, plan = self.corpus, self.plan(epoch)
        number = int(plan.numbers_N[item])
        utt, rng = corpus.utterances[number], np.random.default_rng([self.seed, epoch, item])
        request = corpus.request(number, int(plan.requests_N[item]))
        mel_TF = None
        if utt.wav is not None:
            try:
                mel_TF = self.mel(number, rng)
            except NoiseError:  # ends the job: other utterances would need the same file
                raise
            except UserError as error:
                self._leave_out(number, error)
                return None
            if self.augment:
                self.augment.change_mel(mel_TF, rng)
        other = self._other_request(plan, epoch, item) if self.other_requests else None
        if other is None:
            return corpus.extractor.example(utt, request, mel_TF)
        return corpus.extractor.example(utt, other, mel_TF, content_only=True)

    def _other_request(self, plan: Epoch, epoch: int, item: int) -> str | None:
        """The request of another spoken utterance, to replace the item's own; None for most items.

        A request longer than the item's capacity (in a pack: longer than its own request) is not used.
        """
        corpus, number, own = self.corpus, int(plan.numbers_N[item]), int(plan.requests_N[item])
        # spoken chat has no request; an utterance with its own question needs exactly that question
        fixed = not corpus.request(number, own) or corpus.extractor.brings_request(corpus.utterances[number])
        if fixed or not corpus.frames[number]:
            return None
        rng = np.random.default_rng([self.seed, epoch, item, _OTHERS])
        if rng.random() >= self.other_requests:
            return None
        other = int(rng.choice(self.spoken))
        tokens = corpus.requests.tokens[corpus.choices[other]]
        place = int(rng.integers(len(tokens)))
        room = corpus.requests.tokens[corpus.choices[number]][own]
        if not self.room:
            room = corpus.shapes[corpus.buckets[number]].length - corpus.others[number]
        return corpus.request(other, place) if tokens[place] <= room else None

    def _leave_out(self, number: int, error: UserError) -> None:
        """Count and report an unusable utterance once; UserError if there are now too many."""
        if number not in self.broken:
            self.corpus.errors.take(Skipped(UNUSABLE, str(error)))
            self.broken.add(number)
            _log.warning("left out: %s", error)

    def mel(self, number: int, rng: np.random.Generator | None = None) -> np.ndarray:
        """A fresh (T, F) float32 array of an utterance's features; `rng` for changes of the waveform."""
        utt = self.corpus.utterances[number]
        change = None
        if self.augment and self.augment.wave.active:
            change = partial(self.augment.change_wave, rng=rng, task=utt.task)
        recording = recording_of(utt)
        if self.cache is not None and recording in self.cache:
            return self.cache[recording].astype(np.float32)
        mel_TF = self.corpus.extractor.features(utt, change)
        room = self.corpus.shapes[self.corpus.buckets[number]].frames
        if self.room:  # in a pack the next recording begins at the scanned length
            model = self.corpus.model
            room = model.tokens(self.corpus.frames[number]) * model.frames_per_token
        if len(mel_TF) > room:
            raise UserError(
                f"{utt.where}: {utt.wav} has {len(mel_TF)} frames, its header said {room}: "
                "the file changed or its header is wrong, export it again"
            )
        if self.cache is not None:
            # use the rounded features on the first pass, too: a resumed run must see the same numbers
            self.cache[recording] = mel_TF.astype(np.float16)
            return self.cache[recording].astype(np.float32)
        return mel_TF


class Steps:
    """Random access for GeneratorDataset: the micro-batches of steps [first, last), in order."""

    def __init__(self, loader: Loader, first: int, last: int):
        self.loader, self.first, self.last = loader, first, last
        self.error: Exception | None = None  # the error of a worker; the dataset itself passes on only text

    def __len__(self) -> int:
        return (self.last - self.first) * self.loader.accumulation

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        step, micro = divmod(int(index), self.loader.accumulation)
        try:
            return tuple(self.loader.micro_batch(self.first + step, micro).values())
        except (UserError, Unreachable) as error:
            self.error = error
            raise


def generator_dataset(steps: Steps, ahead: int = 4):
    """A MindSpore dataset over `steps`, computed `ahead` batches ahead in a thread."""
    import mindspore.dataset as ds

    ds.config.set_prefetch_size(ahead)
    # one thread keeps the batches in order; numpy takes far less time per step than the network
    return ds.GeneratorDataset(
        steps,
        list(steps.loader.columns),
        shuffle=False,
        num_parallel_workers=1,
        python_multiprocessing=False,
    )
