"""Recordings that FFmpeg reads (PyAV): mp3, m4a, wma, webm and more, and the sound of films.

Notable choices
- The kind is decided by the content. A recording is read through a Python stream, in the formats listed here
  alone and without any protocol: playlists, images and subtitles are not, and no file can name another one.
- Headers of these formats often have no length, or a wrong one: packets are counted where there is no index.
- A silence that only the clock shows (sound that begins after the picture, pauses that were not sent) is
  filled in, so that times are those of the film.
- FFmpeg, too, reads through callbacks in Python: see sound_file.py.

Legend: S samples at the recording's own rate, C channels.
"""

import io
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.interrupts import steady
from mindspore_osum.speech.opening import Nameless
from mindspore_osum.speech.samples import BLOCK_VALUES, as_float

# FFmpeg's names of what is read: with the length in the header, and without
_INDEXED = "mov,mp4,m4a,3gp,3g2,matroska,webm,asf,avi,flv,wav,w64,aiff,caf,wv,ape,tta,mxf,rm"
_STREAMS = "mp3,aac,loas,ac3,eac3,dts,amr,amrnb,amrwb,flac,ogg,au,tak,mpc,mpc8,dsf,oma,voc,mpeg,mpegts,nut"
_HOW = {"protocol_whitelist": "none", "format_whitelist": f"{_INDEXED},{_STREAMS}"}
_MOST_CHANNELS = 64
_GAP = 0.1  # seconds missing by the clock that are filled in; less is rounding
_LONGEST_GAP = 3600.0  # seconds; more is a clock that was set anew
_MOST_GAPS = 24 * 3600.0  # seconds of them all: a small file must not become endless
_SHORT, _SHORT_MP3 = 0.5, 0.05  # seconds that a complete recording may be shorter than its header says
_LONGEST_PACKET = 60.0  # seconds
_BEGINNING = 4096  # bytes
_LOST, _LOST_PART = 0.1, 0.02  # seconds, and part of all, that may be damaged: between two files end to end


class Media:
    """An open recording; it is read once, by `seconds` or by `blocks`.

    Attributes
    ----------
    rate : Hz.
    channels : at its beginning.
    frames : None, as the number of samples is known only when they are decoded.
    declared : seconds, where the header is dependable, else None.
    """

    frames = None

    def __init__(self, name: str, stream: io.BufferedIOBase, stack: ExitStack):
        self.name, self._stream = name, stream
        self._container = self._open(stack)
        self._kind = self._container.format.name.split(",")[0]
        self._audio = audio = self._container.streams.best("audio")
        if audio is None or audio.codec_context is None:
            kinds = ", ".join(sorted({other.type for other in self._container.streams})) or "nothing"
            raise UserError(f"{name}: no sound in it that can be read (it holds {kinds})")
        self.rate, self.channels = audio.codec_context.sample_rate, audio.codec_context.layout.nb_channels
        if not 1 <= self.channels <= _MOST_CHANNELS:
            raise UserError(f"{name}: {self.channels} channels, it must be 1 to {_MOST_CHANNELS}")
        for other in self._container.streams:
            if other is not audio:
                other.discard = type(other.discard)["all"]
        indexed = self._kind in _INDEXED.split(",")
        self.declared = self._declared(self._container) if indexed else None
        self._first = 0  # byte at which the sound begins

    def _open(self, stack: ExitStack):
        import av

        self._stream.seek(0)
        try:
            with steady():
                return stack.enter_context(av.open(Nameless(self._stream), options=_HOW))
        except (av.FFmpegError, ValueError) as error:
            self._stream.seek(0)
            if self._stream.read(8)[4:] == b"ftyp":
                why = "incomplete or damaged, its index is missing; copy it again"
            else:
                why = "not audio that can be read, or too damaged; give wav, flac, mp3, m4a or the like"
            if self.name.endswith((".raw", ".pcm")):
                why = "bare samples do not say their rate; load them and give (array, rate)"
            raise UserError(f"{self.name}: {why}") from error

    def _declared(self, container) -> float | None:
        """Seconds of sound in the header; the container's own where there is nothing else in it."""
        import av

        if (audio := container.streams.best("audio")).duration:
            return float(audio.duration * audio.time_base)
        alone = len(container.streams) == 1
        return container.duration / av.time_base if container.duration and alone else None

    def seconds(self) -> float:
        """Length: as declared, else by counting packets, without decoding."""
        return self.declared or sum(map(self._seconds, self._packets()))

    def _seconds(self, packet) -> float:
        """Of the sound in a packet, without what is only there for the codec."""
        skipped = 0
        for side in packet.iter_sidedata():
            if side.data_type == "skip_samples":
                skipped += int(np.frombuffer(bytes(side)[:8], "<u4").sum())
        seconds = float((packet.duration or 0) * packet.time_base) - skipped / self.rate
        return seconds if abs(seconds) < _LONGEST_PACKET else 0.0  # of chained ogg some overflow

    def _packets(self) -> Iterator:
        import av

        packets = self._container.demux(self._audio)
        try:
            while True:
                try:
                    with steady():
                        packet = next(packets, None)
                except IndexError:  # of a stream that PyAV does not list: one byte in a transport stream
                    packets = self._container.demux(self._audio)  # goes on behind it
                    continue
                if packet is None:
                    return
                yield packet
        except av.FFmpegError as error:
            why = f"damaged, cannot be read to its end ({error.strerror})"
            raise UserError(f"{self.name}: {why}") from error

    def blocks(self) -> Iterator[np.ndarray]:
        """x_SC float32, in pieces; damage is found at the end."""
        kept, values = [], 0
        for x_SC in self._pieces():
            if kept and (values + x_SC.size > BLOCK_VALUES or kept[-1].shape[1] != x_SC.shape[1]):
                yield np.concatenate(kept)
                kept, values = [], 0
            kept.append(x_SC)
            values += x_SC.size
        if kept:
            yield np.concatenate(kept)

    def _pieces(self) -> Iterator[np.ndarray]:
        """x_SC of every frame, and silence where the clock jumps."""
        import av

        heard = lost = gaps = 0.0
        begin, timed = self._container.start_time, self._kind in (*_INDEXED.split(","), "mpegts")
        due = None if begin is None else begin / av.time_base
        convert = _Converter(self.rate)
        for number, packet in enumerate(self._packets()):
            self._first = self._first if number else packet.pos or 0
            try:
                frames = packet.decode()
            except av.FFmpegError:
                lost += self._seconds(packet)
                continue
            for frame in frames:
                now = due if frame.time is None else frame.time
                if timed and due is not None and _GAP < now - due < _LONGEST_GAP:
                    heard += (now - due) * (heard > 0)  # a header does not count what is before the first
                    if (gaps := gaps + now - due) > _MOST_GAPS:
                        raise UserError(
                            f"{self.name}: its clock leaves out over {_MOST_GAPS / 3600:g} hours; convert it"
                        )
                    yield from self._silence(now - due, frame.layout.nb_channels)
                yield from convert(frame)
                heard += frame.samples / frame.sample_rate
                due = (now or 0.0) + frame.samples / frame.sample_rate
        yield from convert(None)
        self._check_complete(heard, lost)

    def _silence(self, seconds: float, channels: int) -> Iterator[np.ndarray]:
        missing, most = round(seconds * self.rate), BLOCK_VALUES // channels
        for start in range(0, missing, most):
            yield np.zeros((min(most, missing - start), channels), np.float32)

    def _check_complete(self, heard: float, lost: float) -> None:
        """Refuse what is damaged, or shorter than its header declares: its transcript would not match."""
        slack = _SHORT_MP3 if self._kind == "mp3" else _SHORT
        if self._kind == "mp3":
            self.declared = self._declared_at_first()
        if lost > max(_LOST, _LOST_PART * heard):
            raise UserError(f"{self.name}: damaged, {lost:.2f} s of it cannot be decoded; copy it again")
        if heard and self.declared and heard < self.declared - slack:
            raise UserError(
                f"{self.name}: incomplete, only {heard:.2f} of {self.declared:.2f} s are there; copy it "
                "again, or convert it to flac if nothing is missing"
            )

    def _declared_at_first(self) -> float | None:
        """Seconds that the first frame of an mp3 declares.

        Where none does, FFmpeg makes an estimate from the size, so it is shown the beginning alone.
        """
        import av

        self._stream.seek(0)
        beginning = io.BytesIO(self._stream.read(self._first + _BEGINNING))
        with steady(), av.open(beginning, format="mp3", options=_HOW) as container:
            return self._declared(container)


class _Converter:
    """Frames -> x_SC float32; where the rate changes, as in files end to end, to that of the beginning."""

    def __init__(self, rate: int):
        self._rate, self._kind, self._resampler = rate, None, None

    def __call__(self, frame) -> Iterator[np.ndarray]:
        """x_SC of a frame; of what the resampler holds back, if there is none any more."""
        import av

        kind = frame and (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:
            if self._resampler:
                yield from map(_samples, self._resampler.resample(None))
            self._kind, self._resampler = kind, None
            if frame and (frame.sample_rate != self._rate or "64" in frame.format.name):
                self._resampler = av.AudioResampler("fltp", frame.layout, self._rate)
        if frame:
            frames = self._resampler.resample(frame) if self._resampler else [frame]
            yield from map(_samples, frames)


def _samples(frame) -> np.ndarray:
    x = frame.to_ndarray()
    return as_float(x.T if frame.format.is_planar else x.reshape(-1, frame.layout.nb_channels))
