"""Corpora as an endless, seeded sequence of training steps: step number -> batch, a pure function.

Notable choices
- Position is one integer, the step: order, request and augmentation are drawn from (seed, epoch) or (seed,
  step, row), so resuming is exact and needs no saved state, and any process can compute any other's share.
- A step is a group of size x accumulation x ranks utterances of one length bucket; ranks and micro-batches
  take their parts of it. Its label total is known beforehand, so that the parts add up to the token mean of
  the whole group.
- Utterances that do not fit are found from headers and token counts before training, counted and listed.
- Features may be kept in memory as float16 (a corpus of 6 h takes about 340 MB).
"""

from collections import Counter
from functools import lru_cache

import numpy as np

from mindspore_osum.data.augment import Augment, spec_augment
from mindspore_osum.data.batching import (
    COLUMNS,
    EMPTY,
    Shape,
    features,
    frames_of,
    label_count,
    speech_tokens,
    stack_batch,
)
from mindspore_osum.data.manifest import Utterance, read_manifest
from mindspore_osum.data.texts import Texts
from mindspore_osum.errors import UserError

NOBODY = -1  # number of an empty row
MIN_FRAMES = 20  # shorter recordings are noise (published filter)


class Corpus:
    """Weighted manifests, scanned: what fits the largest shape, its bucket and its label count.

    Parameters
    ----------
    sources : (name, path, weight) of each manifest.
    ctc : what the CTC loss reads, "encoder" or "adapter"; "" without one.

    Attributes
    ----------
    utterances, frames, buckets, labels : parallel lists over what can be used.
    parts : (first, last, weight) of each manifest in them.
    report : lines about what was left out.
    """

    def __init__(
        self, sources, texts: Texts, shapes: list[Shape], encoder, ctc: str = "", strict: bool = False
    ):
        self.texts, self.shapes, self.encoder, self.ctc = texts, shapes, encoder, ctc
        self.utterances: list[Utterance] = []
        self.frames, self.buckets, self.labels = [], [], []
        self.parts, self.report = [], []
        for name, path, weight in sources:
            first = len(self.utterances)
            utterances, problems = read_manifest(path, strict)
            left_out = [("malformed", p) for p in problems]
            for utt in utterances:
                reason = self._add(utt)
                if reason:
                    left_out.append((reason, f"{utt.where}: {utt.key}"))
            self.parts.append((first, len(self.utterances), weight))
            self._tell(name, first, left_out)
        if not self.utterances:
            raise UserError("; ".join(self.report) + ": nothing is left to train on")

    def _add(self, utt: Utterance) -> str | None:
        """Take the utterance, or say why not."""
        frames = frames_of(utt, self.encoder.pad_to_seconds)
        if utt.wav is not None and frames < MIN_FRAMES:
            return f"shorter than {MIN_FRAMES / 100} s"
        if frames > self.shapes[-1].frames:
            return f"longer than {self.shapes[-1].frames / 100} s"
        n_speech = speech_tokens(frames) if utt.wav else None
        sequences = [self.texts.sequence(utt, request, n_speech) for request in self.texts.requests(utt)]
        beside = max(map(len, sequences)) - (n_speech + 2 if n_speech else 0)
        if beside > self.shapes[-1].text_tokens:
            return f"more than {self.shapes[-1].text_tokens} text tokens"
        self.utterances.append(utt)
        self.frames.append(frames)
        self.buckets.append(next(i for i, shape in enumerate(self.shapes) if frames <= shape.frames))
        self.labels.append(label_count(sequences[0]))
        return None

    def _tell(self, name: str, first: int, left_out: list) -> None:
        used = len(self.utterances) - first
        hours = sum(self.frames[first:]) / 360000
        line = f"{name}: {used} utterances, {hours:.2f} h"
        for reason, count in Counter(reason for reason, _ in left_out).items():
            example = next(text for r, text in left_out if r == reason)
            line += f"; {count} left out, {reason} (first: {example})"
        self.report.append(line)

    def ctc_frames(self, frames: int) -> int:
        """Steps the CTC loss has for an utterance of so many mel frames."""
        return speech_tokens(frames) if self.ctc == "adapter" else (frames + 1) // 2

    def weighted(self, rng) -> np.ndarray:
        """Utterance numbers of one epoch: whole weights repeat a manifest, fractions take a random share."""
        chosen = []
        for first, last, weight in self.parts:
            numbers = np.arange(first, last)
            chosen += [numbers] * int(weight)
            share = round((weight - int(weight)) * len(numbers))
            chosen.append(rng.permutation(numbers)[:share])
        return np.concatenate(chosen)


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
        self.cache: dict[int, np.ndarray] | None = {} if cache else None

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
            mel_TF = self.mel(number)
            if self.augment:
                a = self.augment
                spec_augment(mel_TF, rng, a.time_masks, a.time_max, a.freq_masks, a.freq_max)
        n_speech = speech_tokens(len(mel_TF)) if mel_TF is not None else None
        ids = corpus.texts.ctc_ids(utt) if corpus.ctc else []
        if ids and needed_frames(ids) > corpus.ctc_frames(len(mel_TF)):
            ids = []  # spoken too fast to be aligned: no path exists, the loss would be infinite
        return mel_TF, corpus.texts.sequence(utt, request, n_speech), ids

    def mel(self, number: int) -> np.ndarray:
        """A fresh (T, F) float32 array of an utterance's features."""
        if self.cache is not None and number in self.cache:
            return self.cache[number].astype(np.float32)
        encoder, utt = self.corpus.encoder, self.corpus.utterances[number]
        mel_TF = features(utt, encoder.n_mels, encoder.pad_to_seconds)
        room = self.corpus.shapes[self.corpus.buckets[number]].frames
        if len(mel_TF) > room:
            raise UserError(f"{utt.where}: {utt.wav} has {len(mel_TF)} frames, its header said {room}: "
                            "the file changed or its header is wrong, export it again")
        if self.cache is not None:
            # the rounded features are used the first time too: a resumed run must see the same numbers
            self.cache[number] = mel_TF.astype(np.float16)
            return self.cache[number].astype(np.float32)
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
