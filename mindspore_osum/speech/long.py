"""Long recordings: cut at pauses into chunks that a model takes at once, in bounded memory.

Notable choices
- A recording no longer than the limit is one chunk, all of it: its answer is that of the recording itself.
- A longer one is read once, piece by piece. Speech with short pauses stays together up to the limit; what is
  too long is cut at its longest pause, preferably in the second half, where most context is kept.
- What holds no speech is in no chunk. Chunks never overlap.

Legend: N samples at 16 kHz.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import SAMPLE_RATE, audio_blocks, duration_seconds, load_audio
from mindspore_osum.speech.detectors import voice_activity
from mindspore_osum.speech.vad import Span, VadSettings

MAX_SECONDS = 30.0
"""Longest chunk by default: what Whisper's encoder was trained on."""

LONGEST_CHUNK = 60.0
"""Seconds; no encoder of ours takes more at once."""

TOGETHER_SECONDS = 1.0
"""Speech with a longer pause in it is never one chunk."""


@dataclass(frozen=True)
class Chunk:
    """A part of a recording: wave_N, float32 mono at 16 kHz, and the second with which it begins."""

    start: float
    wave_N: np.ndarray

    @property
    def end(self) -> float:
        """Seconds."""
        return self.start + len(self.wave_N) / SAMPLE_RATE


def check_max_seconds(max_seconds: float) -> None:
    """Refuse a limit that no chunk can have."""
    if not 1 <= max_seconds <= LONGEST_CHUNK:
        raise UserError(f"max_seconds {max_seconds:g}: chunks are 1 to {LONGEST_CHUNK:g} seconds at most")


def chunks(source, max_seconds: float = MAX_SECONDS, vad: str = "energy") -> Iterator[Chunk]:
    """The speech of a recording, in order.

    Parameters
    ----------
    source : what `load_audio` takes, of any length.
    max_seconds : no chunk is longer; 1 to 60.
    vad : what finds the speech, one of `detectors.DETECTORS`.

    Raises
    ------
    UserError : as `load_audio`; for a damaged recording after the chunks before the damage.
    """
    check_max_seconds(max_seconds)
    if duration_seconds(source) <= max_seconds:
        yield Chunk(0.0, load_audio(source))
    else:
        yield from chunks_of(audio_blocks(source), max_seconds, vad)


def chunks_of(
    blocks: Iterable[np.ndarray], max_seconds: float = MAX_SECONDS, vad: str = "energy"
) -> Iterator[Chunk]:
    """As `chunks`, of a waveform (N,) that comes in pieces, as a stream does."""
    check_max_seconds(max_seconds)
    chunker = Chunker(max_seconds, vad)
    for wave_N in blocks:
        yield from chunker.push(wave_N)
    yield from chunker.flush()


class Chunker:
    """Chunks of one waveform that comes in pieces."""

    def __init__(self, max_seconds: float = MAX_SECONDS, vad: str = "energy"):
        self._most = round(max_seconds * SAMPLE_RATE)
        self._vad = voice_activity(vad, VadSettings(max_speech=max_seconds))
        self._wave_N = np.empty(0, np.float32)  # what may still be needed,
        self._offset = 0  # from this sample on
        self._spans: list[Span] = []  # of the chunk that is being gathered; together no longer than a chunk

    def push(self, wave_N: np.ndarray) -> list[Chunk]:
        """Take the next samples, float32 (N,) at 16 kHz; returns the chunks that are certain now."""
        self._wave_N = np.concatenate([self._wave_N, wave_N])
        found = [chunk for span in self._vad.push(wave_N) for chunk in self._add(span)]
        pause = self._vad.settled - self._spans[-1].end if self._spans else 0
        if pause > TOGETHER_SECONDS * SAMPLE_RATE:  # whatever comes next is another chunk
            found.append(self._cut(len(self._spans)))
        needed = self._spans[0].start if self._spans else self._vad.settled
        self._wave_N = self._wave_N[needed - self._offset :]
        self._offset = needed
        return found

    def flush(self) -> list[Chunk]:
        """The recording has ended; returns the last chunks."""
        found = [chunk for span in self._vad.flush() for chunk in self._add(span)]
        return found + ([self._cut(len(self._spans))] if self._spans else [])

    def _add(self, span: Span) -> Iterator[Chunk]:
        """Take one more span; yields what cannot stay with it."""
        if self._spans and span.start - self._spans[-1].end > TOGETHER_SECONDS * SAMPLE_RATE:
            yield self._cut(len(self._spans))
        self._spans.append(span)
        while self._spans[-1].end - self._spans[0].start > self._most:
            yield self._cut(self._best_cut())

    def _best_cut(self) -> int:
        """Before which span to cut: after the longest pause, in the second half of what a chunk may be."""
        half = self._spans[0].start + self._most / 2

        def worth(i: int) -> tuple[bool, int]:
            return self._spans[i].start >= half, self._spans[i].start - self._spans[i - 1].end

        return max(range(1, len(self._spans)), key=worth)

    def _cut(self, count: int) -> Chunk:
        """The chunk of the first `count` spans, which are forgotten."""
        start, end = self._spans[0].start, self._spans[count - 1].end
        del self._spans[:count]
        return Chunk(start / SAMPLE_RATE, self._wave_N[start - self._offset : end - self._offset].copy())
