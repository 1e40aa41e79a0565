"""Opens a checkpoint of any supported form and detects the form.

A source is a model folder of ours, a folder with weights and their description (Hugging Face, PEFT), or a
file of a form (`.pt` or `.safetensors`).
"""

from dataclasses import dataclass, field
from pathlib import Path

from ckpt_convert.adapters import Adapters
from ckpt_convert.cmvn import completed
from ckpt_convert.torch_reader import TorchWeights, open_torch
from mindspore_osum.errors import UserError
from mindspore_osum.files import read_json
from mindspore_osum.folder import CONFIG, is_own_config, read_config
from mindspore_osum.models.forms import Form
from mindspore_osum.systems.base import System
from mindspore_osum.systems.config import Config
from mindspore_osum.systems.registry import DEFAULT, MODEL_TYPE, all_systems, system_of
from mindspore_osum.systems.registry import preset as find_preset
from mindspore_osum.weights_io import INDEX, SINGLE, Weights, open_index, open_weights

EXTRAS = "extras.safetensors"  # in our folder: published tensors that our model does not use
_HF_TORCH, _HF_TORCH_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"


@dataclass
class Source:
    """An opened checkpoint.

    Attributes
    ----------
    form : its key table; None for a folder of ours.
    stated : configuration values from its own description, nested as in our configuration.
    config, extras : for a folder of ours, the full configuration, and the extra tensors, if any.
    label : prefix of its keys in a report, where several sources are joined.
    """

    path: Path
    form: Form | None
    weights: Weights
    stated: dict = field(default_factory=dict)
    config: Config | None = None
    extras: Weights | None = None
    label: str = ""

    def ours(self, key: str) -> str | None:
        """Our name of the source's key, or None."""
        return key if self.form is None else self.form.ours(key)

    def close(self) -> None:
        """Close its files."""
        self.weights.close()
        if self.extras is not None:
            self.extras.close()


def is_ours(path: Path) -> bool:
    """Whether a path is a model folder of ours."""
    return (path / CONFIG).is_file() and is_own_config(read_json(path / CONFIG, "a model description"))


def open_sources(
    paths: dict[str, Path], preset: str | None = None, config: str | None = None
) -> tuple[System, dict[str, Source]]:
    """Open the parts of a model; returns its system and the parts.

    Parameters
    ----------
    paths : "model", or parts of a model ("encoder", "decoder", "adapter", "adapters") -> checkpoint.
    preset, config : name or file of a configuration, which determines the system; without them a whole model
        in a folder of ours does, else the system that supports all the checkpoints and knows most keys.

    Raises
    ------
    UserError : a checkpoint that cannot be opened, or that is not the given part.
    """
    if config:
        systems = [system_of(read_json(config, "a model description").get(MODEL_TYPE, DEFAULT), config)]
    elif preset:
        systems = [system_of(find_preset(preset).model_type)]
    elif "model" in paths and (named := _system_named(paths["model"])):
        systems = [named]
    else:
        systems = sorted(all_systems().values(), key=lambda system: system.model_type != DEFAULT)
    errors, opened = [], []
    for system in systems:
        try:
            opened.append((system, _open_as(system, paths)))
        except UserError as error:
            errors.append(error)
    if not opened:
        raise errors[0]
    opened.sort(key=lambda one: sum(map(_unknown, one[1].values())))  # the first of those that know the same
    for _, parts in opened[1:]:
        for source in parts.values():
            source.close()
    return opened[0]


def _system_named(path: Path) -> System | None:
    """The system that a whole model's folder names, whether it is of ours or of the published code."""
    if is_ours(path):
        return system_of(read_config(path).model_type)
    values = read_json(path / CONFIG, "a model description") if (path / CONFIG).is_file() else {}
    return all_systems().get(str(values.get(MODEL_TYPE)))


def _unknown(source: Source) -> int:
    """How many keys of a source its form does not know."""
    form = source.form
    return sum(not form.ours(key) and not form.other(key) for key in source.weights.infos) if form else 0


def _open_as(system: System, paths: dict[str, Path]) -> dict[str, Source]:
    parts: dict[str, Source] = {}
    try:
        for part, path in paths.items():
            parts[part] = open_source(path, system, part)
            parts[part].label = f"{part}:" if len(paths) > 1 else ""
            _check_part(part, parts[part], system)
    except BaseException:
        for opened in parts.values():
            opened.close()
        raise
    return parts


def _check_part(part: str, source: Source, system: System) -> None:
    """Refuse a checkpoint that is not the given part."""
    holds = "model" if source.form is None else source.form.holds
    if part not in ("model", *(form.holds for form in system.forms().values())):
        raise UserError(f"{source.path}: a {system.model_type} model is not made of parts; give it whole")
    if part == "adapters" and holds != part:
        files = [form.folder.config for form in system.forms().values() if form.holds == part]
        raise UserError(f"{source.path}: no PEFT adapters (their folder has {', '.join(files)})")
    if holds not in ("model", part):
        raise UserError(f"{source.path}: a {source.form.title} checkpoint; give it with --{holds}")
    if source.config is not None and source.config.model_type != system.model_type:
        raise UserError(
            f"{source.path}: a folder of the system {source.config.model_type}, not {system.model_type}"
        )


def open_source(path: str | Path, system: System, part: str = "model") -> Source:
    """Open a checkpoint; UserError if it has none of the forms of the system.

    Parameters
    ----------
    part : what is wanted of it; a folder of another system of ours may have a part.
    """
    path, forms = Path(path), system.forms()
    if path.is_dir():
        return _open_folder(path, forms, part)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    weights = open_weights(path) if path.suffix == ".safetensors" else open_torch(path)
    try:
        form = _marked(path, weights, forms)
        beside = weights.extra if isinstance(weights, TorchWeights) else {}
        stated = form.header(beside, str(path)) if form.header else {}
        whole = completed(weights, path, form.statistics) if form.statistics else weights
        return Source(path, form, whole, stated)
    except UserError:
        weights.close()
        raise


def _open_folder(path: Path, forms: dict[str, Form], part: str) -> Source:
    described = [form for form in forms.values() if form.folder]
    for form in described:
        if not form.folder.model_types and (path / form.folder.config).is_file():
            return _open_described(path, form)
    if not (path / CONFIG).is_file():
        raise UserError(f"{path}: no {CONFIG} in this folder, so what is in it is not known")
    model_type = read_json(path / CONFIG, "a model description").get("model_type")
    # compared, not looked up: it may be anything, also what cannot be a key
    named = next((form for form in described if model_type in list(form.folder.model_types)), None)
    if is_ours(path) and (part == "model" or named is None or named.holds == "model"):
        aside = path / EXTRAS
        extras = open_weights(aside) if aside.exists() else None
        return Source(path, None, open_weights(path), config=read_config(path), extras=extras)
    if named is not None:
        return _open_described(path, named)
    known = ", ".join(name for form in described for name in form.folder.model_types)
    raise UserError(f"{path / CONFIG}: model_type {str(model_type)[:40]!r} is not supported; known: {known}")


def _open_described(path: Path, form: Form) -> Source:
    about, file = path / form.folder.config, form.folder.weights
    values = read_json(about, "a model description")
    for name in form.folder.beside:
        if (path / name).is_file():
            values = values | {name: read_json(path / name, "a description of a model")}
    weights = _adapter_weights(path / file) if file else _hf_weights(path)
    try:
        if form.folder.adapters:
            weights = Adapters(weights, form, form.folder.adapters(values, str(about)))
            return Source(path, form, weights, weights.stated)
        return Source(path, form, weights, form.folder.stated(values, str(about)))
    except UserError:
        weights.close()
        raise


def _adapter_weights(file: Path) -> Weights:
    """The file, or the one that torch.save wrote under its name."""
    old = file.with_suffix(".bin")
    if file.exists() or not old.exists():
        return open_weights(file)
    return open_torch(old)


def _hf_weights(path: Path) -> Weights:
    """safetensors if there are any, else what torch.save wrote."""
    if not (path / SINGLE).exists() and not (path / INDEX).exists():
        if (path / _HF_TORCH_INDEX).exists():
            return open_index(path / _HF_TORCH_INDEX, open_torch)
        if (path / _HF_TORCH).exists():
            return open_torch(path / _HF_TORCH)
    return open_weights(path)


def _marked(path: Path, weights: Weights, forms: dict[str, Form]) -> Form:
    """The form of a file without a description, detected from its keys."""
    for form in forms.values():
        if form.is_marked(weights.infos):
            return form
    keys = ", ".join(repr(key)[:60] for key in list(weights.infos)[:3])
    raise UserError(
        f"{path}: its keys ({keys}, ...) are of no known form; "
        "a Hugging Face model is given as its folder, with config.json"
    )
