"""What the shapes of past requests hold in memory, KV caches and graphs, within a budget.

Notable choices
- A shape's state is kept after a request, so that the next one of that shape needs no new graphs. States that
  have been idle longest are released when the others and a new one would exceed the budget.
- A state in use is never released: a single request may take more than the budget, and is then not kept.
- Counted are the caches, which are nearly all of it: at 7B one token of one sequence takes 139 kB.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mindspore_osum.errors import UserError

BUDGET = "OSUM_KV_CACHE_GB"  # environment variable; by default a part of the device's memory
SHARE = {"Ascend": 4, "CPU": 8}  # one part in so many of the memory
UNKNOWN = 4 << 30  # bytes, where a device does not say how much memory it has


@dataclass
class State:
    """The graphs of a shape with their cache.

    Attributes
    ----------
    key : the shape.
    graphs : what a request runs.
    release : called when they are not needed any more.
    nbytes : of the cache.
    """

    key: tuple
    graphs: Any
    release: Callable[[], None]
    nbytes: int


class Pool:
    """Idle and borrowed states.

    Parameters
    ----------
    budget : bytes of all states together; None for `default_budget`, at the first use.

    Attributes
    ----------
    nbytes : of all states, idle or not.
    """

    def __init__(self, budget: int | None = None):
        self.budget, self.nbytes = budget, 0
        self._idle: list[State] = []  # the last one was used last

    def borrow(self, key: tuple, nbytes: int, make: Callable[[], State]) -> State:
        """An idle state of this shape, or a new one by `make` when there is memory for `nbytes` more."""
        for n in reversed(range(len(self._idle))):
            if self._idle[n].key == key:
                return self._idle.pop(n)
        if self.budget is None:
            self.budget = default_budget()
        self._shrink_to(self.budget - nbytes)
        state = make()
        self.nbytes += state.nbytes
        return state

    def give_back(self, state: State) -> None:
        """Keep a state for the next request of its shape, if the budget allows it."""
        self._idle.append(state)
        self._shrink_to(self.budget)

    def _shrink_to(self, nbytes: int) -> None:
        """Release idle states until all take at most `nbytes`."""
        while self._idle and self.nbytes > nbytes:
            state = self._idle.pop(0)
            self.nbytes -= state.nbytes
            state.release()


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
    return total // SHARE.get(device, 4) if total else UNKNOWN
