"""Determines the configuration of a converted model.

Precedence of values: preset < inferred from tensors < stated in the source's config.json < overrides.
A configuration given as a file, or that of a folder of ours, is used unchanged: the tensors must fit it.
"""

import dataclasses
import typing
from dataclasses import dataclass, field

from ckpt_convert.report import Report
from ckpt_convert.sources import Source
from mindspore_osum.config import from_dict, merge
from mindspore_osum.errors import UserError
from mindspore_osum.files import read_json
from mindspore_osum.systems.base import System
from mindspore_osum.systems.config import Config
from mindspore_osum.systems.registry import from_values, preset
from mindspore_osum.weights_io import CODES


@dataclass(frozen=True)
class Settings:
    """Sources of configuration values, and allowed mismatches."""

    preset: str | None = None
    config: str | None = None  # path of a config.json of ours
    overrides: dict = field(default_factory=dict)
    allow: frozenset[str] = frozenset()
    merge_lora: bool = False
    seed: int = 0


def settle_config(
    system: System, parts: dict[str, Source], found: dict, settings: Settings, report: Report
) -> Config:
    """The configuration of the model made of `parts`.

    Parameters
    ----------
    system : of the model; its first preset is the base if none is chosen.
    parts : as in `plan.make_plan`.
    found : our name -> (source, key) of every tensor that has a name of ours.
    report : gets a note of differences from the preset.

    Raises
    ------
    UserError : values that cannot be determined, all named in one line; values that contradict each other.
    """
    if settings.config:
        return from_values(
            merge(read_json(settings.config, "a model description"), settings.overrides), settings.config
        )
    whole = next((s.config for s in parts.values() if s.config is not None), None)
    if whole is not None and "model" in parts:
        if settings.preset:
            raise UserError("--preset is for checkpoints without a configuration; here use --set")
        values = merge(whole.to_dict(), parts["adapters"].stated if "adapters" in parts else {})
        if "decoder" in parts:  # a model's LoRA belongs to the decoder that is replaced
            values = merge(values, merge({"lora": {"rank": 0}}, _stated(system, "decoder", parts["decoder"])))
        return from_dict(system.Config, merge(values, settings.overrides), "config.json with --set")
    name = settings.preset or next(iter(system.presets))
    shapes = {name: _own_shape(name, source, key) for name, (source, key) in found.items()}
    base = system.base(preset(name), shapes)
    stated: dict = {}
    for part, source in parts.items():
        stated = merge(stated, _stated(system, part, source))
    given = merge(stated, settings.overrides)
    for key, section in typing.get_type_hints(system.Config).items():
        if dataclasses.is_dataclass(section):
            from_dict(section, settings.overrides.get(key, {}), f"--set {key}")
    has_preset = settings.preset or "decoder" in stated
    try:
        inferred, needs = system.infer(shapes, base, given, "" if has_preset else name)
    except UserError as error:
        raise UserError(f"{report.source}: {error}") from None
    if needs:
        raise UserError(
            f"{report.source}: its tensors do not say: {'; '.join(needs)}. Name each with --set KEY=VALUE, "
            "or give --preset or --config"
        )
    inferred["dtype"] = _main_dtype(found)
    cfg = from_dict(system.Config, merge(merge(base.to_dict(), inferred), given), str(report.source))
    _note_differences(cfg, base, name, report)
    return cfg


def _own_shape(name: str, source: Source, key: str) -> tuple[int, ...]:
    shape = source.weights.infos[key].shape
    return shape[1:] if source.form and name in source.form.batched else shape


def _stated(system: System, part: str, source: Source) -> dict:
    """Configuration values of one part from its own config.json."""
    if source.config is None:
        return source.stated
    values = source.config.to_dict()
    return {key: values[key] for table in system.tables() if table.part == part for key in table.sections}


def _main_dtype(found: dict) -> str:
    """The model's dtype: the one that most of the bytes have."""
    sizes: dict[str, int] = {}
    for source, key in found.values():
        info = source.weights.infos[key]
        sizes[info.dtype] = sizes.get(info.dtype, 0) + info.nbytes
    names = {code: name for name, code in CODES.items()}
    return names[max(sizes, key=sizes.get)] if sizes else "float32"


def _note_differences(cfg: Config, base: Config, base_name: str, report: Report) -> None:
    mine, theirs = _leaves(cfg.to_dict()), _leaves(base.to_dict())
    changed = [f"{key} {mine[key]} (preset {theirs[key]})" for key in mine if mine[key] != theirs[key]]
    if changed:
        report.notes.append(f"differs from preset {base_name}: " + ", ".join(changed))


def _leaves(values: dict, prefix: str = "") -> dict:
    out: dict = {}
    for key, value in values.items():
        out |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out
