"""Many recordings of any length -> responses, in batches over all of them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count

from mindspore_osum.errors import UserError
from mindspore_osum.inference.inquiry import Inquiry, Question
from mindspore_osum.inference.request import Request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.inference.seeking import respond_by_seeking
from mindspore_osum.results import Response
from mindspore_osum.speech.detectors import check_detector
from mindspore_osum.speech.long import (
    LONG_FORMS,
    MAX_SECONDS,
    PAUSES,
    SEEK,
    check_channels,
    check_max_seconds,
)


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
    long: str = PAUSES,
    condition_on_previous_text: bool = True,
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
    long : how recordings are read that the model does not take at once, one of `LONG_FORMS`; "" is the
        model's usual way, or at pauses if `max_seconds` is not the usual.
    condition_on_previous_text : of seeking: whether the model reads what it wrote before a window.
    progress : called with the seconds of recordings that are done.

    Raises
    ------
    UserError : an impossible setting, or a request that the model cannot be asked. What is wrong with a
        recording is in its response.
    """
    check_max_seconds(max_seconds)
    check_detector(vad)
    check_channels(channels)
    requests = engine.passes(requests)
    for request in requests:
        engine.asked(request)
    if _long_form(engine, requests, long, max_seconds) == SEEK:
        if probabilities:
            raise UserError("probabilities: a model that reads recordings by seeking has no labels")
        how = {"sampling": sampling, "batch_size": batch_size, "vad": vad, "gate": gate, "channels": channels}
        more = {"previous_text": condition_on_previous_text, "progress": progress}
        yield from respond_by_seeking(engine, sources, requests, **how, **more)
        return
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


def _long_form(engine, requests, long: str, max_seconds: float) -> str:
    """How long recordings are read; UserError if the model cannot."""
    labels = any(engine.system.labels_of(request.task) for request in requests if request.task)
    if labels and long == SEEK:
        raise UserError(f"long {long!r}: labels are of the sections between {PAUSES}; leave it out")
    if labels or long == PAUSES:
        return PAUSES
    usual = engine.system.long_forms
    if not long:
        return usual[0] if max_seconds == MAX_SECONDS else PAUSES
    if long not in LONG_FORMS:
        raise UserError(f"long {long!r}: must be {' or '.join(LONG_FORMS)}")
    if long not in usual:
        raise UserError(
            f"long {long!r}: a model of {engine.system.model_type} splits recordings at {usual[0]}"
        )
    if max_seconds != MAX_SECONDS:
        raise UserError(
            f"max_seconds {max_seconds:g}: {long} reads windows of the model's own length; take {PAUSES}, or "
            "leave it out"
        )
    return long


def _finished(inquiry: Inquiry, progress) -> Response:
    if progress:
        progress(max(0.0, inquiry.seconds - sum(part.seconds for part in inquiry.parts) / inquiry.tracks))
    return inquiry.response()
