"""Recordings that libsndfile reads: wav and its relatives, flac, ogg, opus, aiff, au, caf.

It shortens a file whose header declares more than there is, and of several files end to end it hears the
first; both would be a transcript of a part, so here they are found.

It reads through callbacks in Python, in which an exception would be printed and lost: a signal waits until
the call is over (`steady`).

Legend: S samples at the recording's own rate, C channels.
"""

import io
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.interrupts import steady
from mindspore_osum.speech.opening import Nameless
from mindspore_osum.speech.samples import BLOCK_VALUES

# If a file is shorter than its header declares, libsndfile shortens the length and only logs it. Writers to a
# pipe do not know the length and declare about 2 or 4 GiB; others include the header: both are complete.
_DECLARED_BYTES = re.compile(r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", re.M)
_UNKNOWN_LENGTH = 0x7FFFFFFF - 4096
_HEADER_SLACK = 64
_UNKNOWN_FRAMES = 2**62  # libsndfile reports 2**63 - 1 if a FLAC stream has no length
_OGG_PAGE = 2**16  # bytes; no page is longer
_FLAC_START = b"fLaC\0\0\0\x22"  # marker and header of the first block, which is 34 bytes long
_FLAC_REST = 2**16  # bytes that may follow the last frame: tags of other formats
_OGG_START = b"OggS\0\2" + bytes(8)  # a page that begins a stream, and what stands before its number
_SCAN = 2**22  # bytes searched at once
_W64 = b"riff\x2e\x91\xcf\x11"


def is_sound_file(head: bytes) -> bool:
    """Whether the first 12 bytes are of a kind that libsndfile reads."""
    return (
        head[:4] in (b"RIFF", b"RIFX", b"RF64")
        and head[8:12] == b"WAVE"
        or head[:4] in (b"fLaC", b"OggS", b"caff", b".snd", b"dns.")
        or head[:4] == b"FORM"
        and head[8:11] == b"AIF"
        or head[:8] in (_W64, b"NIST_1A\n")
    )


class SoundFile:
    """An open recording.

    Attributes
    ----------
    rate : Hz.
    channels : their number.
    frames : samples of each channel, according to the header.
    """

    def __init__(self, name: str, stream: io.BufferedIOBase, stack: ExitStack):
        import soundfile

        self.name, self._stream = name, stream
        with steady():
            self._file = stack.enter_context(soundfile.SoundFile(Nameless(stream)))
        self.rate, self.channels, self.frames = self._file.samplerate, self._file.channels, self._file.frames

    def seconds(self) -> float:
        """Length according to the header."""
        return self.frames / self.rate

    def blocks(self) -> Iterator[np.ndarray]:
        """x_SC float32, in pieces; an incomplete file is refused at its end."""
        import soundfile

        block, done = max(1, BLOCK_VALUES // self.channels), 0
        try:
            while done < self.frames:
                with steady():
                    x_SC = self._file.read(block, dtype="float32", always_2d=True)
                if not len(x_SC):
                    break
                yield x_SC
                done += len(x_SC)
        except soundfile.LibsndfileError as error:
            raise UserError(
                f"{self.name}: damaged or incomplete after {done / self.rate:.2f} s ({reason(error)})"
            ) from error
        self._check_complete(done)

    def _check_complete(self, done: int) -> None:
        """Refuse a file that is shorter or longer than declared: its transcript would not match."""
        kind, seconds, reached = self._file.format, done / self.rate, self._stream.tell()
        if done < self.frames or _is_cut(self._file.extra_info) or kind == "OGG" and not self._last_page()[0]:
            raise UserError(
                f"{self.name}: incomplete, only {seconds:.2f} s of it are there; copy it again, or "
                "convert it to flac if nothing is missing"
            )
        if kind == "FLAC" and self._stream.seek(0, os.SEEK_END) - reached > _FLAC_REST:
            raise UserError(
                f"{self.name}: damaged, its header declares {seconds:.2f} s and more follows; copy it again"
            )
        start = _OGG_START + self._stream_number(0) if kind == "OGG" else _FLAC_START
        if kind in ("OGG", "FLAC") and _holds_again(self._stream, start):
            raise UserError(f"{self.name}: another file follows after {seconds:.2f} s; give them one by one")

    @property
    def belongs_to_ffmpeg(self) -> bool:
        """Whether libsndfile would not read all: the length is left open, or Ogg streams in a row."""
        if self.frames >= _UNKNOWN_FRAMES:
            return True
        if self._file.format == "OGG":
            first = self._stream_number(0)
            complete, last = self._last_page()
            self._stream.seek(0)
            return complete and last != first
        if self.frames == 0 and self._file.format in ("WAV", "WAVEX"):
            return self._declared_size() != self._stream.seek(0, os.SEEK_END)
        return False

    def _declared_size(self) -> int:
        self._stream.seek(4)
        return int.from_bytes(self._stream.read(4), "little") + 8

    def _stream_number(self, at: int) -> bytes:
        self._stream.seek(at)
        return self._stream.read(18)[14:]

    def _last_page(self) -> tuple[bool, bytes]:
        """Whether an Ogg file ends with a whole last page, and that page's stream (RFC 3533, section 6)."""
        self._stream.seek(max(0, self._stream.seek(0, os.SEEK_END) - _OGG_PAGE))
        tail = self._stream.read()
        page = tail[tail.rfind(b"OggS") :]
        if len(page) < 27:
            return False, b""
        flags, segments = page[5], page[26]
        whole = len(page) >= 27 + segments + sum(page[27 : 27 + segments])
        return bool(flags & 4) and whole, page[14:18]


def reason(error) -> str:
    """What libsndfile says, as one line."""
    return " ".join(error.error_string.split()).rstrip(".") or "unknown format"


def _is_cut(log: str) -> bool:
    """Whether libsndfile's log reports a chunk shorter than declared (wav, rf64, w64, aiff, au)."""
    declared = _DECLARED_BYTES.search(log)
    return bool(declared) and int(declared[2]) + _HEADER_SLACK < int(declared[1]) < _UNKNOWN_LENGTH


def _holds_again(stream, mark: bytes) -> bool:
    """Whether these bytes are anywhere after the start of a stream."""
    stream.seek(len(mark))
    tail = b""
    while data := stream.read(_SCAN):
        if mark in (tail := tail + data):
            return True
        tail = tail[-len(mark) :]
    return False
