"""A model folder as MindIR graphs on disk.

The model's system defines the graphs and what they are compared with (systems/speech_export.py).

Notable choices
- The folder appears once everything in it is written and compared.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mindspore as ms

from mindspore_osum.device import use_device
from mindspore_osum.errors import UserError
from mindspore_osum.export.runner import DESCRIPTION, VERSION, load_graph
from mindspore_osum.files import ordinary, read_json, write_text
from mindspore_osum.folder import load_folder, read_config
from mindspore_osum.hub import model_folder
from mindspore_osum.inference.engine import tokenizer_for
from mindspore_osum.interrupts import unfinished
from mindspore_osum.models import ops as device_ops
from mindspore_osum.systems.registry import system_of, to_values
from mindspore_osum.text.tokenizer import tokenizer_files

# largest difference of graphs and model, over the largest value, by the type they compute in; float16 on CPU
# is rounded as sums go on, each in its own order: a Whisper's encoder is 2 % from its values in float32
ALLOWED = {"float32": 1e-4, "float16": 3e-2, "bfloat16": 5e-2}

# for MindSpore Lite, which would compute everything in float16 by default (enforce_fp16)
LITE, LITE_SETTINGS = "lite.cfg", "[ascend_context]\nprecision_mode=enforce_origin\n"


def export(
    model: str | os.PathLike,
    target: str | os.PathLike,
    *,
    device: str = "CPU",
    seconds: float = 30.0,
    request_tokens: int = 64,
    new_tokens: int = 400,
    batch: int = 1,
    dtype: str | None = None,
) -> dict:
    """Write the folder `target`; returns the contents of its export.json.

    Parameters
    ----------
    model : a model folder, or "tiny".
    device : "CPU" or "Ascend".
    dtype : "float32" or "float16"; by default on CPU float32, on Ascend the model's own type.
    seconds, request_tokens, new_tokens : the longest recording, request and answer that the graphs take.
    batch : recordings at a time.

    Raises
    ------
    UserError : no model, sizes beyond it, a target that is something else, or graphs that differ.
    """
    folder, target = model_folder(model), Path(target)
    check_target(target)
    cfg = read_config(folder)
    system, tokenizer = system_of(cfg.model_type), tokenizer_for(cfg, folder)
    exports, template = system.export(), system.template(cfg)
    sizes = exports.sizes_for(cfg, tokenizer, template, seconds, request_tokens, new_tokens, batch)
    device = use_device(device)
    cells = _carried_model(folder, dtype)
    with _appearing(target) as temp:
        made = exports.graphs_of(cells, sizes)
        graphs = {name: _write(*made[name], temp, name) for name in made}
        loaded = {name: load_graph(temp / file) for name, file in graphs.items()}
        compared = exports.compare(cells, sizes, loaded)
        check(compared, cells.cfg.dtype)
        for name, file in tokenizer_files(folder).items():
            shutil.copyfile(file, temp / name)
        write_text(temp / LITE, LITE_SETTINGS)
        files = sorted(path for path in temp.rglob("*") if path.is_file())
        facts = {
            "version": VERSION,
            "graphs": graphs,
            "inputs": {name: [f"{x.dtype} {x.shape}" for x in inputs] for name, (_, inputs) in made.items()},
            "sizes": sizes.to_dict(),
            "compared": compared,
            "files": {str(p.relative_to(temp)): p.stat().st_size for p in files},
            "model": to_values(cells.cfg),
        }
        write_text(temp / DESCRIPTION, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    return facts


def check_target(target: Path) -> None:
    """Refuse to replace anything but an export, or one with files that are not its own."""
    own = _own_files(target)
    if target.exists() and not own and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target}: is there already and is no export; give --output another folder")
    found = (path.relative_to(target) for path in target.rglob("*") if path.is_symlink() or not path.is_dir())
    if others := sorted(str(name) for name in found if str(name) not in own):
        raise UserError(
            f"{target / others[0]}: is not of the export there, which would be replaced; move it "
            "away, or give --output another folder"
        )
    if not _place(target).parent.is_dir():
        raise UserError(f"{target.parent}: no such folder; make it, or give --output another folder")


def _own_files(target: Path) -> set[str]:
    """What the export.json of a folder lists, and itself; nothing where there is none."""
    try:
        return {DESCRIPTION, *read_json(target / DESCRIPTION)["files"]}
    except (UserError, KeyError, TypeError):
        return set()


def _place(target: Path) -> Path:
    """The folder itself, where `target` is a link to it."""
    return Path(os.path.realpath(target))


@contextlib.contextmanager
def _appearing(target: Path) -> Iterator[Path]:
    """A folder beside `target` that replaces it in the end."""
    target = _place(target)
    try:
        temp = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    except OSError as error:
        raise UserError(f"{target}: cannot write there ({error.strerror})") from None
    unfinished.add(temp)
    try:
        yield temp
        temp.chmod(ordinary(0o777))
        _replace(temp, target)
    except OSError as error:
        raise UserError(f"{target}: cannot write there ({error.strerror})") from None
    finally:
        shutil.rmtree(temp, ignore_errors=True)
        unfinished.discard(temp)


def _replace(temp: Path, target: Path) -> None:
    """Give a finished folder its name. The old one is moved aside first: one of them is always complete."""
    old = temp.with_suffix(".old")
    if target.exists():
        os.replace(target, old)
    try:
        os.replace(temp, target)
    except BaseException:
        if old.exists():
            os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _carried_model(folder: Path, dtype: str | None = None):
    """The model of a folder in elementary operators, which MindIR readers know; nothing is in place."""
    device_ops.use("carried")
    try:
        return load_folder(folder, dtype)
    finally:
        device_ops.use(None)


def _write(cell, inputs, folder: Path, name: str) -> str:
    """Export one graph; the file to load. Beyond a gigabyte MindSpore puts the weights beside it."""
    ms.export(cell, *inputs, file_name=str(folder / name), file_format="MINDIR")
    for path in (folder, *folder.rglob("*")):  # which only their owner could read
        path.chmod(ordinary(0o777 if path.is_dir() else 0o666))
    return next(file for file in (f"{name}.mindir", f"{name}_graph.mindir") if (folder / file).is_file())


def check(compared: dict[str, float], dtype: str) -> None:
    """Refuse graphs that differ from the model by more than `ALLOWED`."""
    allowed = ALLOWED[dtype]
    if not max(compared.values()) <= allowed:  # NaN, too
        shown = ", ".join(f"{name} {difference:.1e}" for name, difference in compared.items())
        raise UserError(
            f"the exported graphs differ from the model by more than {allowed:g} of the largest "
            f"value ({shown}), so nothing was written; try another --device"
        )
