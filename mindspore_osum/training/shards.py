"""Checkpoints of a sharded model: every process writes its slices, any layout reads them.

    checkpoints/step_000500/shard_00000.safetensors   slices of the first process
    checkpoints/step_000500/shard_00000.json          {"digest": "...", "slices": {name: {"shape", "start"}}}
    checkpoints/step_000500/state.json                written last; see training/checkpoint.py

Notable choices
- A slice is written only by the first process that holds it; copies in other processes are not stored.
- Reading assembles full tensors, so that a run can resume in another layout or in one process: MindSpore
  shards a parameter only when its graph is compiled.
- Reading checks that the slices cover every tensor exactly, before memory is taken for it.
"""

import json
import math
from pathlib import Path

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.files import read_json, write_text
from mindspore_osum.training.digests import Damaged, check, digest_of
from mindspore_osum.weights_io import TensorInfo, Weights, WeightsWriter, info_of, open_weights, valid_shape

PATTERN = "shard_*.safetensors"
_MAX_SLICES = 1 << 24  # bytes


class Piece:
    """The slice of a parameter that one process holds.

    Parameters
    ----------
    shape : of the slice.
    layout : entry of Cell.parameter_layout_dict. Item 0 is the device matrix; item 1 gives for each axis of
        the tensor the matrix axis that shards it (counted from the right, -1 for none); item 5 is the group
        over which optimizer parallel shards the first axis again ("" for none). None if not sharded.
    rank : of the process.
    """

    def __init__(self, shape: tuple[int, ...], layout, rank: int):
        self.cuts, self.start = [1] * len(shape), [0] * len(shape)
        self.is_first = rank == 0
        if layout is not None:
            self._place(list(layout[0])[::-1], list(layout[1]), rank)
            self._place_in_group(layout[5], rank)
        self.shape = [n * cut for n, cut in zip(shape, self.cuts, strict=True)]
        self.start = [n * place for n, place in zip(shape, self.start, strict=True)]

    def _place(self, sizes: list[int], axes: list, rank: int) -> None:
        """Compute the slice's index from a device matrix whose fastest axis comes first."""
        left, place, used = rank % math.prod(sizes), [], set()
        for size in sizes:
            place.append(left % size)
            left //= size
        for axis, by in enumerate(axes):
            for k in by if isinstance(by, list | tuple) else [by]:
                if k >= 0:
                    self.cuts[axis] *= sizes[k]
                    self.start[axis] = self.start[axis] * sizes[k] + place[k]
                    used.add(k)
        self.is_first = not any(place[k] for k in range(len(sizes)) if k not in used)

    def _place_in_group(self, group: str, rank: int) -> None:
        if group:
            from mindspore.communication import get_process_group_ranks

            ranks = list(get_process_group_ranks(group))
            self.cuts[0] *= len(ranks)
            self.start[0] = self.start[0] * len(ranks) + ranks.index(rank)
            self.is_first = True  # every process of the group has its own slice


def write(folder: Path, rank: int, arrays: dict[str, np.ndarray], layouts: dict, absent: set[str]) -> None:
    """Write the slices that process `rank` is the first to hold.

    Parameters
    ----------
    folder : the checkpoint that is being written.
    arrays : slices by name of parameter.
    layouts : Cell.parameter_layout_dict.
    absent : parameters of other pipeline stages; this process has only their start values.
    """
    pieces = {
        name: Piece(values.shape, layouts.get(name), rank)
        for name, values in arrays.items()
        if name not in absent
    }
    mine = [name for name, piece in pieces.items() if piece.is_first]
    infos = {name: info_of(arrays[name]) for name in mine}
    with WeightsWriter(folder / f"shard_{rank:05d}.safetensors", infos) as out:
        for name in mine:
            out.write(name, arrays[name])
    slices = {name: {"shape": pieces[name].shape, "start": pieces[name].start} for name in mine}
    digest = digest_of(folder / f"shard_{rank:05d}.safetensors")
    write_text(folder / f"shard_{rank:05d}.json", json.dumps({"digest": digest, "slices": slices}) + "\n")


def check_shards(folder: Path) -> None:
    """Compare the shards of a checkpoint, if it has any, with their digests.

    Raises
    ------
    Damaged : one is not as it was written.
    """
    for path in sorted(folder.glob(PATTERN)):
        digest, _ = _read_slices(path.with_suffix(".json"))
        if digest is None:
            raise Damaged(f"{path.with_suffix('.json')}: damaged, the digest of the shard is missing")
        check(path, digest)


def _read_slices(path: Path) -> tuple[str | None, dict]:
    """The digest of a shard and the offsets of its slices; older versions wrote these alone."""
    try:
        values = read_json(path, "the offsets of slices", _MAX_SLICES)
    except UserError as error:
        raise Damaged(f"{error}; the checkpoint is damaged") from None
    if isinstance(values.get("digest"), str) and isinstance(values.get("slices"), dict):
        return values["digest"], values["slices"]
    return None, values


class Shards(Weights):
    """The full tensors assembled from the slices of a checkpoint.

    Raises
    ------
    UserError : the slices of a tensor overlap, or do not cover all of it.
    """

    def __init__(self, folder: Path):
        self.files, self.pieces = [], {}
        infos: dict[str, TensorInfo] = {}
        try:
            for path in sorted(folder.glob(PATTERN)):
                self._add(path, infos)
            for name, info in infos.items():
                _check_tiling(f"{folder}: tensor {name}", info, self.pieces[name])
        except UserError:
            self.close()
            raise
        super().__init__(str(folder), infos)

    def _add(self, path: Path, infos: dict[str, TensorInfo]) -> None:
        """Open one shard and note its slices."""
        _, slices = _read_slices(path.with_suffix(".json"))
        weights = open_weights(path)
        self.files.append(weights)
        for name, part in weights.infos.items():
            shape, start = _slice(slices.get(name), len(part.shape), path, name)
            whole = infos.setdefault(name, TensorInfo(part.dtype, shape))
            if whole != TensorInfo(part.dtype, shape):
                raise UserError(f"{path}: tensor {name} is {part.dtype} {list(shape)}, in another shard not")
            if start in self.pieces.setdefault(name, {}):
                raise UserError(
                    f"{path}: the slice of tensor {name} at {list(start)} is in another shard, too"
                )
            self.pieces[name][start] = weights, part.shape

    def read(self, name: str) -> np.ndarray:
        """The full tensor, float32 for bfloat16."""
        parts = {start: weights.read(name) for start, (weights, _) in self.pieces[name].items()}
        whole = np.empty(self.infos[name].shape, next(iter(parts.values())).dtype)
        for start, values in parts.items():
            whole[tuple(slice(a, a + n) for a, n in zip(start, values.shape, strict=True))] = values
        return whole

    def close(self) -> None:
        """Close the files."""
        for weights in self.files:
            weights.close()


def _slice(found: object, dims: int, path: Path, name: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The full shape and the start of a slice as a file has them, checked."""
    pair = [found.get(key) for key in ("shape", "start")] if isinstance(found, dict) else []
    if len(pair) != 2 or not all(isinstance(n, list) and len(n) == dims and valid_shape(n) for n in pair):
        raise UserError(f"{path}: the slice of tensor {name} is not known; it is damaged")
    return tuple(pair[0]), tuple(pair[1])


def _check_tiling(what: str, whole: TensorInfo, pieces: dict) -> None:
    """Refuse slices that are not a regular grid over all of a tensor, as every layout makes them.

    Equal slices at different multiples of their shape cannot overlap, so their number tells whether all are
    there; nothing is allocated before.
    """
    sizes = {shape for _, shape in pieces.values()}
    shape = next(iter(sizes))
    if len(sizes) > 1:
        raise UserError(f"{what} has slices of different shapes; the checkpoint is damaged")
    for start in pieces:
        for a, n, m in zip(start, shape, whole.shape, strict=True):
            if (a or m) if n == 0 else (a % n or m % n or a >= m):
                raise UserError(
                    f"{what} has a slice {list(shape)} at {list(start)} that is not of a grid over "
                    f"{list(whole.shape)}; the checkpoint is damaged"
                )
    have, of = len(pieces) * math.prod(shape), math.prod(whole.shape)
    if have != of:
        raise UserError(f"{what} has {have} of {of} values; a file is missing")
