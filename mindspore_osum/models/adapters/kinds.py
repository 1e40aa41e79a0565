"""The kinds of adapter, one folder each. Adding or removing a folder adds or removes the kind; no other list.

Each has `config.py` (strides, presets that differ by the kind alone), `keys.py`, `network.py` (the cell
`Adapter`), `cost.py` and `reference.py` (the same in PyTorch). Does not import MindSpore.
"""

import functools
import importlib
import pkgutil
from types import ModuleType

_PACKAGE = __name__.rpartition(".")[0]


@functools.cache
def kinds() -> tuple[str, ...]:
    """Names of the available kinds, sorted."""
    folder = importlib.import_module(_PACKAGE).__path__
    return tuple(sorted(found.name for found in pkgutil.iter_modules(folder) if found.ispkg))


def module_of(kind: str, name: str) -> ModuleType:
    """The module `name` (config, keys, ...) of a kind."""
    return importlib.import_module(f"{_PACKAGE}.{kind}.{name}")
