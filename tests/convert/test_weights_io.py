"""safetensors: agreement with the reference library, hostile files refused, nothing half-written."""

import json
import os
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindspore_osum.errors import UserError
from mindspore_osum.weights_io import (
    INDEX,
    SINGLE,
    TensorInfo,
    WeightsWriter,
    decode,
    encode,
    info_of,
    open_weights,
)

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.array([1.5, -2, 65504], np.float16),
    "ids": np.array([[1, -(2**40)]], np.int64),
    "scalar": np.array(3.25),
    "empty": np.zeros((0, 4), np.float32),
    "mask": np.array([True, False]),
    "bytes": np.arange(5, dtype=np.uint8),
}


def write(target, arrays=ARRAYS, **options):
    with WeightsWriter(target, {k: info_of(v) for k, v in arrays.items()}, **options) as writer:
        for name in sorted(arrays, reverse=True):  # any order will do
            writer.write(name, arrays[name])
    return target


def raw_file(path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def check(weights, arrays=ARRAYS):
    assert set(weights.infos) == set(arrays)
    for name, value in arrays.items():
        found = weights.read(name)
        assert found.dtype == value.dtype and found.shape == value.shape
        assert np.array_equal(found, value)


def test_reads_what_the_reference_library_writes(tmp_path):
    reference = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
    reference.save_file(ARRAYS, tmp_path / "x.safetensors", metadata={"made": "here"})
    with open_weights(tmp_path / "x.safetensors") as weights:
        check(weights)
        assert weights.metadata == {"made": "here"}


def test_reference_library_reads_what_we_write(tmp_path):
    reference = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
    write(tmp_path / "x.safetensors", metadata={"a": "b"})
    found = reference.load_file(tmp_path / "x.safetensors")
    assert set(found) == set(ARRAYS)
    assert all(np.array_equal(found[name], value) for name, value in ARRAYS.items())


def test_shards_and_index(tmp_path):
    write(tmp_path / "m", shard_bytes=40)
    shards = [p.name for p in (tmp_path / "m").glob("model-*")]
    assert len(shards) > 1 and all(p.stat().st_size < 1000 for p in (tmp_path / "m").iterdir())
    assert json.loads((tmp_path / "m" / INDEX).read_text())["metadata"]["total_size"] == sum(
        v.nbytes for v in ARRAYS.values()
    )
    with open_weights(tmp_path / "m") as weights:
        check(weights)


def test_saving_again_in_another_split_leaves_no_old_file(tmp_path):
    write(tmp_path / "m", shard_bytes=40)
    write(tmp_path / "m")
    assert [p.name for p in (tmp_path / "m").iterdir()] == [SINGLE]
    write(tmp_path / "m", shard_bytes=40)
    assert not (tmp_path / "m" / SINGLE).exists()
    with open_weights(tmp_path / "m") as weights:
        check(weights)


def test_arrays_outlive_the_reader(tmp_path):
    write(tmp_path / "x.safetensors")
    with open_weights(tmp_path / "x.safetensors") as weights:
        values = weights.read("a.weight")
    os.unlink(tmp_path / "x.safetensors")
    assert np.array_equal(values, ARRAYS["a.weight"])


@pytest.mark.parametrize("stop", ["exception", "forgotten"])
def test_nothing_appears_unless_everything_was_written(tmp_path, stop):
    infos = {k: info_of(v) for k, v in ARRAYS.items()}
    with pytest.raises((ValueError, KeyboardInterrupt)):
        with WeightsWriter(tmp_path / "m", infos) as writer:
            writer.write("half", ARRAYS["half"])
            if stop == "exception":
                raise KeyboardInterrupt
    assert list((tmp_path / "m").iterdir()) == []


def test_an_earlier_file_survives_a_failed_save(tmp_path):
    path = write(tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="not written"):
        with WeightsWriter(path, {"new": TensorInfo("F32", (9,))}):
            pass
    with open_weights(path) as weights:
        check(weights)


@pytest.mark.parametrize("values", [np.zeros(4, np.float32), np.zeros((3, 2), np.float32)])
def test_writer_refuses_another_shape(tmp_path, values):
    with pytest.raises(ValueError, match="announced"):
        with WeightsWriter(tmp_path / "x.safetensors", {"a": TensorInfo("F32", (2, 3))}) as writer:
            writer.write("a", values)


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32", "I64"])
@pytest.mark.parametrize("shape", [(), (0,), (1, 1)])
def test_one_number_and_none(dtype, shape):
    values = np.ones(shape, np.float32)
    got = decode(encode(values, dtype), TensorInfo(dtype, shape))
    assert got.shape == shape and (got == values).all()


def test_bfloat16_equals_torch_bit_for_bit():
    torch = pytest.importorskip("torch", reason="needs PyTorch as the reference of rounding")
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint64).astype(np.uint32)
    values = bits.view(np.float32)
    values = values[~np.isnan(values)]
    values = np.concatenate([values, np.float32([0, -0.0, np.inf, -np.inf, 1.00390625, 1.01171875, 3.4e38])])
    expected = torch.from_numpy(values).to(torch.bfloat16)
    raw = encode(values, "BF16")
    assert np.array_equal(raw.view(np.int16), expected.view(torch.int16).numpy())
    assert np.array_equal(decode(raw, TensorInfo("BF16", values.shape)), expected.float().numpy())
    nan = decode(encode(np.float32([np.nan, -np.nan]), "BF16"), TensorInfo("BF16", (2,)))
    assert np.isnan(nan).all()


NOTHING = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
ATTACKS = {
    "too short": (lambda p: p.write_bytes(b"abc"), "only 3 bytes"),
    "header longer than the file": (lambda p: raw_file(p, {}, length=10**9), "claims"),
    "header of 2^63 bytes": (lambda p: raw_file(p, {}, length=2**63), "claims"),
    "not JSON": (lambda p: raw_file(p, b"hello!!!"), "not JSON"),
    "not UTF-8": (lambda p: raw_file(p, b'{"\xff": 1}'), "not JSON"),
    "nested lists": (lambda p: raw_file(p, b"[" * 100_000), "not JSON"),
    "a list": (lambda p: raw_file(p, [1]), "not a mapping"),
    "name twice": (lambda p: raw_file(p, b'{"a":1,"a":2}'), "twice"),
    "metadata not text": (lambda p: raw_file(p, {"__metadata__": {"a": 1}}), "__metadata__"),
    "tensor is text": (lambda p: raw_file(p, {"a": "x"}), "expected dtype"),
    "unknown dtype": (lambda p: raw_file(p, {"a": ENTRY | {"dtype": "F4"}}, bytes(8)), "dtype 'F4'"),
    "dtype is a list": (lambda p: raw_file(p, {"a": ENTRY | {"dtype": []}}, bytes(8)), "dtype"),
    "negative size": (lambda p: raw_file(p, {"a": ENTRY | {"shape": [-2]}}, bytes(8)), "bad shape"),
    "fractional size": (lambda p: raw_file(p, {"a": ENTRY | {"shape": [2.0]}}, bytes(8)), "bad shape"),
    "boolean size": (lambda p: raw_file(p, {"a": ENTRY | {"shape": [True, 2]}}, bytes(8)), "bad shape"),
    "huge and empty": (lambda p: raw_file(p, {"a": ENTRY | {"shape": [0, 2**60, 2**60]}}), "bad shape"),
    "17 dimensions": (lambda p: raw_file(p, {"a": ENTRY | {"shape": [1] * 16 + [2]}}, bytes(8)), "bad shape"),
    "shape larger than data": (lambda p: raw_file(p, {"a": ENTRY | {"shape": [3]}}, bytes(8)), "need 12"),
    "offsets reversed": (lambda p: raw_file(p, {"a": ENTRY | {"data_offsets": [8, 0]}}, bytes(8)), "starts"),
    "negative offset": (lambda p: raw_file(p, {"a": ENTRY | {"data_offsets": [-8, 0]}}, bytes(8)), "offsets"),
    "beyond the file": (lambda p: raw_file(p, {"a": ENTRY}, bytes(4)), "truncated"),
    "bytes left over": (lambda p: raw_file(p, {"a": ENTRY}, bytes(9)), "truncated or padded"),
    "overlap": (
        lambda p: raw_file(p, {"a": ENTRY, "b": ENTRY | {"data_offsets": [4, 12]}}, bytes(12)),
        "hole or overlap",
    ),
    "two names, one span": (lambda p: raw_file(p, {"a": ENTRY, "b": ENTRY}, bytes(8)), "hole or overlap"),
    "hole": (lambda p: raw_file(p, {"a": ENTRY | {"data_offsets": [4, 12]}}, bytes(12)), "hole or overlap"),
    "200,000 names": (
        lambda p: raw_file(p, dict.fromkeys(map(str, range(200_000)), NOTHING)),
        "JSON of 1400000 values",
    ),
    "a header of 17 MB": (lambda p: raw_file(p, b" " * 17_000_000), "limit: 16000000"),
    "a pipe": (os.mkfifo, "not a regular file"),
    "a device": (lambda p: p.symlink_to("/dev/zero"), "not a regular file"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_hostile_file_is_one_line(tmp_path, name):
    attack, message = ATTACKS[name]
    attack(tmp_path / "x.safetensors")
    with pytest.raises(UserError) as caught:
        open_weights(tmp_path / "x.safetensors")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert "x.safetensors" in str(caught.value)


INDEX_ATTACKS = {
    "not JSON": (b"{", "not a JSON object"),
    "no weight_map": (b"{}", "not a valid index"),
    "weight_map is a list": (b'{"weight_map": [1]}', "not a valid index"),
    "outside the folder": (b'{"weight_map": {"a": "../x.safetensors"}}', "not a plain file name"),
    "an absolute path": (b'{"weight_map": {"a": "/etc/passwd"}}', "not a plain file name"),
    "a zero byte": (b'{"weight_map": {"a": "s\\u0000.safetensors"}}', "cannot read it"),
    "half of a character": (b'{"weight_map": {"a": "\\ud800"}}', "half of a character"),
    "itself": (b'{"weight_map": {"a": "model.safetensors.index.json"}}', "not a valid safetensors file"),
    "missing file": (b'{"weight_map": {"a": "gone.safetensors"}}', "cannot open"),
    "tensor not in file": (b'{"weight_map": {"zz": "s.safetensors"}}', "only one of"),
}


@pytest.mark.parametrize("name", INDEX_ATTACKS)
def test_hostile_index_is_one_line(tmp_path, name):
    data, message = INDEX_ATTACKS[name]
    write(tmp_path / "s.safetensors")
    (tmp_path / INDEX).write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        open_weights(tmp_path)
    assert "\n" not in str(caught.value)


def test_folder_without_and_with_two_kinds_of_weights(tmp_path):
    with pytest.raises(UserError, match="no model.safetensors"):
        open_weights(tmp_path)
    with pytest.raises(UserError, match="cannot open"):
        open_weights(tmp_path / "gone.safetensors")
    write(tmp_path / SINGLE)
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(UserError, match="has both"):
        open_weights(tmp_path)


@settings(max_examples=150, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 60),
)
def test_damaged_bytes_give_a_user_error_or_readable_tensors(tmp_path_factory, edits, cut):
    path = tmp_path_factory.mktemp("fuzz") / "x.safetensors"
    data = bytearray(write(path).read_bytes())
    for place, value in edits:
        data[place % len(data)] = value
    path.write_bytes(data[: len(data) - cut])
    try:
        with open_weights(path) as weights:
            for name in weights.infos:
                weights.read(name)
    except UserError as error:
        assert "\n" not in str(error)
