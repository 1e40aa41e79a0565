"""Answers while somebody speaks: interim text, and the final answer at each pause.

    for heard in model.live("growing.wav"):
        print(heard.segment.text, "" if heard.final else "...")

Notable choices
- A pause found by speech/vad.py ends an utterance; its final answer is the one that a recording of its
  samples would get.
- Interim text is computed anew from the beginning of the utterance, only when enough is new and no input is
  waiting: a model that falls behind skips it until it has caught up, and no sound is lost.

Legend: N samples at 16 kHz.
"""

import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.inference.engine import Engine
from mindspore_osum.inference.inquiry import ask, questions_about
from mindspore_osum.inference.request import Request, make_request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.results import Answer
from mindspore_osum.speech.audio import SAMPLE_RATE
from mindspore_osum.speech.detectors import check_detector, voice_activity
from mindspore_osum.speech.long import MAX_SECONDS, Chunk, check_max_seconds
from mindspore_osum.speech.vad import Span, VadSettings

_WAITING = 64  # pieces that are read ahead of the model
_END = object()


class Heard(NamedTuple):
    """An interim answer, or the `final` one of an utterance that has ended."""

    final: bool
    segment: Answer

    def to_dict(self) -> dict:
        """Plain values, as a line of JSON; an interim answer has text and times only."""
        s = self.segment
        values = {"final": self.final, "start": round(s.start, 3), "end": round(s.end, 3), "text": s.text}
        if self.final:
            names = ("tags", "labels", "words", "answer", "raw", "cut", "warnings")
            values |= {name: getattr(s, name) for name in names}
            sure = {"confidence": s.confidence, "word_confidence": s.word_confidence}
            values |= {name: value for name, value in sure.items() if value is not None}
        return values | ({"error": s.error} if s.error else {})


@dataclass(frozen=True)
class LiveSettings:
    """When answers are given; all times in seconds."""

    every: float = 1.0  # of new speech between two interim answers; 0: final answers only
    pause: float = 0.5  # ends an utterance
    max_seconds: float = MAX_SECONDS  # longest utterance; a longer one is split at its quietest moment
    vad: str = "energy"  # what finds the speech, one of speech.detectors.DETECTORS

    def __post_init__(self):
        check_max_seconds(self.max_seconds)
        check_detector(self.vad)
        if not 0 <= self.every < float("inf"):
            raise UserError(f"every {self.every}: must be 0 (finals only) or more seconds")
        if not 0.1 <= self.pause <= 5:
            raise UserError(f"pause {self.pause}: must be 0.1 to 5 seconds")

    @property
    def thresholds(self) -> VadSettings:
        """Thresholds that decide half a second sooner than those for recordings."""
        return VadSettings(
            min_silence=self.pause,
            pad=min(0.15, self.pause / 2),
            max_speech=self.max_seconds,
            ahead_seconds=0.5,
        )


class Live:
    """The answers of an engine to one stream.

    Parameters
    ----------
    requests : asked about each utterance (see `passes.plan`); interim answers are transcripts only, with the
        same hotwords.
    notes : warnings about the stream, which may grow; the next final answer takes them.
    """

    def __init__(
        self,
        engine: Engine,
        requests: Sequence[Request],
        settings: LiveSettings | None = None,
        sampling: Sampling | None = None,
        notes: list[str] | None = None,
    ):
        self.engine, self.requests, self.sampling = engine, list(requests), sampling
        self._notes = [] if notes is None else notes
        self.settings = settings or LiveSettings()
        self._vad = voice_activity(self.settings.vad, self.settings.thresholds)
        self._so_far = make_request("asr", hotwords=self.requests[0].hotwords)
        self._wave_N = np.empty(0, np.float32)  # what may still be needed,
        self._offset = 0  # from this sample on
        self._asked = 0  # sample up to which interim answers were asked for

    def push(self, wave_N: np.ndarray) -> Iterator[Heard]:
        """Take the next samples, float32 (N,); the utterances that have ended with them."""
        self._wave_N = np.concatenate([self._wave_N, wave_N])
        spans = self._vad.push(wave_N)
        for span in spans:
            yield self._final(span)
        settled = self._vad.settled
        self._wave_N = self._wave_N[max(0, settled - self._offset) :]
        self._offset = max(self._offset, settled)

    def so_far(self) -> Heard | None:
        """The utterance in progress, if it has enough new speech since the last time."""
        start, most = self._vad.begun, round(self.settings.max_seconds * SAMPLE_RATE)
        if start is None or not self.settings.every:
            return None
        # speech that is too long is split only once what follows is known: until then it exceeds the limit
        now = min(self._offset + len(self._wave_N), start + most)
        if now - max(self._asked, start) < self.settings.every * SAMPLE_RATE:
            return None
        self._asked = now
        return Heard(False, self._answer(Span(start, now), [self._so_far]))

    def flush(self) -> Iterator[Heard]:
        """The stream has ended; its last utterances."""
        for span in self._vad.flush():
            yield self._final(span)

    def _final(self, span: Span) -> Heard:
        answer = self._answer(span, self.requests)
        while self._notes:  # another thread may add to it
            answer.warnings.append(self._notes.pop(0))
        return Heard(True, answer)

    def _answer(self, span: Span, requests: list[Request]) -> Answer:
        wave_N = self._wave_N[span.start - self._offset : span.end - self._offset]
        questions = questions_about(Chunk(span.start / SAMPLE_RATE, wave_N), requests)
        ask(self.engine, questions, self.sampling)
        return questions[0].part.answer()


def listen(live: Live, waves: Iterable[np.ndarray], stop: threading.Event | None = None) -> Iterator[Heard]:
    """Everything heard in a stream of waveforms, which is read in a thread of its own.

    Parameters
    ----------
    stop : when it is set, the stream ends with what has been read.

    Raises
    ------
    UserError : what is wrong with the stream, after what was heard before.
    """
    read: queue.Queue = queue.Queue(_WAITING)
    stop = stop or threading.Event()
    problem: list[BaseException] = []
    threading.Thread(target=_read, args=(waves, read, stop, problem), daemon=True).start()
    try:
        while True:
            try:
                wave_N = read.get(timeout=0.1)
            except queue.Empty:
                wave_N = _END if stop.is_set() else None
            if wave_N is _END:
                break
            if wave_N is not None:
                yield from live.push(wave_N)
            if read.empty() and (heard := live.so_far()):
                yield heard
        yield from live.flush()
    finally:
        stop.set()
    if problem:
        raise problem[0]


def _read(waves: Iterable[np.ndarray], read: queue.Queue, stop: threading.Event, problem: list) -> None:
    """Fill the queue until the stream ends or the listener stops."""

    def put(item) -> None:
        while not stop.is_set():
            try:
                return read.put(item, timeout=0.1)
            except queue.Full:
                continue

    try:
        for wave_N in waves:
            put(wave_N)
            if stop.is_set():
                return
    except BaseException as error:  # handed to the thread that listens
        problem.append(error)
    put(_END)
