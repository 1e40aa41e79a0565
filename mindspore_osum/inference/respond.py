"""Recordings of any length -> responses: cut into chunks, asked in batches, put together again."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from mindspore_osum.errors import UserError
from mindspore_osum.inference.engine import Engine, name_of
from mindspore_osum.inference.passes import merge
from mindspore_osum.inference.request import Request, Result
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.results import Response, clock
from mindspore_osum.speech.audio import SAMPLE_RATE, duration_seconds
from mindspore_osum.speech.detectors import check_detector
from mindspore_osum.speech.long import MAX_SECONDS, Chunk, check_max_seconds, chunks


@dataclass
class _Part:
    """A chunk on its way; `results` by pass."""

    start: float
    end: float
    results: dict[int, Result] = field(default_factory=dict)


@dataclass
class _Case:
    """A recording on its way."""

    response: Response
    parts: list[_Part] = field(default_factory=list)
    read: bool = False  # to its end


def respond(
    engine: Engine,
    sources: Iterable,
    requests: Sequence[Request],
    *,
    sampling: Sampling | None = None,
    batch_size: int = 8,
    max_seconds: float = MAX_SECONDS,
    vad: str = "energy",
    probabilities: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Iterator[Response]:
    """What all recordings answer to all requests, in order; memory does not grow with their length or number.

    Parameters
    ----------
    sources : what `load_audio` takes, of any length.
    requests : what each of them is asked; see `passes.plan`.
    batch_size : chunks computed together.
    max_seconds : recordings up to this length are answered as they are, longer ones in chunks (1 to 60 s).
    vad : what finds the speech of longer ones, one of `speech.detectors.DETECTORS`.
    probabilities : also label probabilities.
    progress : called with seconds of recordings that are done.

    Raises
    ------
    UserError : an impossible setting. What is wrong with a recording is in its response.
    """
    check_max_seconds(max_seconds)
    check_detector(vad)
    cases: deque[_Case] = deque()
    asked: dict[int, tuple[_Part, int]] = {}

    def questions():
        number = 0
        for source in sources:
            case = _Case(Response(name_of(source)))
            cases.append(case)
            for chunk in _chunks(source, case, max_seconds, vad):
                part = _Part(chunk.start, chunk.end)
                case.parts.append(part)
                for n, request in enumerate(requests):
                    asked[number] = part, n
                    number += 1
                    yield (chunk.wave_N, SAMPLE_RATE), request
            case.read = True

    for batch in engine.answer_batches(questions(), sampling, batch_size, probabilities):
        for number, result in batch.items():
            part, n = asked.pop(number)
            part.results[n] = result
            if progress and len(part.results) == len(requests):
                progress(part.end - part.start)
        while cases and cases[0].read and all(len(p.results) == len(requests) for p in cases[0].parts):
            yield _finished(cases.popleft(), progress)
    for case in cases:  # behind the last answer: recordings in which there was nothing to ask about
        yield _finished(case, progress)


def _chunks(source, case: _Case, max_seconds: float, vad: str) -> Iterator[Chunk]:
    try:
        case.response.seconds = duration_seconds(source)
        yield from chunks(source, max_seconds, vad)
    except UserError as error:
        case.response.error = str(error)


def _finished(case: _Case, progress) -> Response:
    response = case.response
    for part in case.parts:
        results = [part.results[n] for n in sorted(part.results)]
        segment = merge(results, part.start, part.end)
        response.segments.append(segment)
        response.rtf += sum(r.rtf for r in results) * segment.seconds / response.seconds
        if segment.error:
            what = segment.error.removeprefix("array: ")
            segment.error = f"{clock(segment.start)} to {clock(segment.end)}: {what}"
    response.error = response.error or next((s.error for s in response.segments if s.error), None)
    if response.error and not response.error.startswith(response.audio):
        response.error = f"{response.audio}: {response.error}"
    if progress:
        progress(max(0.0, response.seconds - sum(s.seconds for s in response.segments)))
    return response
