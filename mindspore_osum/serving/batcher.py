"""One thread owns the model; concurrent requests are answered in batches over its static graphs.

Notable choices
- The unit of work is a chunk, not a recording: every turn takes one chunk of each waiting recording, then
  more until the batch is full. So a recording of an hour delays others by at most one batch.
- When nothing is being answered, the first job waits a few milliseconds for others to share its batch.
- A streamed answer is computed alone, chunk by chunk, in turn with the batches.
- A recording is decoded chunk by chunk too; only the next one is held in memory.

Legend: N samples at 16 kHz.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from mindspore_osum.errors import UserError
from mindspore_osum.inference.inquiry import Inquiry, Question, ask, stream
from mindspore_osum.inference.request import Request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.serving.metrics import Metrics
from mindspore_osum.speech.audio import duration_seconds

log = logging.getLogger(__name__)


@dataclass
class Job:
    """A recording, or words alone, and what is asked.

    Attributes
    ----------
    audio : the bytes of a recording in any format `load_audio` reads; None where `request` is of words alone.
    gate : whether the model is spared a recording without speech, however short.
    on_piece : called by the model's thread with pieces of the answer while it is written; joined they are
        ``response.raw``. Without it the answer comes as a whole.
    future : the `Response`, or a UserError. Cancelling it drops the job.
    """

    audio: bytes | None
    request: Request
    sampling: Sampling
    on_piece: Callable[[str], None] | None = None
    gate: bool = False
    future: Future = field(default_factory=Future)


class _Case:
    """A job in progress; `question` is its next one, None after the last."""

    def __init__(self, job: Job, chunk_seconds: float, audio_seconds: float):
        if job.audio is not None and (seconds := duration_seconds(job.audio)) > audio_seconds:
            raise _too_long(f"{seconds:.2f} s", audio_seconds)
        self._most = audio_seconds
        self.job, self.inquiry = job, Inquiry(job.audio, [job.request], chunk_seconds, gate=job.gate)
        self._questions = self.inquiry.questions()
        self.question = self._next()

    def take(self) -> Question:
        question, self.question = self.question, self._next()
        return question

    def _next(self) -> Question | None:
        question = next(self._questions, None)
        if question and question.part.end > self._most + 1.0:  # a header may say less than there is
            raise _too_long("more", self._most)
        return question


def _too_long(found: str, most: float) -> UserError:
    return UserError(f"{found} of audio, this server takes at most {most:g} s; split it")


@dataclass(frozen=True)
class Stage:
    """What is done before the model answers; `total` steps, 0 where they cannot be counted."""

    name: str
    done: int = 0
    total: int = 0

    def __str__(self) -> str:
        return f"{self.name}, {self.done} of {self.total}" if self.total else self.name


class Stopped(Exception):
    """The batcher was stopped before it was ready."""


class Batcher:
    """Answers jobs until it is stopped.

    Parameters
    ----------
    load : makes the `Engine`, in the thread that will own it; it is given what to call with each `Stage`.
    batch_size : chunks computed together.
    wait_s : how long the first of several jobs waits for others, in seconds.
    chunk_seconds : longer recordings are split at pauses into chunks up to this length (1 to 60 s).
    audio_seconds : longer recordings are refused.

    Attributes
    ----------
    loaded : the engine when the model is ready, or what `load` raised.
    stage : what is done before that; None when the model is ready.
    """

    def __init__(
        self,
        load: Callable[[Callable[[Stage], None]], Any],
        metrics: Metrics,
        *,
        batch_size: int = 8,
        wait_s: float = 0.005,
        chunk_seconds: float = 30.0,
        audio_seconds: float = 7200.0,
    ):
        self.metrics, self.batch_size, self.wait_s = metrics, batch_size, wait_s
        self.lengths = chunk_seconds, audio_seconds
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._cases: deque[_Case] = deque()
        self.loaded: Future = Future()
        self.stage: Stage | None = Stage("loading the model")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(load,), daemon=True)
        self._thread.start()

    @property
    def engine(self):
        """The engine, when the model is ready."""
        return self.loaded.result()

    @property
    def alive(self) -> bool:
        """Whether jobs are answered, or will be when the model is ready."""
        return self._thread.is_alive()

    def submit(self, job: Job) -> None:
        """Queue a job; see `Job.future`."""
        self._inbox.put(job)

    def stop(self, seconds: float | None = None) -> bool:
        """Finish the batch, or the stage, that is computed now, drop all jobs, and end the thread.

        Returns
        -------
        Whether it has ended within these seconds; None: they do not matter.
        """
        self._stopping.set()
        self._inbox.put(None)
        self._thread.join(seconds)
        return not self.alive

    def _work(self, load: Callable) -> None:
        try:
            engine = load(self._enter)
        except BaseException as error:
            self.loaded.set_exception(error)
            return
        self._count(engine, [], 0.0)  # graphs that were compiled in advance
        self.stage = None
        self.loaded.set_result(engine)
        while self._admit():
            self._turn(engine)
        for case in self._cases:
            case.job.future.cancel()

    def _enter(self, stage: Stage) -> None:
        if self._stopping.is_set():
            raise Stopped
        self.stage = stage

    def _admit(self) -> bool:
        """Take new jobs, waiting for one if there is nothing to do; False means stop."""
        wait, until = (0.0 if self._cases else None), None
        while True:
            try:
                job = self._inbox.get(timeout=wait)
            except queue.Empty:
                return True
            if job is None:
                return False
            self._open(job)
            if until is None and wait is None and self._cases:
                until = time.monotonic() + self.wait_s
            if self._cases:
                full = until is None or len(self._cases) >= self.batch_size
                wait = 0.0 if full else max(0.0, until - time.monotonic())

    def _open(self, job: Job) -> None:
        try:
            case = _Case(job, *self.lengths)
        except Exception as error:
            _fail(job, error)
            return
        self._cases.append(case)
        self._close(case)

    def _close(self, case: _Case) -> None:
        """Hand out the response if it is complete."""
        if case.question is None and case in self._cases:
            self._cases.remove(case)
            if case.job.future.set_running_or_notify_cancel():
                case.job.future.set_result(case.inquiry.response())

    def _turn(self, engine) -> None:
        """Compute one batch, or one chunk of a streamed answer."""
        for case in [case for case in self._cases if case.job.future.cancelled()]:
            self._cases.remove(case)
        if not self._cases:
            return
        lead, start = self._cases[0], time.perf_counter()
        self._cases.rotate(-1)
        taken = self._gather(lead)
        try:
            if lead.job.on_piece:
                self._stream(engine, taken)
            else:
                self._batch(engine, taken)
        except Exception as error:  # a bug must end neither the thread nor other jobs
            for case, _ in taken:
                self._give_up(case, error)
        for case, _ in taken:
            self._close(case)
        self._count(engine, [question for _, question in taken], time.perf_counter() - start)

    def _gather(self, lead: _Case) -> list[tuple[_Case, Question]]:
        """The chunks of a batch: one of each case that may share it, then more until it is full."""
        cases, most, taken = [lead], 1, []
        if not lead.job.on_piece:
            others = (c for c in self._cases if not c.job.on_piece and c.job.sampling == lead.job.sampling)
            cases, most = [lead, *(case for case in others if case is not lead)], self.batch_size
        while len(taken) < most and (ready := [c for c in cases if c in self._cases and c.question]):
            for case in ready[: most - len(taken)]:
                try:
                    taken.append((case, case.take()))
                except Exception as error:  # reading on fails: a damaged recording, or a bug
                    self._give_up(case, error)
        return [(case, question) for case, question in taken if case in self._cases]

    def _give_up(self, case: _Case, error: Exception) -> None:
        if case in self._cases:
            self._cases.remove(case)
            _fail(case.job, error)

    def _batch(self, engine, taken: list[tuple[_Case, Question]]) -> None:
        if not taken:
            return
        ask(engine, [question for _, question in taken], taken[0][0].job.sampling, self.batch_size)
        for case, question in taken:
            if error := question.part.answer().error:
                self._give_up(case, UserError(error))

    def _stream(self, engine, taken: list[tuple[_Case, Question]]) -> None:
        for case, question in taken:
            job, pieces = case.job, stream(engine, question, case.job.sampling)
            if question.part is not case.inquiry.parts[0]:
                job.on_piece("\n")
            while not job.future.cancelled() and (piece := next(pieces, None)) is not None:
                job.on_piece(piece)
            pieces.close()

    def _count(self, engine, rows: list[Question], seconds: float) -> None:
        for name, value in (
            ("osum_batches_total", bool(rows)),
            ("osum_batch_rows_total", len(rows)),
            ("osum_audio_seconds_total", sum(question.part.seconds for question in rows)),
            ("osum_compute_seconds_total", seconds),
        ):
            self.metrics.add(name, value)
        self.metrics.put("osum_compiled_graphs", engine.generator.compiles)
        self.metrics.put("osum_compile_seconds_total", engine.generator.compile_seconds)


def _fail(job: Job, error: Exception) -> None:
    if not isinstance(error, UserError):
        log.error("an answer failed", exc_info=error)
    if job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)
