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
    held = [json.loads(path.read_text())["slices"] for path in sorted(tmp_path.glob("shard_*.json"))]
    assert [sorted(names) for names in held] == [["a", "b", "c", "d"], ["b", "c"], ["c"], ["c"]]


def test_a_missing_file_is_told(tmp_path):
    write(tmp_path, LAYOUTS, FULL, ranks=3)
    with pytest.raises(UserError, match="tensor c has 12 of 16 values"):
        shards.Shards(tmp_path)


def change(path, name: str, slice_: object) -> None:
    """Write another slice of a tensor, as an older version would: without the digest."""
    slices = json.loads(path.read_text())
    slices = slices.get("slices", slices)
    path.write_text(json.dumps({**slices, name: slice_}))


@pytest.mark.parametrize(
    "slice_, says",
    [
        ({"shape": [4, 4], "start": [0, 3]}, r"a slice \[4, 2\] at \[0, 3\] that is not of a grid"),
        ({"shape": [4, 4], "start": [0, 0]}, r"at \[0, 0\] is in another shard, too"),
        ({"shape": [4, 4], "start": [0, 1]}, "not of a grid"),
        ({"shape": [4, 4], "start": [0, 4]}, "not of a grid"),
        ({"shape": [4, 8], "start": [0, 2]}, "in another shard not"),
        ({"shape": [4, 4], "start": [0, -2]}, "the slice of tensor b is not known"),
        ({"shape": [4, 4], "start": [0, True]}, "the slice of tensor b is not known"),
        ({"shape": [4, 4], "start": "02"}, "the slice of tensor b is not known"),
        ({"shape": [4, 1 << 60], "start": [0, 0]}, "the slice of tensor b is not known"),
        (None, "the slice of tensor b is not known"),
    ],
)
def test_slices_that_overlap_or_leave_a_hole_are_refused(tmp_path, slice_, says):
    write(tmp_path, LAYOUTS, FULL)
    change(tmp_path / "shard_00001.json", "b", slice_)
    with pytest.raises(UserError, match=says):
        shards.Shards(tmp_path)


def test_sizes_are_compared_before_memory_is_taken(tmp_path):
    write(tmp_path, {}, FULL, ranks=1)
    change(tmp_path / "shard_00000.json", "a", {"shape": [1 << 20, 1 << 20], "start": [0, 0]})
    with pytest.raises(UserError, match="tensor a has 16 of 1099511627776 values"):
        shards.Shards(tmp_path)


def test_an_unreadable_file_of_slices_is_told(tmp_path):
    write(tmp_path, LAYOUTS, FULL)
    (tmp_path / "shard_00001.json").write_text("{")
    with pytest.raises(UserError, match="shard_00001.json: not a JSON object .*; the checkpoint is damaged"):
        shards.Shards(tmp_path)


def test_a_flipped_bit_in_any_shard_is_noticed(tmp_path):
    for step in (1, 2):
        write(checkpoint.begin(tmp_path, step), LAYOUTS, FULL)
        path = checkpoint.finish(tmp_path, step, {"fingerprint": {}}, 2)
    assert checkpoint.choose(tmp_path) == (2, path)
    files = [file for file in path.iterdir() if file.name != checkpoint.MARKER]
    assert len(files) == 8
    for file in files:
        data = file.read_bytes()
        for at in range(0, len(data), 37):
            file.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
            assert checkpoint.choose(tmp_path)[0] == 1, (file, at)
        file.write_bytes(data)
    files[0].rename(files[0].with_name("kept"))
    assert checkpoint.choose(tmp_path)[0] == 1


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
