"""Model folders: config.json + safetensors + tokenizer.model or tokenizer.json.

Notable choices
- The dtype on disk may differ from the model's: weights are converted one by one as they are read. If it is
  the same, they are memory-mapped instead of copied.
- Loading is strict: the file must have exactly the model's tensors, with their shapes.
- `model_type` in config.json names the system of a folder; see systems/registry.py.
- config.json is written last: a folder whose writing was interrupted is not a model folder.
"""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mindspore_osum.config import did_you_mean
from mindspore_osum.errors import NAME, UserError
from mindspore_osum.files import read_json, replacing, write_text
from mindspore_osum.parameters import fill
from mindspore_osum.systems.config import Config
from mindspore_osum.systems.registry import (
    DEFAULT,
    MODEL_TYPE,
    all_systems,
    from_values,
    system_of,
    to_values,
)
from mindspore_osum.text.tokenizer import SENTENCE_PIECE, tokenizer_files
from mindspore_osum.weights_io import CODES, FLOATS, TensorInfo, Weights, WeightsWriter, open_weights

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", SENTENCE_PIECE
BUNDLED = Path(__file__).resolve().parent / "assets" / "tiny"  # the model that is part of the package


def read_config(folder: str | os.PathLike) -> Config:
    """The folder's model description; UserError if the folder is missing or not a model folder."""
    path = Path(folder) / CONFIG
    if not Path(folder).is_dir():
        hint = did_you_mean(str(folder), near) if (near := _models_beside(Path(folder))) else ""
        raise UserError(
            f"{folder}: no such model folder; give one that `osum convert` or `osum train` wrote{hint}"
        )
    if not path.is_file():
        raise UserError(f"{folder}: not a model folder (no {CONFIG}); make one with `osum convert`")
    values = read_json(path, "a model description")
    if not is_own_config(values):
        if "architectures" in values:
            kind = str(values.get(MODEL_TYPE, "unknown"))[:NAME]
            raise UserError(
                f"{folder}: a Hugging Face folder of the type {kind!r}, not one of ours; convert it with "
                "`osum convert`"
            )
        try:
            system_of(values[MODEL_TYPE], str(path))
        except UserError as error:
            hint = "if this is a Hugging Face folder, convert it with `osum convert`"
            raise UserError(f"{error} {hint}" if str(error).endswith("?") else f"{error}; {hint}") from None
    return from_values(values, str(path))


def is_own_config(values: dict) -> bool:
    """Whether a config.json belongs to a model folder of this package, not of Hugging Face."""
    return "architectures" not in values and str(values.get(MODEL_TYPE, DEFAULT)) in all_systems()


def _models_beside(folder: Path) -> list[str]:
    """The model folders with the same parent, and the bundled model."""
    try:
        beside = [str(path.parent) for path in folder.parent.glob(f"*/{CONFIG}")]
    except OSError:
        beside = []
    return [*beside, BUNDLED.name] if folder.parent == Path() else beside


def write_config(folder: str | os.PathLike, cfg: Config) -> None:
    """Write config.json."""
    write_text(Path(folder) / CONFIG, json.dumps(to_values(cfg), indent=2, ensure_ascii=False) + "\n")


def load_folder(folder: str | os.PathLike, dtype: str | None = None, *, train: bool = False, waiting=None):
    """Load the folder's model with its weights.

    Parameters
    ----------
    folder : a model folder.
    dtype : dtype of weights and activations. By default that of config.json; on CPU float32, since
        MindSpore's CPU kernels do not support the others.
    train : training mode instead of evaluation mode.
    waiting : see `parameters.fill`.

    Returns
    -------
    The network of the folder's system, a cell with `cfg`.

    Raises
    ------
    UserError : not a model folder, damaged weights, infinities or NaN in them, or tensors that are missing,
        unknown or of another shape or type.
    """
    from mindspore import get_context
    from mindspore.nn.utils import no_init_parameters

    cfg = read_config(folder)
    dtype = dtype or ("float32" if get_context("device_target") == "CPU" else cfg.dtype)
    system = system_of(cfg.model_type)
    with open_weights(folder) as weights:  # first: sizes in config.json could take all memory
        check_tensors(weights, system.shapes(cfg))
    with no_init_parameters():
        model = system.build(replace(cfg, dtype=dtype))
    params = dict(model.parameters_and_names())
    with open_weights(folder) as weights:
        check_tensors(weights, {name: tuple(p.shape) for name, p in params.items()})
        fill(params, weights, mapped=True, waiting=waiting)
    return model.set_train(train)


def save_folder(folder: str | os.PathLike, model, tokenizer: str | os.PathLike) -> None:
    """Write `model`, a cell with `cfg`, as a model folder in its own dtype, and copy the tokenizer's files.

    Weights and config appear only when they are complete; an existing model is replaced.
    """
    from mindspore import float32

    folder = Path(folder)
    params = dict(model.parameters_and_names())
    code = CODES[model.cfg.dtype]
    infos = {name: TensorInfo(code, tuple(p.shape)) for name, p in params.items()}
    try:
        with WeightsWriter(folder, infos) as writer:
            for name, param in params.items():
                writer.write(name, param.astype(float32).asnumpy())
        for name, file in tokenizer_files(tokenizer).items():
            target = folder / name
            if not (target.exists() and target.samefile(file)):
                with open(file, "rb") as source, replacing(target) as copy:
                    shutil.copyfileobj(source, copy)
        write_config(folder, model.cfg)
    except OSError as error:
        raise UserError(f"{folder}: cannot write the model ({error.strerror})") from None


def replaced(folder: str | os.PathLike, output: str | os.PathLike, values: dict[str, np.ndarray]) -> None:
    """Write a copy of a model folder in which some tensors have other values; all others keep their bytes.

    Parameters
    ----------
    output : a new folder.
    values : name -> array of the tensor's shape.
    """
    output, cfg = Path(output), read_config(folder)
    try:
        with open_weights(folder) as weights, WeightsWriter(output, weights.infos) as writer:
            for name in weights.infos:
                if name in values:
                    writer.write(name, values[name])
                else:
                    writer.write_raw(name, weights.raw(name))
        for name, file in tokenizer_files(folder).items():
            shutil.copyfile(file, output / name)
        write_config(output, cfg)
    except OSError as error:
        raise UserError(f"{output}: cannot write the model ({error.strerror})") from None


def check_tensors(weights: Weights, shapes: dict[str, tuple]) -> None:
    """Refuse weights whose names and shapes are not exactly `shapes`, or whose type is none of numbers with
    fractions, naming the tensors."""
    found = {name: info.shape for name, info in weights.infos.items()}
    problems = [
        ("missing", shapes.keys() - found.keys()),
        ("not in this model", found.keys() - shapes.keys()),
        (
            "of another shape",
            {
                f"{n} {list(found[n])} instead of {list(shapes[n])}"
                for n in shapes.keys() & found.keys()
                if found[n] != shapes[n]
            },
        ),
        ("of a type for whole numbers", {n for n, i in weights.infos.items() if i.dtype not in FLOATS}),
    ]
    wrong = [f"{len(names)} {what}: {_some(names)}" for what, names in problems if names]
    if wrong:
        raise UserError(f"{weights.where}: the weights are not those of its {CONFIG}: {'; '.join(wrong)}")


def _some(names: Iterable[str], n: int = 3) -> str:
    names = sorted(names)
    return ", ".join(names[:n]) + (", ..." if len(names) > n else "")
