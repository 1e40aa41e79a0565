"""Checkpoints: the full state for an exact resume, in one folder that is written atomically.

    checkpoints/step_000500/state.safetensors   trainable parameters, Adam moments, counters
    checkpoints/step_000500/state.json          format, step, data position, fingerprint of the job, digests

If the model is sharded over devices, every process writes its slices instead (training/shards.py).

Notable choices
- A checkpoint is written into a temporary folder (files synced, state.json last), then renamed. A folder
  without state.json is no checkpoint. An old checkpoint is renamed before it is removed.
- Frozen parameters are not stored: they come from the model the job starts from, which the fingerprint
  identifies by a digest of its weights. For LoRA on the 7B model in bfloat16, 1.8 GB are stored, not 18.7.
- Old checkpoints are removed only after a newer one is complete.
- A run resumes from the newest checkpoint whose files have their digests; damaged ones are reported and
  passed over. Once it writes one, those of later steps (damaged, or left by --from-step) are renamed, so that
  the next resume does not jump to them.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Container
from pathlib import Path

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.files import read_json, sync_folder, write_text
from mindspore_osum.models.table import Shapes
from mindspore_osum.parameters import fill, set_values
from mindspore_osum.systems.registry import system_of
from mindspore_osum.training.digests import Damaged, check, digest_of, of_values
from mindspore_osum.training.report import say
from mindspore_osum.training.shards import Shards, check_shards
from mindspore_osum.weights_io import Weights, WeightsWriter, info_of, open_weights

FORMAT, WITHOUT_DIGESTS = 2, 1
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
    digests = {path.name: digest_of(path) for path in temp.iterdir() if _in_marker(path)}
    values = {"format": FORMAT, "step": step, **about, "digests": digests}
    # through JSON, as they will be read: tuples become lists
    values = json.loads(json.dumps(values))
    write_text(temp / MARKER, json.dumps({**values, "digest": of_values(values)}, indent=1) + "\n")
    sync_folder(temp)
    _leave_unused(folder, step)
    if target.exists():
        _set_aside(target)
    os.replace(temp, target)
    sync_folder(folder)
    for _, old in found(folder)[:-keep_last]:
        if old != target:
            _set_aside(old)
    return target


def _in_marker(path: Path) -> bool:
    """Whether a file's digest is in state.json; those of large shards are beside them."""
    return path.name == STATE or path.suffix == ".json" and path.name != MARKER


def _leave_unused(folder: Path, step: int) -> None:
    """Rename checkpoints of later steps: the run went on from an earlier one."""
    for number, later in found(folder):
        if number > step:
            unused = later.with_name(f"{later.name}.unused")
            shutil.rmtree(unused, ignore_errors=True)
            os.replace(later, unused)
            say(f"{later}: renamed to {unused.name}, as the run went on from an earlier one")


def sweep(folder: Path) -> None:
    """Remove leftovers that are not checkpoints."""
    with contextlib.suppress(OSError):
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
    """(step, folder) of every complete checkpoint, oldest first; files are not read, see `choose`."""
    if not folder.is_dir():
        return []
    there = [folder / name for name in os.listdir(folder)]  # unlike glob it says if that is not permitted
    whole = [p for p in there if re.fullmatch(r"step_[0-9]+", p.name) and (p / MARKER).is_file()]
    return sorted((int(p.name[5:]), p) for p in whole)


def choose(folder: Path, step: int | None = None) -> tuple[int, Path] | None:
    """(step, folder) of the newest whole checkpoint, or of that of `step`; None if there are none.

    Damaged ones that are passed over are reported, each with the step that is used instead.

    Raises
    ------
    UserError : there is none of that `step`, or it is damaged, or all are; or one is of another version.
    """
    try:
        kept = found(folder)
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror})") from None
    if step is not None:
        known = ", ".join(str(number) for number, _ in kept) or "none"
        kept = [pair for pair in kept if pair[0] == step]
        if not kept:
            raise UserError(f"{folder}: no checkpoint of step {step}; there are: {known}")
    damaged: list[Damaged] = []
    for number, path in reversed(kept):
        try:
            verify(path)
        except Damaged as error:
            damaged.append(error)
            continue
        for error in damaged:
            say(f"{error}; step {number} is used instead")
        return number, path
    if damaged:
        rest = "give another --from-step or --step" if step is not None else "none is whole"
        raise UserError(f"{damaged[0]}; {rest}, or start anew with another output_dir")
    return None


def verify(checkpoint: Path) -> None:
    """Read all of a checkpoint and compare the digests; one of an older version has none, which is said.

    Raises
    ------
    Damaged : a file is missing, cannot be read, or is not as it was written.
    UserError : it is of another version.
    """
    about = read_about(checkpoint)
    if about["step"] != int(checkpoint.name[5:]):
        raise Damaged(
            f"{checkpoint / MARKER}: is of step {about['step']}; the folder was renamed or mixed up"
        )
    try:
        if about["format"] == FORMAT:
            there = {path.name: path for path in checkpoint.iterdir() if _in_marker(path)}
            odd = sorted(there.keys() ^ about["digests"].keys())
            if odd:
                raise Damaged(f"{checkpoint}: {odd[0]} is missing or does not belong there")
            for name, path in there.items():
                check(path, about["digests"][name])
            check_shards(checkpoint)
        open_state(checkpoint).close()
    except (UserError, OSError) as error:
        raise Damaged(str(error)) from None
    if about["format"] != FORMAT:
        say(
            f"{checkpoint}: of an older version, without digests; whether its values are damaged is not known"
        )


def read_about(checkpoint: Path) -> dict:
    """The checkpoint's state.json, checked.

    Raises
    ------
    Damaged : it is not as it was written.
    UserError : it is of another version.
    """
    path = checkpoint / MARKER
    try:
        about = read_json(path)
    except UserError as error:
        raise Damaged(f"{error}; the checkpoint is damaged") from None
    known = about.get("format")
    if known != WITHOUT_DIGESTS and about.get("digest") != of_values(about):
        raise Damaged(f"{path}: damaged, its values are not those that were written")
    if known not in (FORMAT, WITHOUT_DIGESTS):
        raise UserError(f"{path}: not a checkpoint of this version; remove the folder to use an older one")
    parts = {"step": int, "fingerprint": dict} | ({"digests": dict} if known == FORMAT else {})
    numbers = [about.get(name, 0) for name in ("step", "epoch", "place")]
    if (
        any(type(about.get(name)) is not kind for name, kind in parts.items())
        or any(type(number) is not int or number < 0 for number in numbers)
        or (known == WITHOUT_DIGESTS and "digest" in about)
    ):
        raise Damaged(f"{path}: damaged, its step, its place in the data or its fingerprint is missing")
    return about


def position(checkpoint: Path) -> tuple[int, int]:
    """The epoch and the place in it at which the run goes on."""
    about = read_about(checkpoint)
    if not {"epoch", "place"} <= about.keys():
        raise Damaged(f"{checkpoint / MARKER}: damaged, its place in the data is missing")
    return about["epoch"], about["place"]


def open_state(checkpoint: Path) -> Weights:
    """The full (unsharded) tensors of a checkpoint by name, whether one process wrote it or many."""
    try:
        alone = (checkpoint / STATE).is_file()
    except OSError as error:
        raise UserError(f"{checkpoint}: cannot be read ({error.strerror})") from None
    return open_weights(checkpoint / STATE) if alone else Shards(checkpoint)


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


def check_start(weights: Weights, shapes: Shapes, growing: Container[str] = ()) -> None:
    """Refuse weights of a model folder that are not those of a network; it may have new LoRA parameters.

    Parameters
    ----------
    growing : names of tables that may have more rows in the network.
    """
    missing = sorted(name for name in shapes if name not in weights.infos and "lora_" not in name)
    extra = sorted(weights.infos.keys() - shapes.keys())
    both = shapes.keys() & weights.infos.keys()
    other = sorted(n for n in both if not _fits(weights.infos[n].shape, shapes[n], n in growing))
    odd = [
        (missing, "misses tensor"),
        (extra, "has the unknown tensor"),
        (other, "has another shape of tensor"),
    ]
    for names, what in odd:
        if names:
            raise UserError(
                f"{weights.where}: {what} {names[0]} ({len(missing)} missing, {len(extra)} unknown, "
                f"{len(other)} of another shape); model.overrides must leave the shapes of the folder's "
                "model as they are"
            )


def _fits(found: tuple[int, ...], wanted: tuple[int, ...], grows: bool) -> bool:
    """Whether a tensor has a shape, or, if it `grows`, fewer rows than that."""
    return found == wanted or (grows and found[1:] == wanted[1:] and found[0] < wanted[0])


def load_start(model, folder: str, seed: int, known: Container[str] = ()) -> set[str]:
    """Fill `model` from a model folder, which may miss LoRA parameters; returns the names that it has.

    Parameters
    ----------
    seed : of the rows that a growing table (`System.growing`) has beyond those of the folder.
    known : names that are not read, because their values come from elsewhere.
    """
    params, system = dict(model.parameters_and_names()), system_of(model.cfg.model_type)
    with open_weights(folder) as weights:
        shapes = {name: tuple(param.shape) for name, param in params.items()}
        check_start(weights, shapes, system.growing)
        names = {name for name in params if name in weights.infos}
        grown = {n for n in names if weights.infos[n].shape != shapes[n] and n not in known}
        fill({n: params[n] for n in params if n in names - grown and n not in known}, weights)
        for name in grown:
            rows = weights.read(name)
            more = system.added_rows(model.cfg, name, rows, shapes[name][0] - len(rows), seed)
            set_values(params[name], np.concatenate([rows, more]), f"{weights.where}: tensor {name}")
    return names


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
        newest = choose(folder / "checkpoints")
        if not newest:
            break
        with open_state(newest[1]) as weights:
            for name in wanted.keys() & weights.infos.keys():
                param = wanted.pop(name)
                if tuple(weights.infos[name].shape) == tuple(param.shape):
                    fill({name: param}, weights)
                    random.discard(name)
        place = read_about(newest[1]).get("start", "")
    if random:
        names = ", ".join(sorted(random))
        say(f"{names}: random at first; no run behind {start} left them in the shape this job needs")
