"""Sources of live sound: waveforms (N,), float32 mono at 16 kHz, piece by piece.

Legend: N samples at 16 kHz, S samples at the source's rate, C channels.

Notable choices
- A stream is PCM: raw, or after a wav header, whose length is ignored since it was not known yet.
- Bytes are taken as they arrive, without waiting for a full block.
"""

import io
import numbers
import os
import stat
import struct
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import SAMPLE_RATE, resampled
from mindspore_osum.speech.samples import StreamMixer, as_float
from mindspore_osum.streaming.microphone import microphone

MICROPHONE = "mic"
IDLE_SECONDS = 5.0
"""A file that has not grown for so long is complete."""

_READ = 1 << 16  # bytes at most at once
_POLL = 0.05  # seconds between two looks at a file
_MOST_HEADER = 1 << 20  # bytes before the samples
# (format tag, bits) of wav -> type of a sample
_TYPES = {(1, 8): "u1", (1, 16): "<i2", (1, 32): "<i4", (3, 32): "<f4", (3, 64): "<f8"}
_EXTENSIBLE = 0xFFFE
_CANCELLED = (
    "the stream's channels cancel each other out (opposite phase), so their mean is silent; after the first "
    "second of that the first one is heard: send one channel"
)
_SOURCES = "'mic', a path, a binary file object or an iterable of waveforms, float32 (N,) at 16 kHz"


class Pcm(NamedTuple):
    """The layout of samples in bytes."""

    rate: int
    channels: int
    dtype: str


def stream_of(
    source, raw_rate: int | None = None, idle: float = IDLE_SECONDS, notes: list[str] | None = None
) -> Iterator[np.ndarray]:
    """The waveform of a source while it comes in.

    Parameters
    ----------
    source : "mic" for the microphone; the path of a file that is being written, or of a named pipe; a binary
        file object that need not seek, like ``sys.stdin.buffer``; or an iterable of waveforms already.
    raw_rate : the bytes are 16-bit little-endian samples of one channel at this rate, without a header.
    idle : a file that has not grown for this many seconds is complete; 0: never.
    notes : takes a line if the channels cancel each other out; the first is taken where they do.

    Yields
    ------
    wave_N : float32 mono at 16 kHz, as much as has arrived.

    Raises
    ------
    UserError : no such file or microphone, something that is no stream, or bytes that are not PCM.
    """
    if isinstance(source, str) and source == MICROPHONE:
        return waves_of(microphone(), "the microphone", SAMPLE_RATE)
    if isinstance(source, (str, os.PathLike)):
        name = os.fsdecode(source)
        if not os.path.exists(name):
            raise UserError(
                f"{name}: no such file; a stream is a file that is being written, a named pipe, "
                f"- or {MICROPHONE}"
            )
        return waves_of(_growing(name, idle), name, raw_rate, notes)
    if hasattr(source, "read"):
        name = str(getattr(source, "name", None) or "stream").replace("<stdin>", "standard input")
        if isinstance(source, io.TextIOBase):
            raise UserError(f"{name}: is open as text; open it with mode 'rb', or give its .buffer")
        return waves_of(_pipe(source), name, raw_rate, notes)
    return _waveforms(source)


def _waveforms(source) -> Iterator[np.ndarray]:
    """An iterable's waveforms, checked as they arrive; a recording is refused at once."""
    has_rate = isinstance(source, tuple) and len(source) == 2 and isinstance(source[1], numbers.Real)
    held = isinstance(source, (bytes, bytearray, memoryview, np.ndarray))
    if has_rate or held or not isinstance(source, Iterable):
        kind = "(array, rate)" if has_rate else type(source).__name__
        raise UserError(f"{kind}: is no stream; give {_SOURCES}")
    return map(_waveform, source)


def _waveform(wave_N) -> np.ndarray:
    if not isinstance(wave_N, np.ndarray) or wave_N.ndim != 1 or wave_N.dtype.kind != "f":
        shown = f"{wave_N.dtype} {wave_N.shape}" if isinstance(wave_N, np.ndarray) else type(wave_N).__name__
        raise UserError(f"{shown}: a piece of the stream that is no waveform; give {_SOURCES}")
    return wave_N


def waves_of(
    pieces: Iterable[bytes], name: str, raw_rate: int | None = None, notes: list[str] | None = None
) -> Iterator[np.ndarray]:
    """As `stream_of`, of bytes."""
    pieces = iter(pieces)
    pcm, rest = (Pcm(raw_rate, 1, "<i2"), b"") if raw_rate else _after_header(pieces, name)
    width = pcm.channels * np.dtype(pcm.dtype).itemsize

    def parts() -> Iterator[np.ndarray]:
        kept, mixer = b"", StreamMixer(name, pcm.rate)
        for piece in chain([rest], pieces):
            data = kept + piece
            whole = len(data) // width * width
            kept = data[whole:]
            if whole:
                x_SC = np.frombuffer(data[:whole], pcm.dtype).reshape(-1, pcm.channels)
                known = mixer.cancelled
                yield mixer(as_float(x_SC))
                if mixer.cancelled and not known and notes is not None:
                    notes.append(_CANCELLED)

    yield from resampled(parts(), pcm.rate)


def _after_header(pieces: Iterator[bytes], name: str) -> tuple[Pcm, bytes]:
    """The contents of a wav header, and the bytes after it."""
    data = b""
    for piece in pieces:
        data += piece
        if (found := _header(data, name)) or len(data) > _MOST_HEADER:
            break
    else:
        raise UserError(f"{name}: it ended before any sound ({len(data)} bytes)")
    if not found:
        raise UserError(f"{name}: no sound in the first {_MOST_HEADER >> 20} MiB of this wav stream")
    pcm, start = found
    return pcm, data[start:]


def _header(data: bytes, name: str) -> tuple[Pcm, int] | None:
    """(format, where the samples begin), or None if that needs more bytes."""
    begins = any(kind.startswith(data[:4]) for kind in (b"RIFF", b"RF64"))
    if not begins or not b"WAVE".startswith(data[8:12]):
        raise UserError(
            f"{name}: not a wav stream; pipe it through `ffmpeg -i SOURCE -f wav -`, or give "
            "--raw RATE for bare 16-bit samples"
        )
    pcm, at = None, 12
    while len(data) >= at + 8:
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"data":
            if pcm is None:
                raise UserError(f"{name}: samples before their format; write the wav again")
            return pcm, at + 8
        if kind == b"fmt " and len(data) >= at + 8 + size:
            pcm = _format(data[at + 8 : at + 8 + size], name)
        at += 8 + size + size % 2
    return None


def _format(chunk: bytes, name: str) -> Pcm:
    try:
        tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
        if tag == _EXTENSIBLE:
            (tag,) = struct.unpack_from("<H", chunk, 24)
    except struct.error:
        raise UserError(f"{name}: a damaged wav header; write it again") from None
    if (tag, bits) not in _TYPES or not 1 <= channels <= 64 or not 1000 <= rate <= 384_000:
        raise UserError(
            f"{name}: wav format {tag} with {bits} bits, {channels} channels, {rate} Hz cannot "
            "be streamed; convert it to 16-bit PCM"
        )
    return Pcm(rate, channels, _TYPES[tag, bits])


def _pipe(source) -> Iterator[bytes]:
    read = getattr(source, "read1", source.read)
    while data := read(_READ):
        yield data


def _growing(path: str, idle: float) -> Iterator[bytes]:
    """What is in the file and what is appended to it; a named pipe until its writer closes it."""
    try:
        with open(path, "rb") as file:
            if stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
                yield from _pipe(file)
                return
            grown = time.monotonic()
            while not idle or time.monotonic() - grown < idle:
                if data := file.read(_READ):
                    yield data
                    grown = time.monotonic()  # not before: a slow reader must not end the file
                else:
                    time.sleep(_POLL)
    except OSError as error:
        raise UserError(f"{path}: cannot read it ({error.strerror})") from None
