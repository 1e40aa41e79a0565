"""The default microphone: bytes of 16-bit samples, one channel, as they are heard.

Notable choices
- PortAudio's thread must not wait, so its samples go into a queue of limited length. If the reader
  falls further behind, the stream ends with an error: a recording never has a gap.
"""

import queue
from collections.abc import Callable, Iterator

from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import SAMPLE_RATE

_PIECE = SAMPLE_RATE // 10  # samples of one piece
_WAITING = 3000  # maximum queued pieces: five minutes, in which the first graphs compile
_SILENT_SECONDS = 1.0  # without a piece, after which the device is asked whether it is still there


def microphone() -> Iterator[bytes]:
    """Sound of the default microphone, at 16 kHz.

    Raises
    ------
    UserError : no library, no microphone, a disconnected one, or lost sound.
    """
    try:
        import sounddevice
    except ImportError:
        raise UserError(
            'the microphone needs sounddevice: pip install "mindspore_osum[microphone]", or pipe the sound: '
            "arecord -f S16_LE -r 16000 | osum transcribe --stream -"
        ) from None
    except OSError:  # the module without the library that it wraps
        raise UserError(
            "the microphone needs PortAudio: apt install libportaudio2, or pipe the sound: "
            "arecord -f S16_LE -r 16000 | osum transcribe --stream -"
        ) from None
    return _recorded(sounddevice)


def _recorded(sounddevice) -> Iterator[bytes]:
    waiting = Waiting()
    try:
        with sounddevice.RawInputStream(
            samplerate=SAMPLE_RATE, channels=1, dtype="int16", blocksize=_PIECE, callback=waiting.take
        ) as stream:
            yield from waiting.pieces(lambda: stream.active)
    except sounddevice.PortAudioError as error:
        raise UserError(f"the microphone does not work ({error}); is one connected?") from None


class Waiting:
    """The queue between PortAudio's thread, which fills it, and the reader."""

    def __init__(self):
        self._heard: queue.Queue[bytes] = queue.Queue(_WAITING)
        self._lost = False

    def take(self, data, frames: int, time, status) -> None:
        """PortAudio's callback. After a loss nothing more is taken: it would follow a gap."""
        self._lost = self._lost or status.input_overflow or self._heard.full()
        if not self._lost:
            self._heard.put_nowait(bytes(data))

    def pieces(self, active: Callable[[], bool]) -> Iterator[bytes]:
        """In order, while the device is `active`."""
        while True:
            try:
                data = self._heard.get(timeout=_SILENT_SECONDS)
            except queue.Empty:
                if self._lost:
                    raise UserError(
                        "the microphone: sound was lost, since this machine does not keep up; "
                        "close other programs, or record a file and give that"
                    ) from None
                if not active():
                    raise UserError("the microphone stopped; is it still connected?") from None
                continue
            yield data
