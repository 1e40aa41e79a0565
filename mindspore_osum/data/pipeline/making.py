"""A folder of new recordings with their manifest, which is taken up where it was stopped.

    OUT/wav/<key>.wav      16 bit, one channel
    OUT/manifest.jsonl     appears when all of it is complete

Notable choices
- Until then OUT/begun.jsonl has the settings, and a manifest line for each recording that is complete. The
  same command goes on after the last one; another one is refused.
- A waveform beyond full scale is scaled as a whole, so that ratios within it stay.

Legend: S samples.
"""

import contextlib
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.data.pipeline.derived import values_of
from mindspore_osum.data.pipeline.journal import Journal
from mindspore_osum.errors import UserError
from mindspore_osum.files import replacing
from mindspore_osum.interrupts import steady

MANIFEST, BEGUN, WAVES = "manifest.jsonl", "begun.jsonl", "wav"
_FULL_SCALE = 1 - 2**-15  # of 16 bit
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class Job(NamedTuple):
    """A recording to make."""

    key: str
    make: Callable[[], tuple[np.ndarray, int, Utterance]]  # wave_S, rate in Hz, the utterance without file
    source: Utterance


@contextlib.contextmanager
def making(out: Path, settings: dict) -> Iterator[Journal]:
    """The lines of the recordings that are complete; the manifest is written when the block ends.

    Parameters
    ----------
    settings : what the recordings follow from, beside their sources.

    Raises
    ------
    UserError : OUT is complete, or was begun with other settings; nothing was made; it cannot be written.
    """
    try:
        begun = _begin(out, settings)
        try:
            yield begun
            if not len(begun):
                raise UserError(
                    f"{out}: nothing could be made: the sources have no usable utterance (see above)"
                )
            with replacing(out / MANIFEST) as file:
                file.writelines(begun.lines())
        finally:
            begun.close()
            if not len(begun):
                _remove_empty(out)
        begun.remove()
    except OSError as error:
        raise UserError(f"{error.filename or out}: cannot write there ({error.strerror or error})") from None


def make_all(out: Path, settings: dict, jobs: Iterable[Job], failed: Callable[[UserError], None]) -> int:
    """Make the recordings that are not there yet, then the manifest; returns its number of utterances.

    Parameters
    ----------
    out, settings : as in `making`, whose errors it has.
    jobs : in the order of the manifest; keys are there once.
    failed : called with the error of a recording that cannot be made; it may raise.
    """
    with making(out, settings) as begun:
        for job in jobs:
            if job.key in begun:
                begun.check(job.key, job.source)
                continue
            try:
                wave_S, rate, utt = job.make()
            except UserError as error:
                failed(error)
                continue
            path = out / WAVES / file_name(job.key)
            write_wav(path, wave_S, rate)
            begun.add(values_of(replace(utt, key=job.key, wav=str(path)), out), job.source)
    return len(begun)


def _begin(out: Path, settings: dict) -> Journal:
    """The lines of what is made."""
    begun = out / BEGUN
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not begun.exists())):
        raise UserError(f"{out}: is there already and not an empty folder; remove it or give another one")
    (out / WAVES).mkdir(parents=True, exist_ok=True)
    return Journal(begun, settings, out)


def _remove_empty(out: Path) -> None:
    """Delete what `_begin` made, so that another command may have the folder."""
    with contextlib.suppress(OSError):
        (out / WAVES).rmdir()
        out.rmdir()


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
