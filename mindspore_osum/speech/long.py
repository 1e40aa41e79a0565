"""Long recordings: split at pauses into chunks that fit the model, in bounded memory.

Notable choices
- A recording within the limit is a single chunk that is the whole recording, so its answer is unchanged; with
  `gate` it is none if nothing in it stands out of silence and noise.
- A longer one is read once, in pieces. Speech with short pauses stays together up to the limit; beyond it, it
  is split at its longest pause, preferably in the second half, which keeps more context.
- Parts without speech are in no chunk. Chunks never overlap.

Legend: N samples at 16 kHz.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import (
    SAMPLE_RATE,
    audio_blocks,
    channel_count,
    duration_seconds,
    load_audio,
)
from mindspore_osum.speech.detectors import speaks, voice_activity
from mindspore_osum.speech.vad import Span, VadSettings

MAX_SECONDS = 30.0
"""Longest chunk by default: what Whisper's encoder was trained on."""

LONG_FORMS = PAUSES, SEEK = "pauses", "seek"
"""How a recording is read that a model does not take at once: in chunks between pauses, or in windows that
begin where the words of the last one end."""

LONGEST_CHUNK = 60.0
"""Seconds; no encoder of ours takes more at once."""

_HEADER_SLACK = 1.0  # seconds

TOGETHER_SECONDS = 1.0
"""Speech with a longer pause in it is never one chunk."""


@dataclass(frozen=True)
class Chunk:
    """A part of a recording: wave_N, float32 mono at 16 kHz, and its start in seconds."""

    start: float
    wave_N: np.ndarray

    @property
    def end(self) -> float:
        """End in seconds."""
        return self.start + len(self.wave_N) / SAMPLE_RATE


def check_max_seconds(max_seconds: float) -> None:
    """UserError if the limit is out of range."""
    if not 1 <= max_seconds <= LONGEST_CHUNK:
        raise UserError(f"max_seconds {max_seconds:g}: chunks are 1 to {LONGEST_CHUNK:g} seconds at most")


CHANNELS = ("mix", "left", "right", "split")
"""What is heard of several channels: their mean, the first, the second, or each on its own."""


@dataclass(frozen=True)
class Track:
    """A channel of a recording, to be heard as a recording of its own.

    Attributes
    ----------
    source : what `load_audio` takes.
    name : as in `tracks`; "" where it is what is heard of the whole recording.
    channel : of `load_audio`.
    """

    source: object
    name: str
    channel: int | None


def check_channels(channels: str) -> None:
    """UserError if there is no such choice."""
    if channels not in CHANNELS:
        raise UserError(f"channels {channels!r}: must be {', '.join(CHANNELS[:-1])} or {CHANNELS[-1]}")


def tracks(source, channels: str) -> dict[str, int | None]:
    """Name -> `channel` of `load_audio`, of what is heard of a recording; only those of a split have names.

    Raises
    ------
    UserError : as `load_audio`.
    """
    if channels != "split" or (count := channel_count(source)) == 1:
        return {"": {"left": 0, "right": 1}.get(channels)}
    names = ("left", "right") if count == 2 else [f"channel{n + 1}" for n in range(count)]
    return {name: n for n, name in enumerate(names)}


def chunks(
    source,
    max_seconds: float = MAX_SECONDS,
    vad: str = "energy",
    *,
    gate: bool = False,
    channel: int | None = None,
    notes: list[str] | None = None,
) -> Iterator[Chunk]:
    """The chunks of a recording, in order.

    Parameters
    ----------
    source : as in `load_audio`, of any length.
    max_seconds : longest chunk; 1 to 60.
    vad : voice activity detector, one of `detectors.DETECTORS`.
    gate : whether a short recording without speech has no chunk, as a long one has none.
    channel, notes : as in `load_audio`.

    Raises
    ------
    UserError : as `load_audio`; for a damaged recording, after the chunks before the damage.
    """
    check_max_seconds(max_seconds)
    if duration_seconds(source) > max_seconds:
        yield from chunks_of(audio_blocks(source, channel=channel, notes=notes), max_seconds, vad)
        return
    wave_N = load_audio(source, channel=channel, notes=notes)
    if len(wave_N) > (max_seconds + _HEADER_SLACK) * SAMPLE_RATE:  # its header said less
        yield from chunks_of([wave_N], max_seconds, vad)
    elif not gate or speaks(wave_N, vad):
        yield Chunk(0.0, wave_N)


def chunks_of(
    blocks: Iterable[np.ndarray], max_seconds: float = MAX_SECONDS, vad: str = "energy"
) -> Iterator[Chunk]:
    """As `chunks`, for a waveform (N,) that arrives in pieces, such as a stream."""
    check_max_seconds(max_seconds)
    chunker = Chunker(max_seconds, vad)
    for wave_N in blocks:
        yield from chunker.push(wave_N)
    yield from chunker.flush()


class Chunker:
    """Splits one waveform, given in pieces, into chunks."""

    def __init__(self, max_seconds: float = MAX_SECONDS, vad: str = "energy"):
        self._most = round(max_seconds * SAMPLE_RATE)
        self._vad = voice_activity(vad, VadSettings(max_speech=max_seconds))
        self._wave_N = np.empty(0, np.float32)  # samples that may still be needed,
        self._offset = 0  # from this sample on
        self._spans: list[Span] = []  # of the current chunk; together no longer than a chunk

    def push(self, wave_N: np.ndarray) -> list[Chunk]:
        """Add samples, float32 (N,) at 16 kHz; returns the chunks that are now complete."""
        self._wave_N = np.concatenate([self._wave_N, wave_N])
        found = [chunk for span in self._vad.push(wave_N) for chunk in self._add(span)]
        pause = self._vad.settled - self._spans[-1].end if self._spans else 0
        if pause > TOGETHER_SECONDS * SAMPLE_RATE:  # the next speech begins a new chunk
            found.append(self._cut(len(self._spans)))
        needed = self._spans[0].start if self._spans else self._vad.settled
        self._wave_N = self._wave_N[needed - self._offset :]
        self._offset = needed
        return found

    def flush(self) -> list[Chunk]:
        """End the recording; returns the last chunks."""
        found = [chunk for span in self._vad.flush() for chunk in self._add(span)]
        return found + ([self._cut(len(self._spans))] if self._spans else [])

    def _add(self, span: Span) -> Iterator[Chunk]:
        """Add a span; yields the chunks that this completes."""
        if self._spans and span.start - self._spans[-1].end > TOGETHER_SECONDS * SAMPLE_RATE:
            yield self._cut(len(self._spans))
        self._spans.append(span)
        while self._spans[-1].end - self._spans[0].start > self._most:
            yield self._cut(self._best_cut())

    def _best_cut(self) -> int:
        """The span before which to split: after the longest pause, in the second half of a full chunk."""
        half = self._spans[0].start + self._most / 2

        def worth(i: int) -> tuple[bool, int]:
            return self._spans[i].start >= half, self._spans[i].start - self._spans[i - 1].end

        return max(range(1, len(self._spans)), key=worth)

    def _cut(self, count: int) -> Chunk:
        """The chunk of the first `count` spans, which are then removed."""
        start, end = self._spans[0].start, self._spans[count - 1].end
        del self._spans[:count]
        return Chunk(start / SAMPLE_RATE, self._wave_N[start - self._offset : end - self._offset].copy())
