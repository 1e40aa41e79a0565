"""espeak-ng as a function: text, voice, rate and pitch in; samples out.

Notable choices
- One process per utterance.  Inside one process espeak-ng carries state from an utterance to the next (after
  a change of variant, lengths and even the set of loadable voices differ), so only a fresh one makes a sample
  that depends on its own settings alone.
- Most of a process's time is its start, and much of that a scan of some 200 voice files.  A private data
  folder with links to the files that are used saves a third of the time and changes no sample.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
from voices import LANGUAGE_FAMILIES, VARIANTS

from mindspore_osum.errors import UserError

INSTALL = "bash examples/speech_world/install_espeak.sh"
HEADER_BYTES = 44  # of the WAV that espeak-ng writes to a pipe; bytes 24-27 hold the sampling rate


def installation() -> tuple[str, Path]:
    """Version and data folder of the installed espeak-ng.

    Raises
    ------
    UserError
        If it is not installed.
    """
    if shutil.which("espeak-ng") is None:
        raise UserError(f"espeak-ng is not installed; run `{INSTALL}`")
    said = subprocess.run(["espeak-ng", "--version"], capture_output=True, text=True).stdout
    found = re.search(r"text-to-speech: (\S+).*Data at: (.+)", said)
    if found is None:
        raise UserError(f"espeak-ng --version says {said.strip()!r}, no version and data folder; reinstall")
    return found[1], Path(found[2].strip())


def link_data(source: Path, folder: Path) -> None:
    """Fill `folder` so that `espeak-ng --path=folder` finds the speech world's languages and variants."""
    root = folder / "espeak-ng-data"
    (root / "lang").mkdir(parents=True)
    (root / "voices" / "!v").mkdir(parents=True)
    variants = [name for genders in VARIANTS.values() for names in genders.values() for name in names.split()]
    wanted = [path.name for path in source.iterdir() if path.is_file()]
    wanted += [f"lang/{family}" for family in LANGUAGE_FAMILIES] + [f"voices/!v/{name}" for name in variants]
    for name in wanted:
        if not (source / name).exists():
            raise UserError(f"{source / name} is missing; install espeak-ng 1.51 or later with all voices")
        (root / name).symlink_to(source / name)


def speak(text: str, voice: str, rate: int, pitch: int, data: Path) -> tuple[np.ndarray, int]:
    """Say `text` (for Chinese: pinyin).

    Parameters
    ----------
    voice : what -v takes
    rate : words per minute
    pitch : 0..99, 50 is the voice's own
    data : folder made by `link_data`

    Returns
    -------
    samples, int16 (N,), and their rate in Hz

    Raises
    ------
    UserError
        If espeak-ng fails or says nothing.
    """
    command = ["espeak-ng", f"--path={data}", "--stdout", "-v", voice, f"-s{rate}", f"-p{pitch}", text]
    done = subprocess.run(command, capture_output=True)
    if done.returncode or len(done.stdout) <= HEADER_BYTES:
        message = done.stderr.decode(errors="replace").strip()[-200:] or "no sound came out"
        raise UserError(f"espeak-ng failed ({' '.join(command)}): {message}")
    return np.frombuffer(done.stdout[HEADER_BYTES:], "<i2"), int.from_bytes(done.stdout[24:28], "little")
