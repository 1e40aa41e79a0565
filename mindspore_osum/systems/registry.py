"""The available systems: the folders of `systems/`, and those of other packages.

    system = system_of("osum")
    cfg = preset("osum_pangu_7b")  # cfg.model_type == "osum"

Another package can add a system with an entry point of the group `mindspore_osum.systems`:

    [project.entry-points."mindspore_osum.systems"]
    my_system = "my_package.system:SYSTEM"

Notable choices
- A description without `model_type` is of OSUM: older model folders do not have it.
"""

import functools
import importlib
import importlib.metadata
import pkgutil
from typing import Any

from mindspore_osum import systems
from mindspore_osum.config import did_you_mean, from_dict
from mindspore_osum.errors import UserError
from mindspore_osum.systems.base import System
from mindspore_osum.systems.config import Config

GROUP = "mindspore_osum.systems"  # of entry points
MODEL_TYPE, DEFAULT = "model_type", "osum"


@functools.cache
def all_systems() -> dict[str, System]:
    """model_type -> system.

    Raises
    ------
    UserError : a system of another package that cannot be loaded.
    """
    found = [
        importlib.import_module(f"{systems.__name__}.{module.name}.system").SYSTEM
        for module in pkgutil.iter_modules(systems.__path__)
        if module.ispkg
    ]
    for entry in importlib.metadata.entry_points(group=GROUP):
        try:
            found.append(entry.load())
        except Exception as error:
            raise UserError(
                f"{entry.value}: this system cannot be loaded ({type(error).__name__}: {error}); "
                "fix the package that brings it, or uninstall it"
            ) from None
    return {system.model_type: system for system in found}


def system_of(model_type: str, where: str = "model") -> System:
    """The system of a config (its `model_type`); UserError with the nearest known name if there is none."""
    known = all_systems()
    if str(model_type) not in known:
        raise UserError(
            f"{where}: {MODEL_TYPE} {model_type!r} is unknown{did_you_mean(str(model_type), known)}"
        )
    return known[model_type]


def presets() -> dict[str, Config]:
    """Name -> model description, of all systems."""
    return {name: cfg for system in all_systems().values() for name, cfg in system.presets.items()}


def preset(name: str) -> Config:
    """The named description; UserError with the nearest name if there is none."""
    known = presets()
    if name not in known:
        raise UserError(f"model preset {name!r} is unknown{did_you_mean(name, known)}")
    return known[name]


def from_values(values: Any, where: str) -> Config:
    """Convert the values of `to_values` or of a config.json to the `Config` of their system.

    Raises
    ------
    UserError : an unknown `model_type`, or values that `config.from_dict` refuses; starts with `where`.
    """
    if not isinstance(values, dict):
        return from_dict(all_systems()[DEFAULT].Config, values, where)
    values = dict(values)
    system = system_of(values.pop(MODEL_TYPE, DEFAULT), where)
    return from_dict(system.Config, system.own_values(values, where), where)


def to_values(cfg: Config) -> dict:
    """Plain values of a config, with `model_type` first."""
    return {MODEL_TYPE: cfg.model_type} | cfg.to_dict()
