"""Checkpoints of a sharded model: every process writes its slices, any layout reads them.

    checkpoints/step_000500/shard_00000.safetensors   slices of the first process
    checkpoints/step_000500/shard_00000.json          their offsets: {name: {"shape": [...], "start": [...]}}
    checkpoints/step_000500/state.json                written last; see training/checkpoint.py

Notable choices
- A slice is written only by the first process that holds it; copies in other processes are not stored.
- Reading assembles full tensors, so that a run can resume in another layout or in one process: MindSpore
  shards a parameter only when its graph is compiled.
- Reading checks that the slices cover every tensor without gaps.
"""

import json
import math
from pathlib import Path

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.files import read_json, write_text
from mindspore_osum.weights_io import TensorInfo, Weights, WeightsWriter, info_of, open_weights

PATTERN = "shard_*.safetensors"
_MAX_PLACES = 1 << 26  # bytes


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
    places = {name: {"shape": pieces[name].shape, "start": pieces[name].start} for name in mine}
    write_text(folder / f"shard_{rank:05d}.json", json.dumps(places) + "\n")


class Shards(Weights):
    """The full tensors assembled from the slices of a checkpoint."""

    def __init__(self, folder: Path):
        self.files, self.pieces = [], {}
        infos: dict[str, TensorInfo] = {}
        for path in sorted(folder.glob(PATTERN)):
            places = self._places(path.with_suffix(".json"))
            weights = open_weights(path)
            self.files.append(weights)
            for name, info in weights.infos.items():
                shape, start = (tuple(places.get(name, {}).get(key, ())) for key in ("shape", "start"))
                fits = len(shape) == len(start) == len(info.shape)
                if not fits or any(a + n > m for a, n, m in zip(start, info.shape, shape)):
                    raise UserError(f"{path}: the place of tensor {name} is not known; it is damaged")
                infos[name] = TensorInfo(info.dtype, shape)
                self.pieces.setdefault(name, {})[start] = weights
        super().__init__(str(folder), infos)
        for name, info in infos.items():
            have = sum(math.prod(weights.infos[name].shape) for weights in self.pieces[name].values())
            if have != math.prod(info.shape):
                of = math.prod(info.shape)
                raise UserError(f"{folder}: tensor {name} has {have} of {of} values; a file is missing")

    @staticmethod
    def _places(path: Path) -> dict:
        try:
            return read_json(path, "the places of tensors", _MAX_PLACES)
        except UserError as error:
            raise UserError(f"{error}; the checkpoint is damaged") from None

    def read(self, name: str) -> np.ndarray:
        """The full tensor, float32 for bfloat16."""
        parts = {start: weights.read(name) for start, weights in self.pieces[name].items()}
        whole = np.empty(self.infos[name].shape, next(iter(parts.values())).dtype)
        for start, values in parts.items():
            whole[tuple(slice(a, a + n) for a, n in zip(start, values.shape, strict=True))] = values
        return whole

    def close(self) -> None:
        """Close the files."""
        for weights in self.files:
            weights.close()
