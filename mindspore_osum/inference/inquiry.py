"""A recording of any length and what is asked about it: chunks, questions, answers merged into one response.

    inquiry = Inquiry("talk.wav", plan(["asr", "gender"]))
    ask(engine, list(inquiry.questions()))
    response = inquiry.response()

Everything that answers recordings uses it: many at once (`respond`), the server (serving/batcher.py), piece
by piece (`stream`), and utterances of a stream (streaming/live.py). Loads nothing heavy.

Notable choices
- A part of an inquiry holds no sound, so that memory does not grow with a recording's length. Its questions
  hold the sound and are created one by one as they are needed.
"""

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.inference.passes import merge
from mindspore_osum.inference.request import Request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.results import Answer, Response, clock
from mindspore_osum.speech.audio import SAMPLE_RATE, duration_seconds
from mindspore_osum.speech.long import MAX_SECONDS, Chunk, Track, check_channels, chunks, tracks

_ARRAY = "array"
OWN_SYSTEM = "system message: the model was trained with its own; with another one it may answer worse"


def name_of(source) -> str:
    """The name of a recording in responses."""
    if isinstance(source, Track):
        source = source.source
    if isinstance(source, Utterance):
        return str(source.wav or source.key)
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source)
    if isinstance(source, tuple):
        return _ARRAY
    if isinstance(source, (bytes, bytearray, memoryview)) or hasattr(source, "read"):
        return str(getattr(source, "name", None) or "bytes")
    return type(source).__name__


class Part:
    """A section of a recording; it is answered when each of its `passes` requests has a response."""

    def __init__(self, start: float, end: float, passes: int, channel: str = ""):
        self.start, self.end, self.passes, self.channel = start, end, passes, channel
        self._responses: dict[int, Response] = {}

    @property
    def seconds(self) -> float:
        """Length."""
        return self.end - self.start

    @property
    def complete(self) -> bool:
        """Whether all passes are answered."""
        return len(self._responses) == self.passes

    @property
    def rtf(self) -> float:
        """Of all passes together."""
        return sum(response.rtf for response in self._responses.values())

    def take(self, number: int, response: Response) -> None:
        """The response to pass `number`."""
        self._responses[number] = response

    def answer(self) -> Answer:
        """The passes merged, in the times of the recording."""
        answers = [self._responses[number].segments[0] for number in sorted(self._responses)]
        merged = merge(answers, self.start, self.end)
        merged.channel = self.channel
        if merged.error:
            merged.error = merged.error.removeprefix(f"{_ARRAY}: ")
        return merged


class Question(NamedTuple):
    """One pass over a part, as the engine gets it."""

    part: Part
    number: int
    source: tuple[np.ndarray, int]
    request: Request


def questions_about(chunk: Chunk, requests: Sequence[Request], channel: str = "") -> list[Question]:
    """The questions of one part."""
    part = Part(chunk.start, chunk.end, len(requests), channel)
    return [Question(part, n, (chunk.wave_N, SAMPLE_RATE), request) for n, request in enumerate(requests)]


def ask(engine, questions: Sequence[Question], sampling: Sampling | None = None, batch_size: int = 8) -> None:
    """Have an `Engine` answer questions; the answers are in their parts."""
    sources, requests = [q.source for q in questions], [q.request for q in questions]
    responses = engine.answer(sources, requests=requests, sampling=sampling, batch_size=batch_size)
    for question, response in zip(questions, responses, strict=True):
        question.part.take(question.number, response)


def stream(engine, question: Question, sampling: Sampling | None = None) -> Iterator[str]:
    """Yield the answer while it is generated.

    Raises
    ------
    UserError : it cannot be answered.
    """
    try:
        response = yield from engine.stream(question.source, question.request, sampling)
    except UserError as error:
        raise UserError(str(error).removeprefix(f"{_ARRAY}: ")) from None
    question.part.take(question.number, response)


class Inquiry:
    """A recording, or words alone, being answered.

    Parameters
    ----------
    source : what `load_audio` takes, of any length; None where the request is of words alone.
    requests : what is asked about it; see `passes.plan`.
    max_seconds : a recording up to this length is answered as it is, a longer one in chunks (1 to 60 s).
    vad : what finds the speech of a longer one, one of `speech.detectors.DETECTORS`.
    gate : whether the model is spared a short one without speech, too.
    channels : what is heard of several, one of `speech.long.CHANNELS`.

    Attributes
    ----------
    parts : the sections asked about so far.
    error : why reading it ended early; None if it did not.
    """

    def __init__(
        self,
        source,
        requests: Sequence[Request],
        max_seconds: float = MAX_SECONDS,
        vad: str = "energy",
        gate: bool = False,
        channels: str = "mix",
    ):
        check_channels(channels)
        self.source, self.requests, self.how, self.channels = (
            source,
            requests,
            (max_seconds, vad, gate),
            channels,
        )
        self.parts: list[Part] = []
        self.notes = [OWN_SYSTEM] if any(request.system is not None for request in requests) else []
        self._tracks: list[str] = []
        self.seconds, self.error, self._read = 0.0, None, False

    def questions(self) -> Iterator[Question]:
        """What to ask, in order, while the recording is read.

        Raises
        ------
        UserError : it cannot be read, or not to its end; also in `error`.
        """
        try:
            for track, chunk in self._chunks():
                asked = questions_about(chunk, self.requests, track)
                self.parts.append(asked[0].part)
                yield from asked
        except UserError as error:
            self.error = str(error)
            raise
        finally:
            self._read = True

    def _chunks(self) -> Iterator[tuple[str, Chunk]]:
        """(name of the channel, chunk); one channel after the other."""
        if self.source is None:
            yield "", Chunk(0.0, np.empty(0, np.float32))
            return
        self.seconds, (longest, vad, gate) = duration_seconds(self.source), self.how
        found = tracks(self.source, self.channels)
        self._tracks = list(found)
        for name, channel in found.items():
            heard = chunks(self.source, longest, vad, gate=gate, channel=channel, notes=self.notes)
            yield from ((name, chunk) for chunk in heard)

    @property
    def tracks(self) -> int:
        """How many channels are asked about, one if that is not known yet."""
        return len(self._tracks) or 1

    @property
    def complete(self) -> bool:
        """Whether everything is read and answered."""
        return self._read and all(part.complete for part in self.parts)

    def response(self) -> Response:
        """The merged response; errors are in it, each with its section of the recording."""
        response = Response(name_of(self.source), self.seconds, error=self.error, notes=self.notes)
        for part in self.parts:
            answer = part.answer()
            response.segments += answer.divided()
            if self.seconds:
                response.rtf += part.rtf * part.seconds / self.seconds
            if answer.error:
                answer.error = f"{clock(part.start)} to {clock(part.end)}: {answer.error}"
        heard = {part.channel for part in self.parts}
        for track in self._tracks if not self.error else ():
            if track not in heard:
                response.segments.append(Answer(0.0, self.seconds, no_speech=True, channel=track))
        response.segments.sort(key=lambda segment: segment.start)
        response.error = response.error or next((s.error for s in response.segments if s.error), None)
        if response.error and not response.error.startswith(response.audio):
            response.error = f"{response.audio}: {response.error}"
        return response
