"""Many recordings of any length -> responses, in batches over all of them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count

from mindspore_osum.errors import UserError
from mindspore_osum.inference.inquiry import Inquiry, Question
from mindspore_osum.inference.request import Request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.results import Response
from mindspore_osum.speech.detectors import check_detector
from mindspore_osum.speech.long import MAX_SECONDS, check_channels, check_max_seconds


def respond(
    engine,
    sources: Iterable,
    requests: Sequence[Request],
    *,
    sampling: Sampling | None = None,
    batch_size: int = 8,
    max_seconds: float = MAX_SECONDS,
    vad: str = "energy",
    gate: bool = False,
    channels: str = "mix",
    probabilities: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Iterator[Response]:
    """Responses to all requests about all recordings, in order; memory does not grow with length or number.

    Parameters
    ----------
    engine : an `Engine`, or an object with the same methods.
    sources : what `load_audio` takes, of any length.
    requests : asked about each recording; see `passes.plan`.
    batch_size : chunks computed together.
    max_seconds, vad, gate, channels : see `Inquiry`.
    probabilities : also label probabilities.
    progress : called with the seconds of recordings that are done.

    Raises
    ------
    UserError : an impossible setting. What is wrong with a recording is in its response.
    """
    check_max_seconds(max_seconds)
    check_detector(vad)
    check_channels(channels)
    waiting: deque[Inquiry] = deque()
    asked: dict[int, tuple[Question, int]] = {}  # and how many channels its recording has

    def questions():
        numbers = count()
        for source in sources:
            waiting.append(Inquiry(source, requests, max_seconds, vad, gate, channels))
            with suppress(UserError):  # it is in the response
                for question in waiting[-1].questions():
                    asked[next(numbers)] = question, waiting[-1].tracks
                    yield question.source, question.request

    for batch in engine.answer_batches(questions(), sampling, batch_size, probabilities):
        for number, response in batch.items():
            question, tracks = asked.pop(number)
            question.part.take(question.number, response)
            if progress and question.part.complete:
                progress(question.part.seconds / tracks)
        while waiting and waiting[0].complete:
            yield _finished(waiting.popleft(), progress)
    for inquiry in waiting:  # after the last answer: recordings in which there was nothing to ask about
        yield _finished(inquiry, progress)


def _finished(inquiry: Inquiry, progress) -> Response:
    if progress:
        progress(max(0.0, inquiry.seconds - sum(part.seconds for part in inquiry.parts) / inquiry.tracks))
    return inquiry.response()
