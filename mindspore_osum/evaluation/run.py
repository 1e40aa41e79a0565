"""Runs a model on the questions of an evaluation, batch by batch."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mindspore_osum.data.batches.batching import frames_of
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.evaluation.predictions import Place, Prediction, append_predictions
from mindspore_osum.inference.request import Request
from mindspore_osum.results import Response


@dataclass(frozen=True)
class Question:
    """One question to answer."""

    utterance: Utterance
    prompts: str
    request: Request

    @property
    def place(self) -> Place:
        """Prompts and key of the question."""
        return self.prompts, self.utterance.key


def answer_all(
    engine,
    questions: Sequence[Question],
    folder: Path,
    batch_size: int,
    sampling,
    progress: Callable[[int], None],
) -> tuple[list[Prediction], dict[Place, str]]:
    """Answer all questions; the answers of each batch are saved in `folder` before the next batch begins.

    Parameters
    ----------
    progress : called after each batch with the number of questions done.

    Returns
    -------
    The answers, and the reasons for missing ones.
    """
    done, failed, ordered = [], {}, in_order(questions)
    asked = ((q.utterance, q.request) for q in ordered)
    for batch in engine.answer_batches(asked, sampling, batch_size):
        done += save(folder, ((ordered[number], result) for number, result in batch.items()), failed)
        progress(len(batch))
    return done, failed


def in_order(questions: Iterable[Question]) -> list[Question]:
    """The questions by the length of their recordings."""
    return sorted(questions, key=lambda q: (_frames(q.utterance), q.utterance.key, q.prompts))


def save(
    folder: Path, answered: Iterable[tuple[Question, Response]], failed: dict[Place, str]
) -> list[Prediction]:
    """Append answers to the folder's file and return them; the reasons of missing ones go into `failed`."""
    answers = []
    for question, result in answered:
        if result.error:
            failed[question.place] = result.error
        else:
            answers.append(_prediction(question, result))
    append_predictions(folder, answers)
    return answers


def _frames(utterance: Utterance) -> int:
    try:
        return frames_of(utterance)
    except UserError:
        return 0  # the engine reports the error


def _prediction(question: Question, result) -> Prediction:
    return Prediction(
        key=question.utterance.key,
        prompts=question.prompts,
        raw=result.raw,
        task=question.utterance.task,
        request=question.request.words,
        seconds=round(result.seconds, 3),
        compute_seconds=round(result.rtf * result.seconds, 4),
        cut=result.cut,
    )
