"""Putting the questions of an evaluation to a model, batch by batch."""

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
    """One answer to get."""

    utterance: Utterance
    prompts: str
    request: Request

    @property
    def place(self) -> Place:
        """What the question is of."""
        return self.prompts, self.utterance.key


def answer_all(
    engine,
    questions: Sequence[Question],
    folder: Path,
    batch_size: int,
    sampling,
    progress: Callable[[int], None],
) -> tuple[list[Prediction], dict[Place, str]]:
    """Ask all the questions; each batch's answers are in the folder's predictions before the next one begins.

    Parameters
    ----------
    progress : called with the number of questions that are done, batch by batch.

    Returns
    -------
    The answers, and why those that are missing could not be given.
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
        return 0  # the engine says what is wrong with it


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
