"""Runs the readers in processes of their own, starts a new one after a crash, and counts what came of it."""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.readers import READERS
from tests.fuzz.seeds import ROOT

WALL = 120.0  # seconds without a word from a process, which waits for something then
FAULTS = {
    "executed": "executions",
    "crash": "crashes",
    "hang": "hangs",
    "memory": "out of memory",
    "error": "other errors",
    "lines": "lines broken",
}


@dataclass
class Outcome:
    """What came of the inputs to one reader.

    Attributes
    ----------
    counts : "read", "refused" and the keys of `FAULTS` -> inputs.
    slowest : seconds of processor time, and the input's number.
    peak : bytes of memory beside those of the warm process, at most.
    found : the first faults: number, kind, what.
    """

    name: str
    seed: int
    counts: Counter = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, 0)
    peak: int = 0
    found: list[tuple[int, str, str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def tried(self) -> int:
        """Inputs."""
        return self.counts.total()

    @property
    def faults(self) -> int:
        """Inputs that broke a promise."""
        return sum(self.counts[kind] for kind in FAULTS)

    def add(self, n: int, kind: str, what: str = "", seconds: float = 0.0, peak: int = 0) -> None:
        """Count an input."""
        self.counts[kind] += 1
        self.slowest = max(self.slowest, (seconds, n))
        self.peak = max(self.peak, peak)
        if kind in FAULTS and len(self.found) < 20:
            self.found.append((n, kind, what))


def fuzz(
    name: str, seed: int, count: int, seconds: float, keep: Path | None = None, warm: int = 60
) -> Outcome:
    """Feed a reader `count` inputs, or as many as the time allows.

    Parameters
    ----------
    keep : folder for the inputs that broke a promise.
    """
    outcome, start = Outcome(name, seed), time.monotonic()
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        at = 0
        while at < count and time.monotonic() - start < seconds:
            folder = Path(tempfile.mkdtemp(prefix=f"{name}-{seed}-", dir=keep or work))
            at = _child(outcome, folder, at, count, start + seconds, warm)
    outcome.seconds = time.monotonic() - start
    return outcome


def _child(outcome: Outcome, folder: Path, at: int, count: int, until: float, warm: int) -> int:
    """One process from input `at`; the next input after its end."""
    command = [sys.executable, "-m", "tests.fuzz.child", outcome.name]
    command += map(str, (outcome.seed, at, count, warm))
    ways = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
    }
    with (
        open(folder / "stderr", "w+b") as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, cwd=folder, env=os.environ | ways
        ) as child,
    ):
        try:
            base = None
            for line in _lines(child):
                told = json.loads(line)
                if base is None:
                    base = told["base"]
                    continue
                at = told["n"] + 1
                outcome.add(
                    told["n"],
                    told["kind"],
                    told["what"],
                    told["seconds"],
                    told["peak"] - base - told["bytes"],
                )
                if time.monotonic() > until:
                    return at
            if child.poll() is None and at < count:
                child.kill()
            status = child.wait()
        finally:
            child.kill()
        if at >= count:
            return at
        if base is None:
            errors.seek(0)
            raise RuntimeError(
                f"{outcome.name} cannot begin: {errors.read()[-2000:].decode(errors='replace')}"
            )
    hang = status in (-9, -27)  # ended here, or by SIGPROF
    outcome.add(at, "hang" if hang else "crash", f"status {status}", 5.0 if hang else 0.0)
    return at + 1


def _lines(child) -> Iterator[bytes]:
    """Lines of a process's output until it ends, or says nothing for `WALL` seconds."""
    waiting, poll = b"", select.poll()
    poll.register(child.stdout, select.POLLIN)
    while poll.poll(1000 * WALL):
        piece = os.read(child.stdout.fileno(), 1 << 16)
        if not piece:
            return
        *lines, waiting = (waiting + piece).split(b"\n")
        yield from lines


def table(outcomes: list[Outcome]) -> list[str]:
    """The outcomes as a table in Markdown."""
    titles = ["reader", "tried", "read", "refused", *FAULTS.values(), "slowest, s", "memory, MB"]
    rows = [titles, ["---", *["---:"] * (len(titles) - 1)]]
    for one in outcomes:
        counts = [one.tried, *(one.counts[kind] for kind in ("read", "refused", *FAULTS))]
        last = [f"{one.slowest[0]:.2f}", f"{max(one.peak, 0) / 1e6:.0f}"]
        rows.append([READERS[one.name].what, *(f"{n:,}" for n in counts), *last])
    return ["| " + " | ".join(row) + " |" for row in rows]
