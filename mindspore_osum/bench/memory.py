"""Bandwidths of the machine: reading memory, writing to the disk."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

BYTES = 400 * 10**6  # beyond any cache


def read_bandwidth(threads: int, rounds: int = 5) -> float:
    """Bytes a second that `threads` threads read of memory: the best of several runs of two loops."""
    parts = np.array_split(np.ones(BYTES // 4, np.float32), threads)
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for loop in (np.max, lambda part: np.dot(part, part)):
            for _ in range(rounds):
                start = time.perf_counter()
                list(pool.map(loop, parts))
                best = max(best, BYTES / (time.perf_counter() - start))
    return best


def write_bandwidth(path: Path, size: int) -> float:
    """Bytes a second at which `size` bytes are written to a file and synced to the disk."""
    block = np.random.default_rng(0).integers(0, 256, 1 << 24, np.uint8).tobytes()
    start = time.perf_counter()
    with open(path, "wb") as file:
        for first in range(0, size, len(block)):
            file.write(block[: size - first])
        file.flush()
        os.fsync(file.fileno())
    return size / (time.perf_counter() - start)


def read_file(path: Path) -> float:
    """Seconds it takes to read a file into memory, in blocks."""
    buffer = bytearray(1 << 24)
    start = time.perf_counter()
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return time.perf_counter() - start


def forget_file(path: Path) -> None:
    """Ask the kernel to drop what it holds of a file, so that the next reader reads the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
