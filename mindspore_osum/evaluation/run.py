"""Runs a model on the questions of an evaluation, batch by batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mindspore_osum.data.batches.batching import frames_of
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.evaluation.predictions import Place, Prediction, append_predictions
from mindspore_osum.inference.request import Request


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
    done, failed = [], {}
    ordered = sorted(questions, key=lambda q: (_frames(q.utterance), q.utterance.key, q.prompts))
    asked = ((q.utterance, q.request) for q in ordered)
    for batch in engine.answer_batches(asked, sampling, batch_size):
        answers = []
        for number, result in batch.items():
            if result.error:
                failed[ordered[number].place] = result.error
            else:
                answers.append(_prediction(ordered[number], result))
        append_predictions(folder, answers)
        done += answers
        progress(len(batch))
    return done, failed


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
