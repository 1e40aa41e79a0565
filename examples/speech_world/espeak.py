"""espeak-ng as a function: from text, voice, rate and pitch to samples and the start of every word.

Notable choices
- The library is called, since the program gives no word timestamps. Each call runs in a forked process:
  within one process espeak-ng keeps state between utterances (after a change of variant, lengths and even the
  set of loadable voices differ), so only a fresh one makes samples that depend on their own settings alone.
- Most of the start-up time is a scan of about 200 voice files (at most 349). A private data folder, with
  links to the few that are used and the speaker as a variant, avoids it.
- espeak-ng speaks pairs such as "on the" as one word; the second start is interpolated by number of letters.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
from voices import LANGUAGE_FAMILIES, Speaker

from mindspore_osum.errors import UserError

INSTALL = "bash examples/speech_world/install_espeak.sh"
LIBRARY = "libespeak-ng.so.1"
# espeak-ng/speak_lib.h
SYNCHRONOUS, DONT_EXIT, UTF8, CHARACTERS = 2, 0x8000, 1, 1
RATE, PITCH, RANGE = 1, 3, 4
END_OF_LIST, WORD = 0, 1


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),  # characters, the first is 1
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    ]


_SAMPLES, _EVENTS = ctypes.POINTER(ctypes.c_short), ctypes.POINTER(_Event)
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, _SAMPLES, ctypes.c_int, _EVENTS)


def installation() -> tuple[str, Path]:
    """Version and data folder of the installed espeak-ng.

    Raises
    ------
    UserError
        It is not installed.
    """
    if shutil.which("espeak-ng") is None:
        raise UserError(f"espeak-ng is not installed; run `{INSTALL}`")
    said = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True).stdout
    found = re.search(r"text-to-speech: (\S+).*Data at: (.+)", said)
    if found is None:
        raise UserError(f"espeak-ng --version says {said.strip()!r}, no version and data folder; reinstall")
    try:
        ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise UserError(f"espeak-ng's library cannot be loaded ({error}); run `{INSTALL}`") from None
    return found[1], Path(found[2].strip())


def link_data(source: Path, folder: Path) -> None:
    """Fill `folder` with the data that `speak` needs for the speech world's languages and speakers."""
    root = folder / "espeak-ng-data"
    (root / "lang").mkdir(parents=True)
    (root / "voices" / "!v").mkdir(parents=True)
    wanted = [path.name for path in source.iterdir() if path.is_file()]
    wanted += [f"lang/{family}" for family in LANGUAGE_FAMILIES]
    for name in wanted:
        if not (source / name).exists():
            raise UserError(f"{source / name} is missing; install espeak-ng 1.51 or later with all voices")
        (root / name).symlink_to(source / name)


def speak(
    text: str, accent: str, speaker: Speaker, rate: int, pitch: int, tones: int, data: Path
) -> tuple[np.ndarray, int, list[int]]:
    """Synthesise `text` (for Chinese: pinyin).

    Parameters
    ----------
    accent : name of an espeak-ng voice
    rate : words per minute
    pitch : 0..99, 50 is the voice's default
    tones : pitch range, 0..99, 50 is the voice's default
    data : folder made by `link_data`

    Returns
    -------
    samples, int16 (N,), their rate in Hz, and the sample at which each word of the text starts

    Raises
    ------
    UserError
        espeak-ng fails or returns no samples.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            variant = data / "espeak-ng-data" / "voices" / "!v" / f"p{os.getpid()}"
            variant.write_text(speaker.variant)
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(_synthesise(text, f"{accent}+{variant.name}", rate, pitch, tones, data))
            variant.unlink()
            code = 0
        finally:
            os._exit(code)  # without cleaning up the parent's files and locks
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    header = np.frombuffer(said[:8], "<i4")
    if status or len(header) < 2 or len(said) <= 8 + 8 * header[1]:
        raise UserError(f"espeak-ng said nothing: {accent}+{speaker.name}, rate {rate}, {text!r}")
    hz, count = map(int, header)
    events = np.frombuffer(said[8 : 8 + 8 * count], "<i4").reshape(-1, 2)
    samples = np.frombuffer(said[8 + 8 * count :], "<i2")
    return samples, hz, word_starts(text, events, len(samples))


def _synthesise(text: str, voice: str, rate: int, pitch: int, tones: int, data: Path) -> bytes:
    """int32 rate and event count; int32 (character, sample) of each event; int16 samples."""
    library = ctypes.CDLL(LIBRARY)
    ctypes.CDLL(None).srand(1)  # for breath and roughness; the parent may have drawn numbers already
    chunks, events = [], []

    def receive(wave, count, found):
        if count > 0 and wave:
            chunks.append(ctypes.string_at(wave, 2 * count))
        index = 0
        while found[index].type != END_OF_LIST:
            if found[index].type == WORD:
                events.append((found[index].text_position - 1, found[index].sample))
            index += 1
        return 0

    hz = library.espeak_Initialize(SYNCHRONOUS, 0, str(data).encode(), DONT_EXIT)
    callback = _CALLBACK(receive)
    library.espeak_SetSynthCallback(callback)
    if hz <= 0 or library.espeak_SetVoiceByName(voice.encode()) != 0:
        return b""
    for name, value in ((RATE, rate), (PITCH, pitch), (RANGE, tones)):
        library.espeak_SetParameter(name, value, 0)
    said = text.encode()
    library.espeak_Synth(said, len(said) + 1, 0, CHARACTERS, 0, UTF8, None, None)
    library.espeak_Synchronize()
    header = np.array([hz, len(events)], "<i4").tobytes()
    return header + np.array(events, "<i4").reshape(-1, 2).tobytes() + b"".join(chunks)


def word_starts(text: str, events: np.ndarray, samples: int) -> list[int]:
    """Start sample of each word; words without an event are interpolated by number of letters.

    Parameters
    ----------
    events : (E, 2), character and sample of each word that espeak-ng reported; the first always is.
    """
    places = [match.start() for match in re.finditer(r"\S+", text)]
    told = {int(place): int(sample) for place, sample in events}
    starts = [told.get(place, -1) for place in places]
    if not starts or starts[0] < 0:
        raise UserError(f"espeak-ng did not report where {text!r} starts")
    known = [i for i, start in enumerate(starts) if start >= 0] + [len(starts)]
    starts, places = [*starts, samples], [*places, len(text)]
    for first, last in zip(known, known[1:], strict=False):
        for i in range(first + 1, last):
            share = (places[i] - places[first]) / (places[last] - places[first])
            starts[i] = round(starts[first] + share * (starts[last] - starts[first]))
    return starts[:-1]
