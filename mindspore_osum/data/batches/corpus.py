"""Corpora, scanned before training: which utterances are usable, and how long each is.

Notable choices
- Utterances that do not fit are found from headers and token counts, counted and listed; no audio is decoded.
- Each answer and each request is tokenized once for the whole corpus. The parts of a sequence are tokenized
  one by one (text/sequence.py), so its length is the sum of theirs, whichever request is drawn.
- Several lines of a manifest may refer to one recording: its header is read once.
"""

from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from mindspore_osum.data.augment import WaveAugment
from mindspore_osum.data.batches.batching import MIN_FRAMES, Shape, frames_of, recording_of
from mindspore_osum.data.batches.extractor import Extractor
from mindspore_osum.data.batches.indexed import take
from mindspore_osum.data.checks import UNUSABLE, Errors, LeftOut
from mindspore_osum.data.formats.manifest import Skipped, Utterance
from mindspore_osum.data.formats.sources import open_source
from mindspore_osum.data.formats.store import Utterances
from mindspore_osum.data.index.reading import Index, is_index
from mindspore_osum.errors import UserError


class Requests:
    """The distinct sets of requests that utterances draw from; each is measured on first use.

    Parameters
    ----------
    measure : request -> how many tokens longer it makes a sequence than an empty request.

    Attributes
    ----------
    sets : requests of each set, in which None is no request (spoken chat); None for a set of an index.
    tokens : for each set an int array: the measure of each of its requests.
    """

    def __init__(self, measure: Callable[[str | None], int]):
        self.sets: list[tuple[str | None, ...] | None] = []
        self.tokens: list[np.ndarray] = []
        self._numbers: dict[tuple[str | None, ...], int] = {}
        self._measure = lru_cache(maxsize=None)(measure)

    def number(self, requests: Sequence[str | None]) -> int:
        """The number of a set."""
        key = tuple(requests)
        if key not in self._numbers:
            self._numbers[key] = len(self.sets)
            self.sets.append(key)
            self.tokens.append(np.array([self._measure(text) for text in key]))
        return self._numbers[key]

    def measured(self, tokens: np.ndarray) -> int:
        """The number of a new set, of which an index has the measures."""
        self.sets.append(None)
        self.tokens.append(tokens)
        return len(self.sets) - 1

    def check(self, number: int, place: int, request: str | None, utt: Utterance) -> None:
        """UserError if the request at a place of a set is not the one that an index has measured."""
        if self._measure(request) != self.tokens[number][place]:
            raise UserError(
                f"{utt.where}: its request has {self._measure(request)} tokens, the index says "
                f"{self.tokens[number][place]}; build the index anew with this version (osum data index)"
            )


class Corpus:
    """Weighted manifests, scanned: the utterances that fit the largest shape, their buckets and label counts.

    Parameters
    ----------
    sources : (name, path, weight) of each manifest, shard, list of shards or index.
    extractor : makes the system's examples of utterances.
    errors : counts errors in the data, here and later, and ends the job when there are too many.
    wave : augmentation of the waveform; its slowest speed decides how long an utterance may become.
    reading : what the counts of an index depend on, for this job; see `Index.check`.

    Attributes
    ----------
    utterances, frames, buckets, labels : parallel lists over the usable utterances; frames are those of the
        features, at the slowest speed and with the encoder's padding; 0 without a recording.
    choices : number of each utterance's set in `requests`; parallel to these lists.
    others : sequence positions of each utterance with an empty request; parallel to these lists.
    parts : (first, last, weight) of each manifest in these lists.
    report : lines about what was left out.
    """

    def __init__(
        self,
        sources,
        extractor: Extractor,
        shapes: list[Shape],
        errors: Errors | None = None,
        wave: WaveAugment | None = None,
        reading: dict | None = None,
    ):
        self.extractor, self.model, self.shapes = extractor, extractor.model, shapes
        self.errors, self.wave = errors or Errors(), wave or WaveAugment()
        self.requests = Requests(extractor.request_tokens)
        self.utterances = Utterances()
        self.frames, self.buckets, self.labels, self.choices, self.others = (array("i") for _ in range(5))
        self.parts, self.report = [], []
        self._headers: dict[tuple, int] = {}  # mel frames of the recordings, before augmentation
        for name, path, weight in sources:
            first, self._heard = len(self.utterances), 0
            left_out = LeftOut()
            if is_index(path):
                index = Index(path)
                index.check(reading or {})
                self._heard = take(self, index, left_out)
            else:
                self._scan(path, left_out)
            self.parts.append((first, len(self.utterances), weight))
            self._tell(name, first, left_out)
        self._headers.clear()
        if not self.utterances:
            raise UserError("; ".join(self.report) + ": nothing is left to train on")

    def _scan(self, path, left_out: LeftOut) -> None:
        """Add the utterances of a source that is no index."""
        for item in open_source(path, whole=self.extractor.conversations):
            skipped = item if isinstance(item, Skipped) else self._add(item)
            if skipped:
                self.errors.take(skipped)
                left_out.add(skipped)

    def _add(self, utt: Utterance) -> Skipped | None:
        """Add the utterance, or return why it is left out."""
        try:
            frames = self._frames(utt)
            flaw = next(self.extractor.flaws(utt, self.model.features.seconds(frames)), None)
            reason = self._take(utt, frames) if flaw is None else None
        except UserError as error:
            flaw, reason = str(error), None
        if flaw:
            return Skipped(UNUSABLE, flaw)
        return Skipped(reason, f"{utt.where}: {utt.key}", False) if reason else None

    def _take(self, utt: Utterance, frames: int) -> str | None:
        """Add an utterance without flaws, or return why it does not fit."""
        if utt.wav is not None and frames < MIN_FRAMES:
            return self.too_short()
        heard, frames = frames, self.longest(utt.task, frames)
        if frames > self.shapes[-1].frames:
            return self.too_long()
        scanned = self.extractor.scan(utt)
        choice = self.requests.number(scanned.requests)
        if scanned.text + self.requests.tokens[choice].max() > self.shapes[-1].text_tokens:
            return self.too_many_tokens()
        self.utterances.append(utt)
        self._heard += heard
        self.frames.append(frames)
        self.buckets.append(next(i for i, shape in enumerate(self.shapes) if frames <= shape.frames))
        self.labels.append(scanned.labels)
        self.choices.append(choice)
        self.others.append(scanned.text + (self.model.tokens(frames) + 2 if utt.wav else 0))
        return None

    def _frames(self, utt: Utterance) -> int:
        """`frames_of`, opening each recording only once."""
        recording = recording_of(utt)
        if recording not in self._headers:
            self._headers[recording] = frames_of(utt, self.model.features)
        return self._headers[recording]

    def longest(self, task: str, frames: int) -> int:
        """Most mel frames that the features of a recording of `frames` can have; 0 without a recording."""
        return max(self.wave.longest(frames, task), self.model.features.padding) if frames else 0

    def too_short(self) -> str:
        """The reason why a recording is left out."""
        return f"shorter than {self.model.features.seconds(MIN_FRAMES)} s"

    def too_long(self) -> str:
        """The reason why a recording is left out."""
        return f"longer than {self.model.features.seconds(self.shapes[-1].frames)} s"

    def too_many_tokens(self) -> str:
        """The reason why a text is left out."""
        return f"more than {self.shapes[-1].text_tokens} text tokens"

    def request(self, number: int, place: int) -> str | None:
        """The request at a place of the set of an utterance; None is no request."""
        choice = self.choices[number]
        if (texts := self.requests.sets[choice]) is None:
            utt = self.utterances[number]
            texts = self.extractor.scan(utt).requests
            self.requests.check(choice, place, texts[place] if place < len(texts) else "", utt)
        return texts[place]

    def _tell(self, name: str, first: int, left_out: LeftOut) -> None:
        used = len(self.utterances) - first
        line = f"{name}: {used} utterances, {self.model.features.seconds(self._heard) / 3600:.2f} h"
        self.report.append(line + "".join(f"; {text}" for text in left_out.lines()))

    def choices_of(self, numbers_N: np.ndarray) -> np.ndarray:
        """How many requests each utterance draws from."""
        sets = np.array([len(tokens) for tokens in self.requests.tokens])
        return sets[np.asarray(self.choices)[numbers_N]]

    def sizes(self, numbers_N: np.ndarray, requests_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Sequence positions and speech tokens of utterances with the given requests of their sets."""
        sets_N = np.asarray(self.choices)[numbers_N]
        firsts = np.cumsum([0, *map(len, self.requests.tokens)])
        tokens = np.concatenate(self.requests.tokens)[firsts[sets_N] + requests_N]
        speech_N = self.model.tokens(np.asarray(self.frames)[numbers_N])
        return np.asarray(self.others)[numbers_N] + tokens, speech_N

    def weighted(self, rng) -> np.ndarray:
        """Utterance numbers of an epoch: integer weights repeat a manifest, fractions draw a random share."""
        chosen = []
        for first, last, weight in self.parts:
            numbers = np.arange(first, last)
            chosen += [numbers] * int(weight)
            share = round((weight - int(weight)) * len(numbers))
            chosen.append(rng.permutation(numbers)[:share])
        return np.concatenate(chosen)
