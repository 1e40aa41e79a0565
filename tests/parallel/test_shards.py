"""Slices of parameters written by several processes and read as whole tensors; no process is started."""

import json

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.training import checkpoint, shards

# as Cell.parameter_layout_dict has it: devices by axis, axes that cut each axis of the tensor, ..., group
WHOLE = ([2, 2], [-1, -1], [], 0, True, "")
COLUMNS = ([2, 2], [-1, 0], [], 0, True, "")
ROWS_OF_BOTH = ([2, 2], [(1, 0), -1], [], 0, True, "")


def cut(full: np.ndarray, layout, rank: int) -> np.ndarray:
    """The slice of a process, by hand: the first axis of the matrix is slow."""
    slow, fast = divmod(rank, 2)
    if layout is COLUMNS:
        return full[:, 2 * fast : 2 * fast + 2]
    return full[rank : rank + 1] if layout is ROWS_OF_BOTH else full


def write(folder, layouts: dict, full: dict, ranks: int = 4) -> None:
    for rank in range(ranks):
        arrays = {name: cut(values, layouts.get(name), rank) for name, values in full.items()}
        shards.write(folder, rank, arrays, layouts, set())


FULL = {name: np.arange(16, dtype=np.float32).reshape(4, 4) + 100 * i for i, name in enumerate("abcd")}
LAYOUTS = {"a": WHOLE, "b": COLUMNS, "c": ROWS_OF_BOTH}  # d is in no layout


def test_slices_make_the_tensors_again(tmp_path):
    write(tmp_path, LAYOUTS, FULL)
    with shards.Shards(tmp_path) as found:
        assert set(found.infos) == set(FULL)
        for name, values in FULL.items():
            assert found.infos[name].shape == (4, 4)
            np.testing.assert_array_equal(found.read(name), values)


def test_every_slice_is_on_the_disk_once(tmp_path):
    write(tmp_path, LAYOUTS, FULL)
    held = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("shard_*.json"))]
    assert [sorted(names) for names in held] == [["a", "b", "c", "d"], ["b", "c"], ["c"], ["c"]]


def test_a_missing_file_is_told(tmp_path):
    write(tmp_path, LAYOUTS, FULL, ranks=3)
    with pytest.raises(UserError, match="tensor c has 12 of 16 values"):
        shards.Shards(tmp_path)


def test_a_damaged_place_is_told(tmp_path):
    write(tmp_path, LAYOUTS, FULL)
    path = tmp_path / "shard_00001.json"
    places = json.loads(path.read_text())
    path.write_text(json.dumps({**places, "b": {"shape": [4, 4], "start": [0, 3]}}))
    with pytest.raises(UserError, match="the place of tensor b is not known"):
        shards.Shards(tmp_path)
    path.write_text("{")
    with pytest.raises(UserError, match="shard_00001.json: not a JSON object .*; the checkpoint is damaged"):
        shards.Shards(tmp_path)


def test_a_checkpoint_of_either_kind_is_opened(tmp_path):
    alone = checkpoint.save(tmp_path / "alone", 3, FULL, {"fingerprint": {}}, 1)
    together = checkpoint.begin(tmp_path / "cut", 3)
    write(together, LAYOUTS, FULL)
    together = checkpoint.finish(tmp_path / "cut", 3, {"fingerprint": {}}, 1)
    for path in (alone, together):
        assert checkpoint.read_about(path)["step"] == 3
        with checkpoint.open_state(path) as found:
            for name, values in FULL.items():
                np.testing.assert_array_equal(found.read(name), values)
