"""Shards for tests, written with Python's own tar module."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000


def sound(seconds: float = 0.3, seed: int = 0, kind: str = "WAV") -> bytes:
    """A recording of noise."""
    stream = io.BytesIO()
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * RATE))
    soundfile.write(stream, samples, RATE, format=kind)
    return stream.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]], form: int = tarfile.GNU_FORMAT) -> Path:
    """A tar of (name, content)."""
    with tarfile.open(path, "w", format=form) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def sample(
    key: str,
    txt: str = "hello",
    task: str | None = "<TRANSCRIBE>",
    extra=None,
    audio: bytes | None = b"",
    suffix: str = "wav",
) -> list[tuple[str, bytes]]:
    """Members of one sample; `audio` b"" is a sound, None none."""
    members = [] if audio is None else [(f"{key}.{suffix}", audio or sound())]
    members.append((f"{key}.txt", txt.encode()))
    if task is not None:
        members.append((f"{key}.task", task.encode()))
    if extra is not None:
        members.append((f"{key}.extra", json.dumps(extra).encode()))
    return members
