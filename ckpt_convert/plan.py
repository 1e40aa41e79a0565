"""Determines the source of every tensor of the new model before anything is written.

Notable choices
- Nothing is dropped or initialised silently: each key of each source, and each tensor of the model, is in one
  list of the `Report`. Mismatches stop the conversion unless they are allowed.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from ckpt_convert.adapters import Adapters
from ckpt_convert.derived import differs
from ckpt_convert.merging import Update, finite_bytes, merged
from ckpt_convert.report import Report
from ckpt_convert.settle import Settings, settle_config
from ckpt_convert.sources import Source
from mindspore_osum.errors import UserError
from mindspore_osum.models.forms import Form, Other
from mindspore_osum.models.table import Shapes, shapes, stand_in
from mindspore_osum.systems.base import System
from mindspore_osum.systems.config import Config
from mindspore_osum.weights_io import CODES, TensorInfo, Weights, chunks, encode

_LORA = ".lora_"
_FLOATS = ("F32", "BF16", "F16")


@dataclass(frozen=True)
class Item:
    """One tensor to write: dtype and shape, and a function that reads its bytes (uint8) on demand."""

    info: TensorInfo
    load: Callable[[], np.ndarray]


@dataclass
class Plan:
    """The new model.

    Attributes
    ----------
    items : our name -> `Item`, for every tensor of `config`.
    aside : published key -> `Item`, of tensors that our model does not use.
    buffers : positional table in the source -> its number of rows.
    """

    config: Config
    items: dict[str, Item]
    aside: dict[str, Item] = field(default_factory=dict)
    buffers: dict[str, int] = field(default_factory=dict)


def make_plan(system: System, parts: dict[str, Source], settings: Settings, report: Report) -> Plan:
    """Plan the conversion of `parts` to a model of `system`.

    Parameters
    ----------
    parts : {"model": source} or any of "encoder", "decoder" and "adapter"; an adapter and LoRA that are not
        given are then initialised (LoRA's B with zeros). "adapters" gives LoRA in addition.
    report : is filled in.

    Raises
    ------
    UserError, ConversionError : sizes that cannot be determined, tensors that do not fit.
    """
    found: dict[str, tuple[Source, str]] = {}
    for part, source in parts.items():
        _map_keys(part, source, parts.keys() - {part}, found, report)
    cfg = settle_config(system, parts, found, settings, report)
    forms, expected = system.forms(cfg), system.shapes(cfg)
    for source in parts.values():
        if source.form is not None:
            _check_others(source, forms[source.form.name], report)
    started = set() if "model" in parts else _started(system, cfg, parts)
    chosen = _choose(found, system, expected, started, report)
    if "adapters" in parts:
        _check_adapters(parts["adapters"], found, chosen, system, expected, settings, report)
    report.check(set(settings.allow))
    plan = Plan(cfg, {})
    updates = _updates(parts, chosen, cfg, expected, report) if settings.merge_lora else {}
    if settings.merge_lora:
        plan.config = replace(cfg, lora=replace(cfg.lora, rank=0))
    for name, shape in system.shapes(plan.config).items():
        if name in chosen:
            plan.items[name] = _item(name, shape, chosen, updates, report)
        else:
            if name not in report.initialised:
                report.initialised.append(name)
            plan.items[name] = _initial_item(name, shape, system, cfg, settings.seed)
    if "model" in parts:
        _keep_aside(parts["model"], forms, plan)
    return plan


def _map_keys(part: str, source: Source, others: set[str], found: dict, report: Report) -> None:
    """Our name -> (source, key) for every key that is in the source's table; `others` are given, too."""
    for key in source.weights.infos:
        name = source.ours(key)
        if name is None:
            if source.form.other(key) is None:
                report.unexpected[source.label + key] = f"no such tensor in the {source.form.title} form"
        elif part == "model" and "decoder" in others and name.startswith("decoder."):
            report.ignored[source.label + key] = "the decoder given takes its place"
        elif "adapters" in others and _LORA in name:
            report.ignored[source.label + key] = "the adapters given take its place"
        elif part not in ("model", "adapters") and not name.startswith(f"{part}."):
            report.ignored[source.label + key] = f"only the {part} is taken from {source.path.name}"
        elif name in found:
            raise UserError(f"{source.path}: {key!r} and {found[name][1]!r} are both {name}; remove one")
        else:
            found[name] = (source, key)


def _check_others(source: Source, form: Form, report: Report) -> None:
    """Report keys without a tensor of ours, and check the values of copies and derived buffers."""
    infos = source.weights.infos
    plain = {form.plain(key): key for key in infos}
    for key in infos:
        other = form.other(key) if source.ours(key) is None else None
        if other is None:
            continue
        if other.kind == "copy" and (
            other.of not in plain or not _same((source.weights, key), (source.weights, plain[other.of]))
        ):
            report.unexpected[source.label + key] = f"should be a copy of {other.of} but is not"
        elif other.kind == "derived" and differs(source.weights, key, form, other.computed):
            report.unexpected[source.label + key] = "its values are not those that this model's settings give"
        else:
            report.ignored[source.label + key] = other.why


def _same(one: tuple[Weights, str], other: tuple[Weights, str]) -> bool:
    (first, a), (second, b) = one, other
    if first.infos[a] != second.infos[b]:
        return False
    if first is second and any({a, b} <= set(names) for names in first.shared()):
        return True
    pieces = zip(chunks(first.raw(a)), chunks(second.raw(b)), strict=True)
    return all(np.array_equal(x, y) for x, y in pieces)


def _started(system: System, cfg: Config, parts: dict[str, Source]) -> set[str]:
    """Tensors to initialise when parts are joined: those between encoder and decoder that are not given."""
    held = {"encoder", "decoder", *parts}
    names = set(shapes(table for table in system.tables(cfg) if table.part not in held))
    return names if "adapters" in parts else names | {name for name in system.shapes(cfg) if _LORA in name}


def _choose(found: dict, system: System, expected: Shapes, started: set[str], report: Report) -> dict:
    """The found tensors that the model uses: our name -> (source, key); those in `started` may be missing."""
    chosen = {}
    for name, (source, key) in found.items():
        shape = source.weights.infos[key].shape
        form = source.form
        if name not in expected:
            if other := stand_in(system.tables(), name):
                _drop_tied(found, name, other, report)
            else:
                report.unexpected[source.label + key] = f"the model described has no {name}"
        elif shape != (wanted := form.shape(name, expected[name]) if form else expected[name]):
            report.wrong_shape[name] = f"found {shape}, expected {wanted}"
        elif source.weights.infos[key].dtype not in _FLOATS:
            report.wrong_shape[name] = f"found type {source.weights.infos[key].dtype}, expected {_FLOATS}"
        else:
            chosen[name] = (source, key)
            report.mapped[source.label + key] = name
    for name in expected:
        if name in found:
            continue
        if name in started:
            report.initialised.append(name)
        else:
            report.missing.append(name)
    return chosen


def _drop_tied(found: dict, name: str, other: str, report: Report) -> None:
    source, key = found[name]
    shared = found.get(other)
    part, *_, tied = name.removesuffix(".weight").split(".")
    to = other.split(".")[-2]
    same = shared is not None and shared[0] is source
    if not same or not _same((source.weights, key), (source.weights, shared[1])):
        report.unexpected[source.label + key] = f"the {part} ties {tied} to {to}, but they differ"
    else:
        report.ignored[source.label + key] = f"tied to {to}"


def adapted(name: str, expected: Shapes) -> bool:
    """Whether our parameter `name` belongs to a module with LoRA in a model of these shapes."""
    module = re.sub(r"(\.lora_[AB])?\.(weight|bias)$", "", name)
    return f"{module}.lora_A.weight" in expected


def _check_adapters(
    source: Source,
    found: dict,
    chosen: dict,
    system: System,
    expected: Shapes,
    settings: Settings,
    report: Report,
) -> None:
    """Account for what a folder of adapters has beside the LoRA that our network holds."""
    adapters: Adapters = source.weights
    for name, kind in adapters.beyond.items():
        if not settings.merge_lora:
            raise UserError(
                f"{source.path}: {kind} on {name.removesuffix('.weight')} has no place beside our weights; "
                "add --merge-lora, which puts it into them"
            )
        if name not in expected and (shared := stand_in(system.tables(), name)):
            raise UserError(f"{source.path}: {kind} on {name} alone, but the model ties it to {shared}")
        if name not in chosen:
            raise UserError(f"{source.path}: {kind} on {name}, which the model does not have")
    report.mapped |= {source.label + key: name for key, name in adapters.merged_keys().items()}
    for key, name in adapters.copies.items():
        whole = found.get(name) or found.get(stand_in(system.tables(), name))
        if whole and _same((adapters.file, key), (whole[0].weights, whole[1])):
            report.ignored[source.label + key] = "a copy of the model's own"
        else:
            report.unexpected[source.label + key] = f"a whole weight, other than the model's {name}"
    for name in adapters.leave_out(report.missing, expected):
        report.missing.remove(name)
        report.initialised.append(name)
        chosen[name] = (source, name)


def _updates(
    parts: dict[str, Source], chosen: dict, cfg: Config, expected: Shapes, report: Report
) -> dict[str, Update]:
    """Our name of each weight that has adapters -> what merging adds to it."""
    if "adapters" in parts:
        return parts["adapters"].weights.updates()
    updates = {}
    for name in expected:
        if _LORA not in name and name.endswith(".weight") and adapted(name, expected):
            lora = [chosen.get(name.removesuffix("weight") + f"lora_{x}.weight") for x in "AB"]
            if None in lora:
                raise UserError(f"{name}: its LoRA is not in the source, so there is nothing to merge")
            a, b = ((source.weights, key) for source, key in lora)
            updates[name] = Update(a, b, cfg.lora.scale)
    if not updates:
        raise UserError(f"{report.source}: there is no LoRA in it to merge")
    return updates


def _item(
    name: str, shape: tuple[int, ...], chosen: dict, updates: dict[str, Update], report: Report
) -> Item:
    source, key = chosen[name]
    tensor = (source.weights, key)
    stored = source.weights.infos[key]
    info = TensorInfo(stored.dtype, shape)
    if name in updates:
        report.merged.append(name)
        return Item(info, lambda: merged(tensor, updates[name]))
    return Item(info, lambda: finite_bytes(tensor))


def _initial_item(name: str, shape: tuple, system: System, cfg: Config, seed: int) -> Item:
    code = CODES[cfg.dtype]
    return Item(TensorInfo(code, shape), lambda: encode(system.initial_value(cfg, name, shape, seed), code))


def _is_written(other: Other) -> bool:
    return other.computed is not None and other.computed.usual > 0


def _keep_aside(source: Source, forms: dict[str, Form], plan: Plan) -> None:
    """Record what only a form of full models has, for converting back."""
    extras = source.extras
    whole = [form for form in forms.values() if form.holds == "model"]
    if extras is not None:
        for key in extras.infos:
            if not any(other.kind == "aside" for form in whole if (other := form.other(key))):
                raise UserError(
                    f"{extras.where}: {key!r} is not one of the tensors kept aside; remove the file"
                )
        plan.aside |= {k: Item(info, lambda k=k: extras.raw(k)) for k, info in extras.infos.items()}
        keys = [other.pattern for form in whole for other in form.others if _is_written(other)]
        rows = {key: extras.metadata.get(key, "") for key in keys}
        plan.buffers |= {key: int(n) for key, n in rows.items() if n.isdecimal() and len(n) < 7}
    for key, info in source.weights.infos.items() if source.form else ():
        other = source.form.other(key) if source.ours(key) is None else None
        if other is not None and other.kind == "aside":
            plan.aside[source.form.plain(key)] = Item(info, lambda key=key: source.weights.raw(key))
        elif other is not None and _is_written(other):
            plan.buffers[source.form.plain(key)] = info.shape[-2]
