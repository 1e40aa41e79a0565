"""Checkpoints: the full state for an exact resume, in one folder that is written atomically.

    checkpoints/step_000500/state.safetensors   trainable parameters, Adam moments, counters
    checkpoints/step_000500/state.json          format, step, data position, fingerprint of the job

If the model is sharded over devices, every process writes its slices instead (training/shards.py).

Notable choices
- A checkpoint is written into a temporary folder (files synced, state.json last), then renamed. A folder
  without state.json is no checkpoint. An old checkpoint is renamed before it is removed.
- Frozen parameters are not stored: they come from the model the job starts from, which the fingerprint
  identifies by a digest of its weights. For LoRA on the 7B model in bfloat16, 1.8 GB are stored, not 18.7.
- Old checkpoints are removed only after a newer one is complete.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.files import read_json, sync_folder, write_text
from mindspore_osum.parameters import fill
from mindspore_osum.training.report import say
from mindspore_osum.training.shards import Shards
from mindspore_osum.weights_io import Weights, WeightsWriter, info_of, open_weights

FORMAT = 1
STATE, MARKER = "state.safetensors", "state.json"


def save(folder: Path, step: int, arrays: dict[str, np.ndarray], about: dict, keep_last: int) -> Path:
    """Write checkpoint `step` under `folder` and remove the oldest beyond `keep_last`.

    Only one process may write into a folder at a time. Even after kill -9, `found` lists complete checkpoints
    only.
    """
    try:
        temp = begin(folder, step)
        infos = {name: info_of(values) for name, values in arrays.items()}
        with WeightsWriter(temp / STATE, infos) as writer:
            for name, values in arrays.items():
                writer.write(name, values)
        return finish(folder, step, about, keep_last)
    except OSError as error:
        target = _names(folder, step)[0]
        raise UserError(f"{target}: cannot write the checkpoint ({error.strerror})") from None
    finally:
        sweep(folder)


def begin(folder: Path, step: int) -> Path:
    """The empty temporary folder that will be checkpoint `step`."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        sync_folder(folder.parent)
    for stale in folder.glob(".step_*.partial"):  # left by a process that was killed
        shutil.rmtree(stale)
    temp = _names(folder, step)[1]
    temp.mkdir()
    return temp


def finish(folder: Path, step: int, about: dict, keep_last: int) -> Path:
    """Rename the temporary folder to its final name; remove the oldest checkpoints beyond `keep_last`."""
    target, temp = _names(folder, step)
    write_text(temp / MARKER, json.dumps({"format": FORMAT, "step": step, **about}, indent=1) + "\n")
    sync_folder(temp)
    if target.exists():
        _set_aside(target)
    os.replace(temp, target)
    sync_folder(folder)
    for _, old in found(folder)[:-keep_last]:
        if old != target:
            _set_aside(old)
    return target


def sweep(folder: Path) -> None:
    """Remove leftovers that are not checkpoints."""
    for left in folder.glob(".step_*.partial"):
        shutil.rmtree(left, ignore_errors=True)


def _names(folder: Path, step: int) -> tuple[Path, Path]:
    """Paths of checkpoint `step` and of the temporary folder it is written in."""
    return folder / f"step_{step:06d}", folder / temporary_name(step)


def temporary_name(step: int) -> str:
    """Name of the temporary folder that checkpoint `step` is written in."""
    return f".step_{step:06d}.partial"


def _set_aside(checkpoint: Path) -> None:
    """Rename a checkpoint before it is removed, since removing its files might be interrupted."""
    os.replace(checkpoint, checkpoint.with_name(f".{checkpoint.name}.old.partial"))


def found(folder: Path) -> list[tuple[int, Path]]:
    """(step, folder) of every complete checkpoint, oldest first."""
    if not folder.is_dir():
        return []
    whole = [p for p in folder.glob("step_*") if (p / MARKER).is_file() and p.name[5:].isdigit()]
    return sorted((int(p.name[5:]), p) for p in whole)


def read_about(checkpoint: Path) -> dict:
    """The checkpoint's state.json, checked."""
    try:
        about = read_json(checkpoint / MARKER)
        types = isinstance(about["step"], int) and isinstance(about["fingerprint"], dict)
        ok = types and about["format"] == FORMAT
    except (UserError, KeyError):
        ok = False
    if not ok:
        raise UserError(
            f"{checkpoint / MARKER}: not a checkpoint of this version; remove the folder to use an older one"
        )
    return about


def open_state(checkpoint: Path) -> Weights:
    """The full (unsharded) tensors of a checkpoint by name, whether one process wrote it or many."""
    return open_weights(checkpoint / STATE) if (checkpoint / STATE).is_file() else Shards(checkpoint)


def restore(checkpoint: Path, params: dict) -> None:
    """Put a checkpoint's values into `params` (name -> Parameter); every name and shape must match."""
    with open_state(checkpoint) as weights:
        odd = sorted(set(weights.infos) ^ set(params))
        if odd:
            side = "the run" if odd[0] in params else "the checkpoint"
            raise UserError(
                f"{checkpoint}: {len(odd)} tensors do not match, {odd[0]} is only in {side}; "
                "model, learn and ctc must be those of the checkpoint"
            )
        fill(params, weights)


def load_start(model, folder: str) -> None:
    """Fill `model` from a model folder; LoRA parameters missing there keep their random start."""
    params = {p.name.removeprefix("model."): p for p in model.get_parameters()}
    with open_weights(folder) as weights:
        missing = sorted(name for name in params if name not in weights.infos and "lora_" not in name)
        extra = sorted(set(weights.infos) - set(params))
        if missing or extra:
            name, side = (missing[0], "misses") if missing else (extra[0], "has the unknown")
            raise UserError(
                f"{folder}: {side} tensor {name} ({len(missing)} missing, {len(extra)} unknown); "
                "model.overrides must leave the shapes of the folder's model as they are"
            )
        fill({name: param for name, param in params.items() if name in weights.infos}, weights)


def load_heads(objective, start: str) -> None:
    """Load an objective's heads from the run that wrote the model folder `start`, if it had the same heads.

    A text-only run has no heads; then they come from the run before it, and so on. A model folder does not
    contain heads. Without them the next stage would spend its first hundreds of steps relearning them, so
    missing heads are reported.
    """
    wanted = {n: p for n, p in objective.parameters_and_names() if not n.startswith("model.")}
    seen: set[Path] = set()
    random, place = set(wanted), start
    while wanted and place and (folder := Path(place).resolve().parent) not in seen:
        seen.add(folder)
        newest = found(folder / "checkpoints")[-1:]
        if not newest:
            break
        with open_state(newest[0][1]) as weights:
            for name in wanted.keys() & weights.infos.keys():
                param = wanted.pop(name)
                if tuple(weights.infos[name].shape) == tuple(param.shape):
                    fill({name: param}, weights)
                    random.discard(name)
        place = read_about(newest[0][1]).get("start", "")
    if random:
        names = ", ".join(sorted(random))
        say(f"{names}: random at first; no run behind {start} left them in the shape this job needs")
