"""The device that cells and steps are made for."""

from collections.abc import Iterator
from contextlib import contextmanager

import mindspore as ms

_made_for: str | None = None


def target() -> str:
    """MindSpore's device target, or that of `made_for`."""
    return _made_for or ms.get_context("device_target")


@contextmanager
def made_for(device: str) -> Iterator[None]:
    """Make cells for a device that is not there, "Ascend": to look at their graphs, not to run them."""
    global _made_for
    before, _made_for = _made_for, device
    try:
        yield
    finally:
        _made_for = before


def has_values() -> bool:
    """Whether parameters made now get values: not under MindSpore's no_init_parameters."""
    return getattr(ms.Parameter, "init_param", True)
