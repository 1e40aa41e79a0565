"""Timed runs: warm-up, several of them, medians; two sides take turns, so that both meet the same noise."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

# during the first launches of an elementwise kernel MindSpore searches for the fastest number of threads,
# five launches each for 1, 2, 4, ...; at first most kernels run on one
SETTLED = 16

Run = Callable[[], float]  # does the work once and returns the seconds it took


@dataclass(frozen=True)
class Timing:
    """The seconds of several runs of one thing."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds of the median run, from which ratios are computed."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """(slowest - fastest) / median: how quiet the machine was."""
        return (max(self.seconds) - min(self.seconds)) / self.median

    def __str__(self) -> str:
        return f"{show_seconds(self.median)} (+-{self.spread / 2:.0%} of {len(self.seconds)})"


def clocked(work: Callable[[], object]) -> Run:
    """`work` as a `Run`; it must wait for its results."""

    def run() -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return run


def race(*runs: Run, rounds: int, warm: int = 1) -> tuple[Timing, ...]:
    """The timings of all, which take turns `rounds` times after `warm` rounds that do not count."""
    seconds: list[list[float]] = [[] for _ in runs]
    for turn in range(warm + rounds):
        for taken, run in zip(seconds, runs, strict=True):
            one = run()
            if turn >= warm:
                taken.append(one)
    return tuple(Timing(tuple(taken)) for taken in seconds)


def measure(work: Callable[[], object], rounds: int, warm: int = 1) -> Timing:
    """`race` with one runner."""
    return race(clocked(work), rounds=rounds, warm=warm)[0]


def cores_used(work: Callable[[], object]) -> float:
    """CPU seconds a second of one run of `work`: how many cores it kept busy."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return (time.process_time() - cpu) / (time.perf_counter() - start)


def show_seconds(seconds: float) -> str:
    """With three digits, in a readable unit: 1.23 s, 45.6 ms, 789 us."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size or unit == "us":
            break
    return f"{seconds / size:.3g} {unit}"


def set_threads(threads: int) -> None:
    """Make libraries that are imported from now on use this many threads."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)
