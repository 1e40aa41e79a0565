"""What we write, torch.load accepts in its safe mode, and it is the same bytes."""

import zipfile

import numpy as np
import pytest

from ckpt_convert.torch_reader import open_torch
from ckpt_convert.torch_writer import TorchWriter
from mindspore_osum.errors import UserError
from mindspore_osum.weights_io import TensorInfo
from tests.convert.common import bits, same_states, save, torch

STATE = {
    "f32": torch.randn(4, 5),
    "bf16": torch.randn(3).bfloat16(),
    "f16": torch.randn(2, 1, 3).half(),
    "f64": torch.randn(2).double(),
    "i64": torch.arange(4),
    "bool": torch.tensor([True, False]),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "名": torch.ones(1),
}


def rewrite(source, target, aliases=None):
    aliases = aliases or {}
    with open_torch(source) as weights:
        infos = {name: info for name, info in weights.infos.items() if name not in aliases}
        with TorchWriter(target, infos, aliases) as writer:
            for name in reversed(infos):
                writer.write_raw(name, weights.raw(name))
    return target


@pytest.mark.parametrize("mmap", [False, True])
def test_torch_loads_the_same_bytes(tmp_path, mmap):
    rewrite(save(STATE, tmp_path / "a.pt"), tmp_path / "b.pt")
    same_states(torch.load(tmp_path / "b.pt", weights_only=True, mmap=mmap), STATE)
    with zipfile.ZipFile(tmp_path / "b.pt") as archive:
        assert archive.testzip() is None  # checksums


def test_sizes_beyond_four_gigabytes_use_zip64(tmp_path, monkeypatch):
    monkeypatch.setattr("zipfile.ZIP64_LIMIT", 30)  # so that every size and offset here is beyond
    path = rewrite(save(STATE, tmp_path / "a.pt"), tmp_path / "b.pt")
    assert path.read_bytes().count(b"PK\x06\x06") == 1
    same_states(torch.load(path, weights_only=True, mmap=True), STATE)
    assert path.read_bytes().index(bits(STATE["f32"]).tobytes()) % 64 == 0
    with open_torch(path) as weights:
        assert all(np.array_equal(weights.raw(name), bits(tensor)) for name, tensor in STATE.items())


def test_aliases_share_a_storage(tmp_path):
    state = {"a": torch.randn(100, 100), "b": torch.ones(1)}
    state["c"] = state["a"]
    path = rewrite(save(state, tmp_path / "a.pt"), tmp_path / "b.pt", {"c": "a"})
    loaded = torch.load(path, weights_only=True)
    same_states(loaded, state)
    assert loaded["a"].data_ptr() == loaded["c"].data_ptr()
    assert path.stat().st_size < 45_000


def test_storages_are_aligned(tmp_path):
    rewrite(save(STATE, tmp_path / "a.pt"), tmp_path / "b.pt")
    data = (tmp_path / "b.pt").read_bytes()
    assert data.index(bits(STATE["f32"]).tobytes()) % 64 == 0


def test_nothing_appears_unless_everything_was_written(tmp_path):
    with pytest.raises(ValueError, match="not written"):
        with TorchWriter(tmp_path / "x.pt", {"a": TensorInfo("F32", (2,))}, {}):
            pass
    with pytest.raises(ValueError, match="announced"):
        with TorchWriter(tmp_path / "x.pt", {"a": TensorInfo("F32", (2,))}, {}) as writer:
            writer.write_raw("a", np.zeros(4, np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_type_that_torch_storages_lack(tmp_path):
    with pytest.raises(UserError, match="a: dtype U32"):
        TorchWriter(tmp_path / "x.pt", {"a": TensorInfo("U32", (2,))}, {})
