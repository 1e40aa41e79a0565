"""Checkpoints of a sharded model: every process writes its slices, any layout reads them.

    checkpoints/step_000500/shard_00000.safetensors   slices of the first process
    checkpoints/step_000500/shard_00000.json          where they lie: {name: {"shape": [...], "start": [...]}}
    checkpoints/step_000500/state.json                last, as training/checkpoint.py has it

Notable choices
- A slice is written by the first process that holds it; the others' copies are not on the disk.
- Reading puts whole tensors together, so that a run can go on under another layout, or in one process:
  MindSpore cuts a parameter when its graph is compiled, and until then it is whole.
- That slices cover a tensor without holes is checked, not assumed.
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
    layout : Cell.parameter_layout_dict's entry: 0 devices by axis of their matrix, 1 for each axis of the
        tensor the matrix's axis that cuts it (counted from the right, -1 for none), 5 the group among which
        optimizer parallel cuts the first axis once more ("" where it does not). None for a whole parameter.
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
        """Find the place among the slices, from a device matrix whose fastest axis comes first."""
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
            self.is_first = True  # every process of the group has a slice of its own


def write(folder: Path, rank: int, arrays: dict[str, np.ndarray], layouts: dict, absent: set[str]) -> None:
    """Write what process `rank` is the first to hold.

    Parameters
    ----------
    folder : the checkpoint that is being made.
    arrays : slices by name of parameter.
    layouts : Cell.parameter_layout_dict.
    absent : parameters that other processes (stages) hold; this one's values are of the start.
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
    """The whole tensors of the slices in a checkpoint."""

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
        """The whole tensor, float32 for bfloat16."""
        parts = {start: weights.read(name) for start, weights in self.pieces[name].items()}
        whole = np.empty(self.infos[name].shape, next(iter(parts.values())).dtype)
        for start, values in parts.items():
            whole[tuple(slice(a, a + n) for a, n in zip(start, values.shape, strict=True))] = values
        return whole

    def close(self) -> None:
        """Close the files."""
        for weights in self.files:
            weights.close()
