"""What the shapes of past requests hold in memory, KV caches and graphs, within a budget of bytes.

Notable choices
- A shape's state is kept after a request, so that the next one of that shape needs no new graphs. States that
  have been idle longest are released when the others and a new one would exceed the budget.
- A state in use is never released: a single request may take more than the budget, and is then not kept.
- What a graph takes is measured when it first runs (memory.py); that may include its caches, so the larger
  of both counts. A shape that comes again is expected to take what it took.
- MindSpore would keep the graphs of a model that nobody holds any more. They are released when the next state
  is made, not in the garbage collector, which may run in the middle of a graph.
"""

import os
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mindspore_osum.errors import UserError
from mindspore_osum.inference.graph import Graph
from mindspore_osum.inference.memory import give_back

BUDGET = "OSUM_GRAPHS_GB"  # environment variable; by default a part of the device's memory
SHARE = 4  # one part in so many of the memory
UNKNOWN = 4 << 30  # bytes, where a device does not say how much memory it has
_left: list[list] = []  # the states of pools that are gone


@dataclass(eq=False)
class State:
    """The graphs of a shape with their cache.

    Attributes
    ----------
    key : the shape.
    graphs : what a request runs.
    compiled : the graphs in it.
    cache_bytes : of the caches.
    free : frees the caches.
    """

    key: tuple
    graphs: Any
    compiled: Sequence[Graph]
    cache_bytes: int = 0
    free: Callable[[], None] = lambda: None

    @property
    def nbytes(self) -> int:
        """Bytes of caches and graphs."""
        return max(self.cache_bytes, sum(graph.nbytes for graph in self.compiled))

    def release(self) -> None:
        """Let go of all; the state is useless then."""
        for graph in self.compiled:
            graph.release()
        self.free()


class Pool:
    """Idle and borrowed states.

    Parameters
    ----------
    budget : bytes of all states together; None for `default_budget`, at the first use.

    Attributes
    ----------
    released : how many states had to go.
    """

    def __init__(self, budget: int | None = None):
        self.budget, self.released = budget, 0
        self._idle: list[State] = []  # the last one was used last
        self._used: list[State] = []
        self._took: dict[tuple, int] = {}  # bytes of shapes that have been released
        weakref.finalize(self, _left.append, self._idle).atexit = False

    @property
    def nbytes(self) -> int:
        """Bytes of all states, idle or not."""
        return sum(state.nbytes for state in (*self._idle, *self._used))

    def borrow(self, key: tuple, cache_bytes: int, make: Callable[[], State]) -> State:
        """An idle state of this shape, or a new one by `make` when there is memory for it.

        Parameters
        ----------
        cache_bytes : what a new one takes at least.
        """
        for n in reversed(range(len(self._idle))):
            if self._idle[n].key == key:
                self._used.append(self._idle.pop(n))
                return self._used[-1]
        if self.budget is None:
            self.budget = default_budget()
        release_left()
        self._shrink_to(self.budget - max(cache_bytes, self._took.get(key, 0)))
        self._used.append(make())
        return self._used[-1]

    def give_back(self, state: State) -> None:
        """Keep a state for the next request of its shape, if the budget allows it."""
        self._used.remove(state)
        self._idle.append(state)
        self._shrink_to(self.budget)

    def _shrink_to(self, nbytes: int) -> None:
        """Release idle states until all take at most `nbytes`."""
        if not self._idle or self.nbytes <= nbytes:
            return
        while self._idle and self.nbytes > nbytes:
            state = self._idle.pop(0)
            self._took[state.key] = state.nbytes
            state.release()
            self.released += 1
        give_back()


def release_left() -> None:
    """Release the states of pools that are gone."""
    if not _left:
        return
    while _left:
        for state in _left.pop():
            state.release()
    give_back()


def default_budget() -> int:
    """Bytes for all states: that of `BUDGET`, or a part of the device's memory.

    Raises
    ------
    UserError : `BUDGET` is no number above 0.
    """
    text = os.environ.get(BUDGET)
    if text:
        try:
            gigabytes = float(text)
        except ValueError:
            gigabytes = 0.0
        if not 0 < gigabytes < float("inf"):
            raise UserError(f"{BUDGET}: {text[:40]!r} is no number of gigabytes above 0")
        return int(gigabytes * 1e9)
    from mindspore import get_context, hal

    device = get_context("device_target")
    if device == "CPU":
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    else:
        total = getattr(hal.get_device_properties(get_context("device_id"), device), "total_memory", 0)
    return total // SHARE if total else UNKNOWN
