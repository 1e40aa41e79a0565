"""Recordings window by window, each from where the words of the last one end (`System.seeking`), in batches
over several recordings: the windows of one come one after the other.

Notable choices
- A batch has a window of each recording that is being read. When fewer are left than half its rows, it
  shrinks: the rest of a long talk does not take the time of a full batch.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.inference.inquiry import Inquiry, Part
from mindspore_osum.inference.request import Request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.models.buckets import batch_bucket
from mindspore_osum.results import Answer, Response
from mindspore_osum.speech.audio import SAMPLE_RATE, duration_seconds, load_audio
from mindspore_osum.speech.detectors import speaks
from mindspore_osum.speech.long import MAX_SECONDS, tracks
from mindspore_osum.speech.long_features import LongFeatures

Asked = tuple[np.ndarray, Request]  # log-mel (T, F) of a window, and what is asked about it


class Talk(Inquiry):
    """A recording being read: give `take` the answers to what is `asked`, until that is None.

    Parameters
    ----------
    source, requests, vad, gate, channels : see `Inquiry`; one request.
    previous_text : whether the model reads what it wrote before a window.
    progress : called with the seconds that were read.
    """

    def __init__(self, engine, source, requests, vad, gate, channels, previous_text, progress):
        super().__init__(source, requests, MAX_SECONDS, vad, gate, channels)
        self.engine, self.previous_text = engine, previous_text
        self._progress, self._told = progress, 0.0
        self._windows = self._read_all()
        self.asked: Asked | None = next(self._windows, None)

    def take(self, answered: tuple) -> None:
        """The answer to `asked`, one of `Answerer.windows`."""
        try:
            self.asked = self._windows.send(answered)
        except StopIteration:
            self.asked = None

    def _read_all(self) -> Generator[Asked, tuple, None]:
        """The windows of all channels, one after the other; errors are in the response."""
        try:
            self.seconds = duration_seconds(self.source)
            found = tracks(self.source, self.channels)
            self._tracks = list(found)
            for name, channel in found.items():
                yield from self._read_track(name, channel)
        except UserError as error:
            self.error = str(error)
        self._tell(self.seconds - self._told)

    def _read_track(self, name: str, channel: int | None) -> Generator[Asked, tuple, None]:
        (request,), (longest, vad, gate), source = self.requests, self.how, self.source
        notes = self.notes
        if self.seconds <= longest:
            wave_N = load_audio(source, channel=channel, notes=notes)
            if gate and not speaks(wave_N, vad):
                return
            source, channel, notes = (wave_N, SAMPLE_RATE), None, None
        cfg, engine = self.engine.cfg.features, self.engine
        features = LongFeatures(source, cfg, channel, notes)
        seeking = engine.system.seeking(engine.prompts, request, features.frames, self.previous_text)
        while seeking.frames:
            start, end = seeking.at, seeking.at + seeking.frames
            response, *rest = yield features.window(start, end - start), seeking.request
            part = Part(cfg.seconds(start), cfg.seconds(end), 1, name)
            part.take(0, response)
            self.parts.append(part)
            if response.error:
                return
            seeking.take(response.segments[0], *rest)
            self._tell(cfg.seconds(seeking.at - start) / self.tracks)
        if features.error:
            raise UserError(features.error)

    def _tell(self, seconds: float) -> None:
        """Report progress, never more than the recording's seconds."""
        seconds = min(max(seconds, 0.0), self.seconds - self._told)
        self._told += seconds
        if self._progress and seconds > 0:
            self._progress(seconds)

    def response(self) -> Response:
        """As `Inquiry.response`; of a channel in which nothing is said, one segment without speech."""
        response = super().response()
        said = [segment for segment in response.segments if segment.text or segment.error]
        heard = {segment.channel for segment in said}
        silent = [name for name in self._tracks if name not in heard] if not response.error else []
        said += [Answer(0.0, self.seconds, no_speech=True, channel=name) for name in silent]
        response.segments = sorted(said, key=lambda segment: segment.start)
        return response


def respond_by_seeking(
    engine,
    sources: Iterable,
    requests: Sequence[Request],
    *,
    sampling: Sampling | None = None,
    batch_size: int = 8,
    vad: str = "energy",
    gate: bool = False,
    channels: str = "mix",
    previous_text: bool = True,
    progress: Callable[[float], None] | None = None,
) -> Iterator[Response]:
    """As `respond`, which checks the settings.

    Parameters
    ----------
    batch_size : recordings that are read together.
    """
    if len(requests) != 1:
        raise UserError(f"{len(requests)} requests: long recordings are read for one at a time; ask one")
    sampling, sources = sampling or Sampling(), iter(sources)
    waiting: deque[Talk] = deque()
    more = True
    while more or waiting:
        while more and sum(talk.asked is not None for talk in waiting) < batch_size:
            for source in sources:
                how = (vad, gate, channels, previous_text, progress)
                waiting.append(Talk(engine, source, requests, *how))
                break
            else:
                more = False
        while waiting and waiting[0].asked is None:
            yield waiting.popleft().response()
        if reading := [talk for talk in waiting if talk.asked is not None]:
            asked = [talk.asked for talk in reading]
            found = engine.windows(asked, sampling, batch_bucket(len(asked)))
            for talk, answered in zip(reading, found, strict=True):
                talk.take(answered)
