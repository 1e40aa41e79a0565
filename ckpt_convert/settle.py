"""Settles the configuration of a converted model.

Values come in the order: preset < what the tensors tell < what the source's config.json states < overrides.
A configuration given as a file, or that of a folder of ours, is taken whole instead: the tensors must fit.
"""

from dataclasses import dataclass, field

from ckpt_convert.report import Report
from ckpt_convert.shapes import infer
from ckpt_convert.sources import Source
from mindspore_osum.config import from_dict, merge
from mindspore_osum.errors import UserError
from mindspore_osum.files import read_json
from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig
from mindspore_osum.models.whisper.config import EncoderConfig
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.registry import from_values
from mindspore_osum.systems.registry import preset as find_preset
from mindspore_osum.weights_io import CODES

DEFAULT_PRESET = "osum_pangu_7b"
_SECTIONS = {"encoder": EncoderConfig, "adapter": AdapterConfig, "decoder": DecoderConfig, "lora": LoraConfig}


@dataclass(frozen=True)
class Settings:
    """Where configuration values come from, and what may be wrong with a source."""

    preset: str | None = None
    config: str | None = None  # path of a config.json of ours
    overrides: dict = field(default_factory=dict)
    allow: frozenset[str] = frozenset()
    merge_lora: bool = False
    seed: int = 0


def settle_config(parts: dict[str, Source], found: dict, settings: Settings, report: Report) -> ModelConfig:
    """The configuration of the model that `parts` make.

    Parameters
    ----------
    parts : as in `plan.make_plan`.
    found : our name -> (source, key) of every tensor that has a name of ours.
    report : gets a note of what differs from the preset.

    Raises
    ------
    UserError : values that nobody tells, all named in one line; values that contradict each other.
    """
    if settings.config:
        values = read_json(settings.config, "a model description")
        return from_values(merge(values, settings.overrides), settings.config)
    whole = next((s.config for s in parts.values() if s.config is not None), None)
    if whole is not None and "model" in parts:
        if settings.preset:
            raise UserError("--preset is for checkpoints without a configuration; here use --set")
        values = merge(whole.to_dict(), parts["adapters"].stated if "adapters" in parts else {})
        return from_dict(ModelConfig, merge(values, settings.overrides), "config.json with --set")
    base = find_preset(settings.preset or DEFAULT_PRESET)
    shapes = {name: source.weights.infos[key].shape for name, (source, key) in found.items()}
    stated: dict = {}
    for part, source in parts.items():
        stated = merge(stated, _stated(part, source))
    given = merge(stated, settings.overrides)
    for key, section in _SECTIONS.items():
        from_dict(section, settings.overrides.get(key, {}), f"--set {key}")
    try:
        inferred, needs = infer(shapes, base, given)
    except UserError as error:
        raise UserError(f"{report.source}: {error}") from None
    if not settings.preset and "decoder" not in stated:
        needs += _default_misfit(inferred.get("decoder", {}), base)
    if needs:
        raise UserError(
            f"{report.source}: not told by its tensors: {'; '.join(needs)}. Name each with --set KEY=VALUE, "
            "or give --preset or --config"
        )
    inferred["dtype"] = _main_dtype(found)
    cfg = from_dict(ModelConfig, merge(merge(base.to_dict(), inferred), given), str(report.source))
    _note_differences(cfg, base, settings.preset or DEFAULT_PRESET, report)
    return cfg


def _stated(part: str, source: Source) -> dict:
    """Configuration values of one part that its own config.json states."""
    if source.config is None:
        return source.stated
    values = source.config.to_dict()
    return {key: values[key] for key in (("decoder", "lora") if part == "decoder" else (part,))}


def _default_misfit(decoder: dict, base: ModelConfig) -> list[str]:
    """What to ask for when the default preset's decoder is of other sizes."""
    expected = vars(base.decoder)
    keys = [k for k in ("d_model", "n_layers", "vocab_size") if k in decoder and decoder[k] != expected[k]]
    if not keys:
        return []
    sizes = "; ".join(f"{k} {decoder[k]}, preset {expected[k]}" for k in keys)
    what = "the decoder's rope_theta, norm_eps and token ids"
    return [f"the preset that has {what} (not {DEFAULT_PRESET}: {sizes})"]


def _main_dtype(found: dict) -> str:
    """The dtype most of the bytes have, as the model's own."""
    sizes: dict[str, int] = {}
    for source, key in found.values():
        info = source.weights.infos[key]
        sizes[info.dtype] = sizes.get(info.dtype, 0) + info.nbytes
    names = {code: name for name, code in CODES.items()}
    return names[max(sizes, key=sizes.get)] if sizes else "float32"


def _note_differences(cfg: ModelConfig, base: ModelConfig, base_name: str, report: Report) -> None:
    mine, theirs = _leaves(cfg.to_dict()), _leaves(base.to_dict())
    changed = [f"{key} {mine[key]} (preset {theirs[key]})" for key in mine if mine[key] != theirs[key]]
    if changed:
        report.notes.append(f"differs from preset {base_name}: " + ", ".join(changed))


def _leaves(values: dict, prefix: str = "") -> dict:
    out: dict = {}
    for key, value in values.items():
        out |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out
