"""Putting the questions of an evaluation to a model, batch by batch."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from mindspore_osum.data.batching import frames_of
from mindspore_osum.data.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.evaluation.predictions import Place, Prediction, append_predictions
from mindspore_osum.evaluation.requests import FIXED


@dataclass(frozen=True)
class Question:
    """One answer to get; `request` is what the model is asked in words, or the task's tags."""

    utterance: Utterance
    prompts: str
    request: str

    @property
    def place(self) -> Place:
        """What the question is of."""
        return self.prompts, self.utterance.key

    @property
    def how(self) -> dict[str, str]:
        """Arguments for `Engine.answer`."""
        return {"task": self.utterance.task} if self.prompts == FIXED else {"instruction": self.request}


def answer_all(
    engine, questions: Sequence[Question], folder: Path, batch_size: int, sampling,
    progress: Callable[[str], None],
) -> tuple[list[Prediction], dict[Place, str]]:
    """Answer the questions; each batch's answers are in the folder's predictions before the next one begins.

    Returns
    -------
    The answers, and why those that are missing could not be given.
    """
    done, failed, start = [], {}, time.perf_counter()
    for batch in _batches(questions, batch_size):
        sources = [q.utterance for q in batch]
        results = engine.answer(sources, **batch[0].how, sampling=sampling, batch_size=batch_size)
        answers = []
        for question, result in zip(batch, results, strict=True):
            if result.error:
                failed[question.place] = result.error
            else:
                answers.append(_prediction(question, result))
        append_predictions(folder, answers)
        done += answers
        progress(_progress(len(done) + len(failed), len(questions), time.perf_counter() - start))
    return done, failed


def progress_line(stream=None) -> Callable[[str], None]:
    """Return a printer of progress: one line that changes on a terminal, now and then a line elsewhere."""
    stream = stream or sys.stderr
    last = 0.0

    def show(text: str) -> None:
        nonlocal last
        if stream.isatty():
            print(f"\r{text}\033[K", end="", file=stream, flush=True)
        elif time.monotonic() - last >= 10:
            print(text, file=stream, flush=True)
            last = time.monotonic()

    return show


def _batches(questions: Sequence[Question], size: int) -> Iterator[list[Question]]:
    """Batches with one request each and recordings of like length."""

    def order(q: Question):
        return q.prompts, q.utterance.task, q.request

    lengths = {q.place: _frames(q.utterance) for q in questions}
    ordered = sorted(questions, key=lambda q: (*order(q), lengths[q.place], q.utterance.key))
    for _, same in groupby(ordered, key=order):
        rest = list(same)
        yield from (rest[i : i + size] for i in range(0, len(rest), size))


def _frames(utterance: Utterance) -> int:
    try:
        return frames_of(utterance)
    except UserError:
        return 0  # the engine says what is wrong with it


def _prediction(question: Question, result) -> Prediction:
    return Prediction(
        key=question.utterance.key, prompts=question.prompts, raw=result.raw, task=question.utterance.task,
        request=question.request, seconds=round(result.seconds, 3),
        compute_seconds=round(result.rtf * result.seconds, 4), cut=result.cut,
    )  # fmt: skip


def _progress(done: int, all_: int, spent: float) -> str:
    left = spent / done * (all_ - done)
    return f"{done}/{all_} answered, {spent:.0f} s, about {left:.0f} s to go"
