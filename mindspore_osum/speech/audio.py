"""Any recording -> mono float32 samples at 16 kHz.

Legend: N samples at 16 kHz, S samples at the recording's own rate, C channels.
"""

from __future__ import annotations

import io
import numbers
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.speech.config import SAMPLE_RATE

MAX_SECONDS = 3 * 3600.0
"""Longest recording taken by default, in seconds (0.7 GB as float32 at 16 kHz)."""

_RATES = (1_000, 384_000)  # Hz; a rate outside this range means a damaged header or no speech
_MAX_SAMPLES = 2**29  # before resampling: 2 GiB as float32, 3.1 h at 48 kHz
_BLOCK_VALUES = 2**18  # samples x channels decoded at once: memory does not depend on channels
_INTEGER_SCALES = {"int16": (0, 2**15), "int32": (0, 2**31), "uint8": (128, 2**7)}  # zero level, full scale

# If a file is shorter than its header declares, libsndfile shortens the length and only logs it. Writers to a
# pipe do not know the length and declare about 2 or 4 GiB; others include the header: both are complete.
_DECLARED_BYTES = re.compile(r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", re.M)
_UNKNOWN_LENGTH = 0x7FFFFFFF - 4096
_HEADER_SLACK = 64
_UNKNOWN_FRAMES = 2**62  # libsndfile reports 2**63 - 1 if a FLAC stream has no length
_OGG_PAGE = 2**16  # bytes; no page is longer
_MP3_PADDING = 4096  # bytes; an encoder pads its last two or three frames, at most 1 kB each


@dataclass(frozen=True, slots=True)
class FilePart:
    """A recording inside another file, for example a member of a tar; it is read without unpacking."""

    path: str
    offset: int  # bytes
    size: int  # bytes
    name: str  # of the recording, for errors

    def __str__(self) -> str:
        return f"{self.path}:{self.name}"


class _PartReader(io.RawIOBase):
    """The bytes of a `FilePart` as a stream."""

    def __init__(self, file, part: FilePart):
        self._file, self._part, self._at = file, part, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._part.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer) -> int:
        size = max(0, min(len(buffer), self._part.size - self._at))
        self._file.seek(self._part.offset + self._at)
        data = self._file.read(size)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def load_audio(source, *, max_seconds: float = MAX_SECONDS) -> np.ndarray:
    """Decode a recording, average its channels and resample it to 16 kHz (soxr HQ, as librosa does).

    Parameters
    ----------
    source : str, os.PathLike, bytes, binary file object, FilePart, or tuple (array, rate)
        Audio in any format libsndfile reads (wav, flac, ogg, opus, mp3, ...). A file object is read from
        its start, must be able to seek, is not closed, and its ``name`` appears in errors.
        An array is (S,) or (S, C), float of any scale, or int16, int32, uint8 at full scale; rate in Hz.
    max_seconds : float
        Longer recordings are refused from the header alone, before memory is allocated.

    Returns
    -------
    np.ndarray
        wave_N, float32, N = ceil(S * 16000 / rate) >= 1, a new array. Integer formats are scaled to [-1, 1);
        float values, also those beyond [-1, 1], stay as they are.

    Raises
    ------
    UserError
        Missing, unreadable, not audio, empty, too long, not finite, an impossible rate, or incomplete.
        Files that libsndfile would silently truncate are refused (except NIST SPHERE: not detected).
    """
    if isinstance(source, tuple):
        wave_S, rate = _from_array(source, max_seconds)
    else:
        with _opened(source) as (name, stream, file):
            rate = file.samplerate
            _check_size(name, file.frames, rate, max_seconds)
            wave_S = _decode(name, stream, file)
    if rate == SAMPLE_RATE:
        return wave_S
    import librosa  # over a second to import, and most recordings do not need it

    return librosa.resample(wave_S, orig_sr=rate, target_sr=SAMPLE_RATE, res_type="soxr_hq")


def audio_blocks(source) -> Iterator[np.ndarray]:
    """A recording of any length, in pieces, so that memory is bounded.

    Parameters
    ----------
    source : str, os.PathLike, bytes, binary file object, FilePart, or tuple (array, rate)
        As in `load_audio`.

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
    if isinstance(source, tuple):
        name, x_SC, rate = _checked_array(source, float("inf"))
        starts = range(0, len(x_SC), _BLOCK_VALUES)
        parts = (array_part(name, x_SC[i : i + _BLOCK_VALUES], i / rate, rate) for i in starts)
        yield from resampled(parts, rate)
        return
    with _opened(source) as (name, stream, file):
        _check_rate(name, file.samplerate)
        _check_length(name, file.frames)
        yield from resampled(_blocks(name, stream, file), file.samplerate)


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
    """Length of a recording in seconds, from its header, without decoding it.

    Parameters
    ----------
    source : str, os.PathLike, bytes, binary file object, FilePart, or tuple (array, rate)
        As in `load_audio`.

    Returns
    -------
    float
        Seconds, > 0, as declared by the header: an estimate for an MP3 without a length header.

    Raises
    ------
    UserError
        As `load_audio`, for errors that the header shows; there is no limit of length.
    """
    if isinstance(source, tuple):
        _, x_SC, rate = _checked_array(source, float("inf"))
        return len(x_SC) / rate
    with _opened(source) as (name, _, file):
        _check_rate(name, file.samplerate)
        _check_length(name, file.frames)
        return file.frames / file.samplerate


@contextmanager
def _opened(source):
    """Yield (name for errors, binary stream, soundfile.SoundFile), and close what was opened here."""
    import soundfile

    with ExitStack() as stack:
        if isinstance(source, (bytes, bytearray, memoryview)):
            name, stream = "audio bytes", io.BytesIO(source)
        elif isinstance(source, (str, os.PathLike)):
            name = os.fsdecode(source)
            stream = stack.enter_context(_open_path(name))
        elif isinstance(source, FilePart):
            name, file = str(source), stack.enter_context(_open_path(source.path))
            stream = io.BufferedReader(_PartReader(file, source))
        elif hasattr(source, "read"):
            name, stream = str(getattr(source, "name", None) or "audio file object"), source
        else:
            raise UserError(
                f"audio source of type {type(source).__name__}: give a path, bytes, a binary "
                "file object, a FilePart or a tuple (array, rate)"
            )
        _check_stream(name, stream)
        try:
            file = stack.enter_context(soundfile.SoundFile(stream))
        except soundfile.LibsndfileError as error:
            raise UserError(
                f"{name}: not audio that can be read ({_reason(error)}); give wav, flac, ogg or mp3"
            ) from error
        except TypeError as error:  # soundfile takes the name *.raw for samples without a header
            raise UserError(f"{name}: raw samples have no rate; load them and give (array, rate)") from error
        yield name, stream, file


def _open_path(name: str):
    try:
        if os.path.exists(name) and not os.path.isfile(name):  # opening a named pipe could block forever
            kind = "a directory" if os.path.isdir(name) else "a device or a pipe"
            raise UserError(f"{name}: is {kind}, not an audio file")
        return open(name, "rb")
    except FileNotFoundError as error:
        raise UserError(f"{name}: no such audio file") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{name!r}: cannot open the audio file ({reason})") from error


def _check_stream(name: str, stream) -> None:
    if isinstance(stream, io.TextIOBase):
        raise UserError(f"{name}: is open as text; open it with mode 'rb'")
    if not stream.seekable():
        raise UserError(f"{name}: cannot seek in this stream; read it and give the bytes")
    if stream.seek(0, os.SEEK_END) == 0:
        raise UserError(f"{name}: the file is empty (0 bytes)")
    stream.seek(0)


def _reason(error) -> str:
    return " ".join(error.error_string.split()).rstrip(".") or "unknown format"


def _check_rate(name: str, rate) -> None:
    valid = isinstance(rate, numbers.Real) and not isinstance(rate, bool) and _RATES[0] <= rate <= _RATES[1]
    if not valid:
        raise UserError(f"{name}: sample rate {rate!r}, it must be between {_RATES[0]} and {_RATES[1]} Hz")


def _check_length(name: str, samples: int) -> None:
    if samples <= 0:
        raise UserError(f"{name}: no audio in it (0 samples); it is empty or was truncated after its header")
    if samples >= _UNKNOWN_FRAMES:
        raise UserError(
            f"{name}: its header does not say how long it is; encode it again, to a file and not "
            "through a pipe"
        )


def _check_size(name: str, samples: int, rate, max_seconds: float) -> None:
    _check_rate(name, rate)
    _check_length(name, samples)
    seconds = samples / rate
    if seconds > max_seconds:
        raise UserError(
            f"{name}: {seconds:.2f} s of audio, the limit is {max_seconds:g} s; split it into "
            "parts or raise max_seconds"
        )
    if samples > _MAX_SAMPLES:
        raise UserError(
            f"{name}: {samples} samples at {rate} Hz, the limit is {_MAX_SAMPLES}; split it into "
            f"parts or resample it to {SAMPLE_RATE} Hz"
        )


def _decode(name: str, stream, file) -> np.ndarray:
    """wave_S of an open file; peak memory is the result plus one block."""
    wave_S = np.empty(file.frames, np.float32)
    done = 0
    for block_S in _blocks(name, stream, file):
        wave_S[done : done + len(block_S)] = block_S
        done += len(block_S)
    return wave_S


def _blocks(name: str, stream, file) -> Iterator[np.ndarray]:
    """wave_S of an open file, in pieces; an incomplete file is refused at its end."""
    import soundfile

    block = max(1, _BLOCK_VALUES // file.channels)
    done = 0
    try:
        while done < file.frames:
            x_SC = file.read(block, dtype="float32", always_2d=True)
            if not len(x_SC):
                break
            yield _mono(name, x_SC, done / file.samplerate, file.samplerate)
            done += len(x_SC)
    except soundfile.LibsndfileError as error:
        raise UserError(
            f"{name}: damaged after {done / file.samplerate:.2f} s ({_reason(error)}); "
            "copy or export it again"
        ) from error
    _check_complete(name, stream, file, done)


def _check_complete(name: str, stream, file, done: int) -> None:
    """Refuse a file that is shorter or longer than its header declares: its transcript would not match."""
    seconds = done / file.samplerate
    if (
        done < file.frames
        or _is_cut(file.extra_info)
        or file.format == "OGG"
        and not _ends_with_last_page(stream)
    ):
        raise UserError(
            f"{name}: incomplete, only {seconds:.2f} s of it are there; copy it again, or "
            "convert it to flac if nothing is missing"
        )
    if file.format == "MP3":  # without a length header libsndfile guesses one, and stops there
        rest = stream.read(_MP3_PADDING)
        if len(rest) == _MP3_PADDING and rest[0] == 0xFF and rest[1] >= 0xE0:  # the next frame's sync word
            raise UserError(
                f"{name}: goes on after the {seconds:.2f} s found from its header; convert it to flac"
            )


def _is_cut(log: str) -> bool:
    """Whether libsndfile's log reports a chunk shorter than declared (wav, rf64, w64, aiff, au)."""
    declared = _DECLARED_BYTES.search(log)
    return bool(declared) and int(declared[2]) + _HEADER_SLACK < int(declared[1]) < _UNKNOWN_LENGTH


def _ends_with_last_page(stream) -> bool:
    """Whether an Ogg stream ends with a whole page that is marked as the last (RFC 3533, section 6)."""
    stream.seek(max(0, stream.seek(0, os.SEEK_END) - _OGG_PAGE))
    tail = stream.read()
    page = tail[tail.rfind(b"OggS") :]
    if len(page) < 27:
        return False
    flags, segments = page[5], page[26]
    return bool(flags & 4) and len(page) >= 27 + segments + sum(page[27 : 27 + segments])


def _from_array(source: tuple, max_seconds: float):
    """(wave_S, rate) of a tuple (array (S,) or (S, C), rate)."""
    name, x_SC, rate = _checked_array(source, max_seconds)
    return array_part(name, x_SC, 0.0, rate), rate


def _checked_array(source: tuple, max_seconds: float):
    """(name for errors, x_SC as given, rate) of a tuple (array, rate); nothing is copied."""
    if len(source) != 2:
        raise UserError(f"audio given as a tuple of {len(source)}: it must be (array, rate)")
    x_SC, rate = np.asarray(source[0]), source[1]
    name = f"audio array {x_SC.shape} {x_SC.dtype}"
    if x_SC.ndim == 1:
        x_SC = x_SC[:, None]
    if x_SC.ndim != 2 or x_SC.shape[1] == 0:
        raise UserError(f"{name}: the shape must be (samples,) or (samples, channels)")
    if x_SC.shape[1] > x_SC.shape[0] > 0:
        raise UserError(f"{name}: more channels than samples; the shape must be (samples, channels)")
    if x_SC.dtype.kind != "f" and x_SC.dtype.name not in _INTEGER_SCALES:
        raise UserError(f"{name}: the type must be float, {', '.join(_INTEGER_SCALES)}")
    _check_size(name, len(x_SC), rate, max_seconds)
    return name, x_SC, rate


def array_part(name: str, x_SC: np.ndarray, start: float, rate) -> np.ndarray:
    """wave_S of samples that begin at `start` seconds: as scaled floats, averaged to one channel."""
    zero, scale = _INTEGER_SCALES.get(x_SC.dtype.name, (0, 1))
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes Inf and is refused by name
        x_SC = x_SC.astype(np.float32)
    if scale != 1:
        x_SC -= zero
        x_SC /= scale
    return _mono(name, x_SC, start, rate)


def _mono(name: str, x_SC: np.ndarray, start: float, rate) -> np.ndarray:
    """Mean over channels, (S,) float32, refused if not finite; the first row is at `start` seconds."""
    channels = x_SC.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        wave_S = x_SC @ np.full(channels, 1 / channels, np.float32)  # 20 times as fast as mean(axis=1)
    bad_S = ~np.isfinite(wave_S)
    if bad_S.any():
        raise UserError(
            f"{name}: NaN or infinite sample at {start + bad_S.argmax() / rate:.4f} s; "
            "export the recording again"
        )
    return wave_S
