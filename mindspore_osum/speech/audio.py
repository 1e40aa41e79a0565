"""Any recording -> mono float32 samples at 16 kHz.

wav, flac, ogg and their relatives are read by libsndfile (sound_file.py), all else by FFmpeg (media.py); the
content decides, not the name.

Legend: N samples at 16 kHz, S samples at the recording's own rate, C channels.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.speech.config import SAMPLE_RATE
from mindspore_osum.speech.opening import open_bytes
from mindspore_osum.speech.samples import BLOCK_VALUES, INTEGER_SCALES, Mixer, as_float
from mindspore_osum.speech.sound_file import SoundFile, is_sound_file, reason

MAX_SECONDS = 3 * 3600.0
"""Longest recording taken by default, in seconds (0.7 GB as float32 at 16 kHz)."""

READABLE = tuple(
    "wav flac mp3 m4a ogg oga opus aac wma webm mp4 m4b 3gp amr aiff aif aifc au caf w64 rf64 ac3 ape wv tta "
    "mka mov mkv avi flv m4v mpg mpeg ts mts ogv wmv".split()
)
"""Usual endings of recordings, and of films whose sound is taken, that can be read; the most common first."""

_OTHER_CODECS = (b"OggS", b"caff", b"FORM")  # libsndfile does not have all codecs of these containers
_RATES = (1_000, 384_000)  # Hz; a rate outside this range means a damaged header or no speech
_MAX_SAMPLES = 2**29  # before resampling: 2 GiB as float32, 3.1 h at 48 kHz
CANCELLED = (
    "its channels cancel each other out (opposite phase), so their mean is silent; where it is, the first "
    "one was heard: choose a channel, or give a recording of one"
)


def load_audio(
    source, *, max_seconds: float = MAX_SECONDS, channel: int | None = None, notes: list[str] | None = None
) -> np.ndarray:
    """Decode a recording, average its channels and resample it to 16 kHz (soxr HQ, as librosa does).

    Parameters
    ----------
    source : str, os.PathLike, bytes, binary file object, FilePart, or tuple (array, rate)
        Audio, or a film with sound, in any usual format (see `READABLE`; the content decides). A file object
        is read from its start, must be able to seek, is not closed, and its ``name`` appears in errors.
        An array is (S,) or (S, C), float of any scale, or int16, int32, uint8 at full scale; rate in Hz.
    max_seconds : float
        Longer recordings are refused: from the header alone, before memory is allocated, where it has a
        dependable length, else as soon as it is decoded so far.
    channel : int, optional
        The channel to take, from 0, instead of the mean.
    notes : list of str, optional
        Takes a line if the channels cancel each other out; the first is taken where they do.

    Returns
    -------
    np.ndarray
        wave_N, float32, N = ceil(S * 16000 / rate) >= 1, a new array. Integer formats are scaled to [-1, 1);
        float values, also those beyond [-1, 1], stay as they are.

    Raises
    ------
    UserError
        Missing, unreadable, not audio, empty, too long, not finite, an impossible rate, a missing channel, or
        incomplete where that can be known. Files that libsndfile would silently truncate are refused (except
        NIST SPHERE: not detected).
    """
    with _opened(source) as file:
        rate = file.rate
        if (samples := file.frames) is None and file.declared:
            samples = file.declared * rate
        if samples is not None:
            _check_length(file.name, samples)
            _check_size(file.name, samples, rate, max_seconds)
        return _whole(file, _mono(file, channel, notes), max_seconds)


def load_native(source, *, max_seconds: float = MAX_SECONDS) -> tuple[np.ndarray, int]:
    """Decode a recording and average its channels, at its own sample rate.

    Parameters
    ----------
    source, max_seconds : as in `load_audio`.

    Returns
    -------
    wave_S, float32, and its rate in Hz; at 16 kHz it is the result of `load_audio`.

    Raises
    ------
    UserError
        As `load_audio`.
    """
    with _opened(source) as file:
        blocks, read = [], 0
        for block_S in _mono(file, None, None):
            read += len(block_S)
            _check_size(file.name, read, file.rate, max_seconds)
            blocks.append(block_S)
        return np.concatenate(blocks), file.rate


def audio_blocks(
    source, *, channel: int | None = None, notes: list[str] | None = None
) -> Iterator[np.ndarray]:
    """A recording of any length, in pieces, so that memory is bounded.

    Parameters
    ----------
    source, channel, notes : as in `load_audio`.

    Yields
    ------
    np.ndarray
        wave_N, float32 mono at 16 kHz, some seconds each. For recordings at 16 kHz their concatenation equals
        the result of `load_audio`; other rates are resampled (soxr HQ) in pieces.

    Raises
    ------
    UserError
        As `load_audio`, but without a limit of length; damage raises only when it is reached.
    """
    with _opened(source) as file:
        yield from resampled(_mono(file, channel, notes), file.rate)


def resampled(blocks: Iterable[np.ndarray], rate) -> Iterator[np.ndarray]:
    """Resample a waveform (S,), given in pieces, from `rate` to 16 kHz float32."""
    if rate == SAMPLE_RATE:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for block_S in blocks:
        if len(wave_N := stream.resample_chunk(block_S)):
            yield wave_N
    if len(wave_N := stream.resample_chunk(np.empty(0, np.float32), last=True)):
        yield wave_N


def duration_seconds(source) -> float:
    """Length of a recording in seconds, without decoding it.

    Parameters
    ----------
    source : str, os.PathLike, bytes, binary file object, FilePart, or tuple (array, rate)
        As in `load_audio`.

    Returns
    -------
    float
        Seconds, > 0: as declared by the header, or counted where headers of the format cannot be relied on
        (mp3, aac, ...), which reads the whole file.

    Raises
    ------
    UserError
        As `load_audio`, for errors that the header shows; there is no limit of length.
    """
    with _opened(source) as file:
        seconds = file.seconds()
        _check_length(file.name, seconds)
        return seconds


def channel_count(source) -> int:
    """Number of channels of a recording; `source` and errors as in `load_audio`."""
    with _opened(source) as file:
        return file.channels


def cancels(source, seconds: float = float("inf")) -> bool:
    """Whether the channels of a recording cancel each other out somewhere in its first `seconds`.

    Only as much is decoded, and nothing of one channel; `source` and errors as in `load_audio`.
    """
    with _opened(source) as file:
        if file.channels < 2:
            return False
        mixer, done = Mixer(file.name, file.rate), 0
        for x_SC in file.blocks():
            mixer(x_SC)
            done += len(x_SC)
            if mixer.cancelled or done >= seconds * file.rate:
                break
        return mixer.cancelled


class _Array:
    """A tuple (array (S,) or (S, C), rate) as an open recording; nothing is copied."""

    def __init__(self, source: tuple):
        if len(source) != 2:
            raise UserError(f"audio given as a tuple of {len(source)}: it must be (array, rate)")
        x_SC, self.rate = _as_array(source[0]), source[1]
        if x_SC.ndim == 0:
            kinds = ", ".join(type(part).__name__ for part in source)
            raise UserError(f"audio given as a tuple ({kinds}): it must be (array, rate), in this order")
        self.name = f"audio array {x_SC.shape} {x_SC.dtype}"
        if x_SC.ndim == 1:
            x_SC = x_SC[:, None]
        if x_SC.ndim != 2 or x_SC.shape[1] == 0:
            raise UserError(f"{self.name}: the shape must be (samples,) or (samples, channels)")
        if x_SC.shape[1] > x_SC.shape[0] > 0:
            raise UserError(f"{self.name}: more channels than samples; the shape must be (samples, channels)")
        if x_SC.dtype.kind != "f" and x_SC.dtype.name not in INTEGER_SCALES:
            raise UserError(f"{self.name}: the type must be float, {', '.join(INTEGER_SCALES)}")
        self._x_SC, (self.frames, self.channels) = x_SC, x_SC.shape

    def seconds(self) -> float:
        return self.frames / self.rate

    def blocks(self) -> Iterator[np.ndarray]:
        most = max(1, BLOCK_VALUES // self.channels)
        for start in range(0, self.frames, most):
            yield as_float(self._x_SC[start : start + most])


@contextmanager
def _opened(source):
    """Yield an `_Array`, `SoundFile` or `Media` with a possible rate, and close what was opened here."""
    with ExitStack() as stack:
        if isinstance(source, tuple):
            file = _Array(source)
        else:
            file = _open_file(*open_bytes(source, stack), stack)
        valid = isinstance(file.rate, numbers.Real) and not isinstance(file.rate, bool)
        if not valid or not _RATES[0] <= file.rate <= _RATES[1]:
            raise UserError(
                f"{file.name}: sample rate {file.rate!r}, it must be between {_RATES[0]} and {_RATES[1]} Hz"
            )
        yield file


def _open_file(name: str, stream, stack: ExitStack):
    import soundfile

    head = stream.read(12)
    stream.seek(0)
    if is_sound_file(head):
        try:
            file = SoundFile(name, stream, stack)
            if not file.belongs_to_ffmpeg:
                return file
        except soundfile.LibsndfileError as error:
            if head[:4] not in _OTHER_CODECS:
                raise UserError(f"{name}: not audio that can be read ({reason(error)})") from error
    from mindspore_osum.speech.media import Media

    return Media(name, stream, stack)


def _check_length(name: str, samples: float) -> None:
    if samples <= 0:
        raise UserError(f"{name}: no audio in it (0 samples); it is empty or was truncated after its header")


def _check_size(name: str, samples: float, rate, max_seconds: float) -> None:
    seconds = samples / rate
    if seconds > max_seconds:
        raise UserError(
            f"{name}: {seconds:.2f} s of audio, the limit is {max_seconds:g} s; split it into "
            "parts or raise max_seconds"
        )
    if samples > _MAX_SAMPLES:
        raise UserError(
            f"{name}: {samples:.0f} samples at {rate} Hz, the limit is {_MAX_SAMPLES}; split it into "
            f"parts or resample it to {SAMPLE_RATE} Hz"
        )


def _mono(file, channel: int | None, notes: list[str] | None) -> Iterator[np.ndarray]:
    """wave_S of an open recording, in pieces."""
    if channel is not None and channel >= file.channels:
        raise UserError(f"{file.name}: no channel {channel + 1} in it, it has {file.channels}")
    mixer, done = Mixer(file.name, file.rate, channel), 0
    for x_SC in file.blocks():
        wave_S = mixer(x_SC)
        done += len(wave_S)
        yield wave_S
    _check_length(file.name, done)
    if mixer.cancelled and notes is not None:
        notes.append(CANCELLED)


def _whole(file, blocks: Iterator[np.ndarray], max_seconds: float) -> np.ndarray:
    """wave_N of an open recording; if its length is known, peak memory is the result plus one block."""
    read = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal read
        for block_S in blocks:
            read += len(block_S)
            _check_size(file.name, read, file.rate, max_seconds)
            yield block_S

    done, parts = 0, []
    wave_N = None if file.frames is None else np.zeros(_length(file.frames, file.rate), np.float32)
    for block_N in resampled(counted(), file.rate):
        if wave_N is None:
            parts.append(block_N)
        else:
            block_N = block_N[: len(wave_N) - done]
            wave_N[done : done + len(block_N)] = block_N
        done += len(block_N)
    if wave_N is None:
        size = _length(read, file.rate)
        wave_N = np.concatenate([*parts, np.zeros(max(0, size - done), np.float32)])[:size]
    return wave_N


def _length(samples: int, rate) -> int:
    """Number of samples at 16 kHz; a part of one at the end is a zero, as librosa has it."""
    return math.ceil(samples * (SAMPLE_RATE / rate))


def _as_array(values) -> np.ndarray:
    """An array of anything that can be one, as lists of numbers and tensors."""
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # rows of unequal lengths, a tensor elsewhere
        kind, reason = type(values).__name__, " ".join(str(error).split())[:200]
        raise UserError(f"audio of type {kind}: cannot be made an array ({reason})") from None
