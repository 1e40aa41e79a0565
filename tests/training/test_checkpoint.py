import json
import os

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.training import checkpoint
from mindspore_osum.training.digests import Damaged, of_values

ARRAYS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "global_step": np.array([3], np.int32)}


def save(folder, step, keep_last=2):
    return checkpoint.save(folder, step, ARRAYS, {"fingerprint": {}}, keep_last)


def params(**over):
    from mindspore import Parameter, Tensor

    return {name: Parameter(Tensor(np.zeros_like(a)), name=name) for name, a in {**ARRAYS, **over}.items()}


def test_what_was_saved_comes_back(tmp_path):
    path = save(tmp_path, 5)
    assert path.name == "step_000005" and checkpoint.read_about(path)["step"] == 5
    back = params()
    checkpoint.restore(path, back)
    for name, values in ARRAYS.items():
        assert np.array_equal(back[name].asnumpy(), values) and back[name].asnumpy().dtype == values.dtype


def test_the_newest_are_kept_in_order(tmp_path):
    for step in (2, 4, 6, 1000000):
        save(tmp_path, step, keep_last=3)
    assert [step for step, _ in checkpoint.found(tmp_path)] == [4, 6, 1000000]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_000004", "step_000006", "step_1000000"]


@pytest.mark.parametrize("where", ["write", "replace"])
def test_a_failure_leaves_the_older_ones(tmp_path, monkeypatch, where):
    save(tmp_path, 1, keep_last=1)

    def fail(*args):
        raise OSError(28, "No space left on device")

    if where == "write":
        monkeypatch.setattr(checkpoint.WeightsWriter, "write", fail)
    else:
        monkeypatch.setattr(checkpoint.os, "replace", fail)
    with pytest.raises(UserError, match="step_000002: cannot write the checkpoint .No space left"):
        save(tmp_path, 2, keep_last=1)
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["step_000001"]
    checkpoint.restore(checkpoint.found(tmp_path)[0][1], params())


def test_a_folder_without_its_marker_is_no_checkpoint(tmp_path):
    save(tmp_path, 1)
    os.remove(save(tmp_path, 2) / checkpoint.MARKER)
    (tmp_path / ".step_000003.partial").mkdir()
    assert [step for step, _ in checkpoint.found(tmp_path)] == [1]
    save(tmp_path, 4)
    assert not (tmp_path / ".step_000003.partial").exists()
    assert checkpoint.found(tmp_path / "none") == []


def test_another_network_is_refused(tmp_path):
    path = save(tmp_path, 1)
    with pytest.raises(UserError, match="1 tensors do not match, extra is only in the run"):
        checkpoint.restore(path, params(extra=np.zeros(2, np.float32)))
    few = params()
    del few["w"]
    with pytest.raises(UserError, match="w is only in the checkpoint"):
        checkpoint.restore(path, few)
    with pytest.raises(UserError, match=r"w has the shape \(2, 3\), where \(3, 2\) is needed"):
        checkpoint.restore(path, params(w=np.zeros((3, 2), np.float32)))


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2, "step": 1, "fingerprint": {}}', '{"format": 1}'])
def test_a_damaged_marker_is_refused(tmp_path, text):
    path = save(tmp_path, 1)
    (path / checkpoint.MARKER).write_text(text)
    with pytest.raises(Damaged, match="damaged"):
        checkpoint.read_about(path)


def test_another_version_is_refused_and_never_passed_over(tmp_path):
    save(tmp_path, 1)
    values = {"format": 3, "step": 2, "fingerprint": {}}
    (tmp_path / "step_000002").mkdir()
    text = json.dumps({**values, "digest": of_values(values)})
    (tmp_path / "step_000002" / checkpoint.MARKER).write_text(text)
    with pytest.raises(UserError, match="not a checkpoint of this version") as refused:
        checkpoint.choose(tmp_path)
    assert not isinstance(refused.value, Damaged)


def test_the_marker_tells_where_the_run_was(tmp_path):
    path = checkpoint.save(tmp_path, 7, ARRAYS, {"epoch": 1, "place": 2, "fingerprint": {"seed": 3}}, 1)
    about = json.loads((path / checkpoint.MARKER).read_text())
    assert len(about.pop("digest")) == 32 and list(about.pop("digests")) == [checkpoint.STATE]
    assert about == {"format": 2, "step": 7, "epoch": 1, "place": 2, "fingerprint": {"seed": 3}}
    assert checkpoint.position(path) == (1, 2)


def test_the_checkpoint_just_written_is_never_removed(tmp_path):
    save(tmp_path, 900, keep_last=1)
    assert save(tmp_path, 4, keep_last=1).is_dir()  # a number below those that are there
    assert [step for step, _ in checkpoint.found(tmp_path)] == [4]  # the run went on from before 900
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_000004", "step_000900.unused"]


def test_a_checkpoint_of_the_same_step_is_replaced(tmp_path):
    save(tmp_path, 1)
    os.remove(save(tmp_path, 2) / checkpoint.MARKER)
    checkpoint.save(tmp_path, 2, ARRAYS, {"fingerprint": {"new": 1}}, 2)
    assert checkpoint.read_about(tmp_path / "step_000002")["fingerprint"] == {"new": 1}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_000001", "step_000002"]


def flip(path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def bits_of(path, some: int) -> list[int]:
    """Numbers of bits, spread over a file."""
    size = 8 * path.stat().st_size
    return [int(n) for n in np.random.default_rng(0).permutation(size)[:some]]


@pytest.mark.parametrize("name", [checkpoint.STATE, checkpoint.MARKER])
def test_a_flipped_bit_anywhere_is_noticed(tmp_path, capsys, name):
    """The step before is used, and one line says why."""
    save(tmp_path, 1)
    path = save(tmp_path, 2) / name
    for bit in bits_of(path, 400):
        flip(path, bit)
        assert checkpoint.choose(tmp_path) == (1, tmp_path / "step_000001"), bit
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and str(path) in told and "step 1 is used instead" in told
        flip(path, bit)
    assert checkpoint.choose(tmp_path)[0] == 2 and not capsys.readouterr().err


def test_damaged_files_of_every_kind_are_passed_over(tmp_path, capsys):
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    whole = (path / checkpoint.STATE).read_bytes()
    for name, data in (
        ("shorter", whole[:-1]),
        ("empty", b""),
        ("zeros", bytes(len(whole))),
        ("of another checkpoint", (tmp_path / "step_000001" / checkpoint.STATE).read_bytes()[:-4] + b"abcd"),
    ):
        (path / checkpoint.STATE).write_bytes(data)
        assert checkpoint.choose(tmp_path)[0] == 1, name
    (path / checkpoint.STATE).unlink()
    assert checkpoint.choose(tmp_path)[0] == 1
    os.mkfifo(path / checkpoint.STATE)  # would wait for a writer
    assert checkpoint.choose(tmp_path)[0] == 1
    assert "not a regular file; step 1 is used instead" in capsys.readouterr().err


def test_no_whole_checkpoint_is_no_fresh_start(tmp_path):
    flip(save(tmp_path, 1) / checkpoint.STATE, 999)
    with pytest.raises(UserError, match="damaged, its bytes .*; none is whole, or start anew"):
        checkpoint.choose(tmp_path)


def test_a_step_can_be_named(tmp_path):
    assert checkpoint.choose(tmp_path / "none") is None
    for step in (1, 2, 3):
        save(tmp_path, step, keep_last=3)
    assert checkpoint.choose(tmp_path, 2) == (2, tmp_path / "step_000002")
    with pytest.raises(UserError, match="no checkpoint of step 7; there are: 1, 2, 3"):
        checkpoint.choose(tmp_path, 7)
    flip(tmp_path / "step_000002" / checkpoint.STATE, 999)
    with pytest.raises(UserError, match="state.safetensors: damaged, .*; give another"):
        checkpoint.choose(tmp_path, 2)


def test_checkpoints_of_before_the_digests_still_load(tmp_path, capsys):
    path = save(tmp_path, 1)
    about = {"format": 1, "step": 1, "epoch": 0, "place": 1, "fingerprint": {}}
    (path / checkpoint.MARKER).write_text(json.dumps(about))
    assert checkpoint.choose(tmp_path) == (1, path)
    assert "without digests" in capsys.readouterr().err
    (path / checkpoint.MARKER).write_text(json.dumps({**about, "digest": "0"}))  # a flipped version
    with pytest.raises(Damaged):
        checkpoint.verify(path)
    (path / checkpoint.MARKER).write_text(json.dumps({**about, "place": -1}))
    with pytest.raises(Damaged):
        checkpoint.verify(path)
