"""A folder of new recordings with their manifest, which is taken up where it was stopped.

    OUT/wav/<key>.wav      16 bit, one channel
    OUT/manifest.jsonl     appears when all of it is complete

Notable choices
- Until then OUT/begun.jsonl has the settings, and a manifest line for each recording that is complete. The
  same command goes on after the last one; another one is refused.
- A waveform beyond full scale is scaled as a whole, so that ratios within it stay.

Legend: S samples.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.data.pipeline.derived import line_of
from mindspore_osum.errors import UserError
from mindspore_osum.files import json_object, replacing, whole_lines
from mindspore_osum.interrupts import steady

MANIFEST, BEGUN, WAVES = "manifest.jsonl", "begun.jsonl", "wav"
_FULL_SCALE = 1 - 2**-15  # of 16 bit
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class Job(NamedTuple):
    """A recording to make."""

    key: str
    make: Callable[
        [], tuple[np.ndarray, int, Utterance]
    ]  # wave_S, its rate in Hz, the utterance without file


def make_all(out: Path, settings: dict, jobs: Iterable[Job], failed: Callable[[UserError], None]) -> int:
    """Make what is not there yet, then the manifest.

    Parameters
    ----------
    settings : what the recordings follow from, beside their sources.
    jobs : in the order of the manifest; keys are there once.
    failed : called with the error of a recording that cannot be made; it may raise.

    Returns
    -------
    Number of utterances in the manifest.

    Raises
    ------
    UserError : OUT is complete, or was begun with other settings; nothing was made; it cannot be written.
    """
    try:
        begun = _begin(out, settings)
        done = {json_object(line, f"{begun}:{n}")["key"] for n, line in _made(begun)}
        with open(begun, "ab", buffering=0) as file:
            for job in jobs:
                if job.key in done:
                    continue
                try:
                    wave_S, rate, utt = job.make()
                except UserError as error:
                    failed(error)
                    continue
                path = out / WAVES / file_name(job.key)
                write_wav(path, wave_S, rate)
                file.write(line_of(replace(utt, key=job.key, wav=str(path)), out).encode("utf-8"))
                done.add(job.key)
        if not done:
            raise UserError(f"{out}: nothing could be made; see above")
        with replacing(out / MANIFEST) as file:
            for _, line in _made(begun):
                file.write(line + b"\n")
        begun.unlink()
        return len(done)
    except OSError as error:
        raise UserError(f"{error.filename or out}: cannot write there ({error.strerror or error})") from None


def _begin(out: Path, settings: dict) -> Path:
    """The file of what is made, whose first line are the settings."""
    begun, first = out / BEGUN, json.dumps({"settings": settings}, ensure_ascii=False, sort_keys=True)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not begun.exists())):
        raise UserError(f"{out}: is there already and not an empty folder; remove it or give another one")
    (out / WAVES).mkdir(parents=True, exist_ok=True)
    lines = whole_lines(begun) if begun.exists() else []
    if not lines:
        with replacing(begun) as file:
            file.write(first.encode("utf-8") + b"\n")
    elif lines[0].decode("utf-8", "replace") != first:
        raise UserError(
            f"{out}: was begun by another command or with other settings; remove it to begin anew"
        )
    return begun


def _made(begun: Path) -> Iterable[tuple[int, bytes]]:
    """The lines of what is made, with their numbers."""
    with open(begun, "rb") as file:
        next(file)
        yield from ((number, line.rstrip(b"\n")) for number, line in enumerate(file, 2))


def file_name(key: str) -> str:
    """The name of the recording of a key, which may hold anything; other keys have other names."""
    if _PLAIN.fullmatch(key):
        return f"{key}.wav"
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{re.sub(r'[^A-Za-z0-9]+', '_', key)[:60]}.{digest}.wav"


def write_wav(path: Path, wave_S: np.ndarray, rate: int) -> None:
    """Write a waveform as 16 bit wav; beyond full scale it is scaled to it."""
    import soundfile

    peak = float(np.abs(wave_S).max())
    stream = io.BytesIO()
    with steady():  # it writes through callbacks, in which the exception of a signal would be lost
        scaled_S = wave_S * np.float32(_FULL_SCALE / peak) if peak > _FULL_SCALE else wave_S
        soundfile.write(stream, scaled_S, rate, subtype="PCM_16", format="WAV")
    with replacing(path) as file:
        file.write(stream.getbuffer())


def draws(*what: object) -> np.random.Generator:
    """The generator of what is drawn for something: of its name and the seed, wherever it is in the order."""
    digest = hashlib.sha256("/".join(map(str, what)).encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(list(digest[:16]))
