"""The settings that every subject gets."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from mindspore_osum.bench.timing import SETTLED
from mindspore_osum.bench.torch_client import TorchSide


@dataclass(frozen=True)
class Setup:
    """How to measure.

    Attributes
    ----------
    quick : smaller models and fewer runs, to see that it works; its ratios mean nothing.
    threads : of both sides.
    folder : an empty one for files.
    model, audio, python, rounds : of `whisper`: a model folder, recordings, an interpreter with the other
        programs, and how often each is measured.
    """

    quick: bool
    threads: int
    folder: Path
    model: str | None = None
    audio: tuple[str, ...] = ()
    python: str | None = None
    rounds: int = 3

    @property
    def warm(self) -> int:
        """Runs that do not count, of graphs that a process runs again and again: see timing.SETTLED."""
        return 1 if self.quick else SETTLED

    def torch(self) -> TorchSide:
        """A new PyTorch process; UserError without PyTorch."""
        return TorchSide(self.threads, self.folder / "torch.log")


def default_threads() -> int:
    """All cores: MindSpore's operators use them whatever is set, so PyTorch gets them too."""
    return len(os.sched_getaffinity(0))


def machine() -> dict:
    """What the figures were measured on."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in ("mindspore", "torch", "transformers", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **versions,
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
