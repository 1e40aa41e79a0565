"""What the tests of the speech world share: how its scripts are run, and a plan's neighbours."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "speech_world"
COUNTS = {"train": 20, "valid": 6, "test": 8}


def run(script: str, *arguments, folder: Path = ROOT) -> subprocess.CompletedProcess:
    command = [sys.executable, FOLDER / script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


def run_generate(output: Path, *more) -> subprocess.CompletedProcess:
    sizes = [item for split, count in COUNTS.items() for item in (f"--{split}", count)]
    return run("generate.py", "--output", output, *sizes, "--requests", 120, *more)


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def loud(wave: np.ndarray, share: float) -> np.ndarray:
    """Places where a wave is above a share of its peak."""
    size = np.abs(wave.astype(float))
    return np.flatnonzero(size > share * size.max())
