"""The `.pt` reader: equal to torch.load on what PyTorch writes, one line on everything hostile."""

import collections
import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckpt_convert.torch_reader import open_torch
from mindspore_osum.errors import UserError
from tests.attacks.attacks import DIRECTORY_ENDS, large_directory
from tests.convert.common import bits, pickle_of, rewrite_zip, save, text, torch, write_pt

DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)


def check(path, state):
    with open_torch(path) as weights:
        assert set(weights.infos) == set(state)
        for name, tensor in state.items():
            assert weights.infos[name].shape == tuple(tensor.shape), name
            assert np.array_equal(weights.raw(name), bits(tensor)), name


def test_every_golden_tensor_equals_torch_load(shared):
    path = shared / "golden" / "model.pt"
    state = torch.load(path, weights_only=True)
    assert len(state) == 201
    check(path, state)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_types(tmp_path, dtype):
    state = {"a": (torch.randn(3, 5) * 4).to(dtype), "scalar": torch.ones((), dtype=dtype)}
    check(save(state, tmp_path / "x.pt"), state)


def test_views_share_a_storage(tmp_path):
    base = torch.randn(7, 9)
    state = {
        "whole": base,
        "transposed": base.T,
        "column": base[:, 2],
        "steps": base[1::2, ::3],
        "tail": base[5:],
        "permuted": torch.randn(2, 3, 4).permute(2, 0, 1),
        "expanded": torch.randn(4, 1).expand(4, 5),
        "empty": base[:0],
        "alias": base,
        "ones": torch.randn(1, 3, 1).transpose(0, 2),
    }
    check(save(state, tmp_path / "x.pt"), state)
    with open_torch(tmp_path / "x.pt") as weights:
        assert ["whole", "alias"] in weights.shared()


def test_numbers_of_every_type(tmp_path):
    state = {
        "b": torch.tensor([1.5, -3e38], dtype=torch.bfloat16),
        "h": torch.tensor([0.1], dtype=torch.float16),
    }
    with open_torch(save(state, tmp_path / "x.pt")) as weights:
        assert np.array_equal(weights.read("b"), state["b"].float().numpy())
        assert weights.read("h").dtype == np.float16


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "module"])
def test_wrapped_dictionaries(tmp_path, wrapper):
    state = collections.OrderedDict(a=torch.ones(2), b=torch.zeros(3, 1))
    path = save({"epoch": 3, wrapper: state, "note": "x", "dims": {"n": 1}}, tmp_path / "x.pt")
    check(path, state)
    with open_torch(path) as weights:
        assert weights.extra == {"epoch": 3, "note": "x", "dims": {"n": 1}}


def test_counters_beside_a_wrapped_dictionary(tmp_path):
    state = {"a": torch.ones(50, 50)}
    steps = {
        "step": torch.tensor(7),
        "rates": torch.ones(3),
        "optimizer": {"state": {0: {"m": torch.ones(9)}}},
    }
    check(save({"model": state, **steps}, tmp_path / "x.pt"), state)
    for content, message in (
        (
            {"model": state, "head.weight": torch.ones(50, 50)},
            "'head.weight' lies beside the dictionary 'model'",
        ),
        ({"model": state, "state_dict": state}, "more than one of state_dict"),
    ):
        with pytest.raises(UserError, match=message):
            open_torch(save(content, tmp_path / "y.pt"))


def test_wrapped_twice(tmp_path):
    state = {"a": torch.ones(2)}
    check(save({"state_dict": {"module": state}}, tmp_path / "x.pt"), state)


def test_parameters_and_modules(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4))
    check(save(module.state_dict(), tmp_path / "x.pt"), module.state_dict())
    parameters = dict(module.named_parameters())
    check(save(parameters, tmp_path / "y.pt"), parameters)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_protocols(tmp_path, protocol):
    state = {"a": torch.randn(2, 2), "long": torch.arange(3)}
    torch.save(state, tmp_path / "x.pt", pickle_protocol=protocol)
    check(tmp_path / "x.pt", state)


def tensor_opcodes(
    rebuild: bytes, tail: bytes, count=4, cls=b"torch\nFloatStorage", shape=(2, 2), stride=(2, 1), offset=0
):
    def number(n):
        return b"\x8a\x08" + struct.pack("<q", n)

    def numbers(values):
        return b"(" + b"".join(number(n) for n in values) + b"t"

    pid = b"(" + text("storage") + b"c" + cls + b"\n" + text("0") + text("cpu") + number(count) + b"tQ"
    return b"c" + rebuild + b"\n(" + pid + number(offset) + numbers(shape) + numbers(stride) + tail + b"tR"


TAIL = b"\x89}"  # requires_grad False, no hooks
V2 = b"torch._utils\n_rebuild_tensor_v2"


def one_tensor(**changes) -> bytes:
    return pickle_of(b"}", text("a"), tensor_opcodes(V2, TAIL, **changes), b"s")


def test_tensor_of_an_ascend_device(tmp_path):
    values = np.arange(4, dtype=np.float32)
    layout = b"ctorch_npu.npu._format\nFormat\n(K\x02tR"
    opcodes = tensor_opcodes(b"torch_npu.utils.storage\n_rebuild_npu_tensor", TAIL + layout)
    path = write_pt(tmp_path / "x.pt", pickle_of(b"}", text("a"), opcodes, b"s"), {"0": values.tobytes()})
    with open_torch(path) as weights:
        assert np.array_equal(weights.read("a"), values.reshape(2, 2))


BAD_TENSORS = {
    "shape beyond the storage": (dict(shape=(2, 3)), "reaches beyond"),
    "offset beyond the storage": (dict(offset=1), "reaches beyond"),
    "stride beyond the storage": (dict(stride=(3, 1)), "reaches beyond"),
    "huge shape": (dict(shape=(2**40, 2**40)), "bad shape"),
    "huge repeated shape": (dict(shape=(2**40, 1), stride=(0, 0)), "repeats"),
    "huge and empty": (dict(shape=(0, 2**62)), "bad shape"),
    "negative size": (dict(shape=(-1, 2)), "bad shape"),
    "negative stride": (dict(stride=(-1, 1)), "bad shape"),
    "negative offset": (dict(offset=-4), "bad shape"),
    "shape and stride differ": (dict(shape=(4,)), "damaged pickle"),
    "storage announced larger": (dict(count=5), "not 5 elements"),
    "storage announced smaller": (dict(count=3), "not 3 elements"),
    "negative storage": (dict(count=-4), "not -4 elements"),
    "quantised storage": (dict(cls=b"torch\nQInt8Storage"), "torch.QInt8Storage"),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_bad_tensor_is_one_line(tmp_path, name):
    changes, message = BAD_TENSORS[name]
    refused(write_pt(tmp_path / "x.pt", one_tensor(**changes), {"0": bytes(16)}), message)


def refused(path, message):
    with pytest.raises(UserError) as caught:
        open_torch(path)
    assert message in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    assert path.name in str(caught.value)


class Evil:
    """Runs a command when unpickled."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


BAD_PICKLES = {
    "os.system": (pickle.dumps({"a": Evil(__import__("os").system, "touch hacked")}, 2), "system'"),
    "eval": (pickle.dumps(Evil(eval, "1"), 4), "eval'"),
    "getattr": (pickle_of(b"c__builtin__\ngetattr\n(tR"), "'__builtin__.getattr'"),
    "an argparse.Namespace": (
        pickle.dumps({"args": __import__("argparse").Namespace(a=1)}, 2),
        "argparse.Namespace",
    ),
    "a storage class called": (pickle_of(b"ctorch\nFloatStorage\n(K\x05tR"), "'torch.FloatStorage'"),
    "text called": (pickle_of(text("x"), b"(tR"), "'str'"),
    "state set on a list": (pickle_of(b"]}b"), "state of a list"),
    "attributes set by a dictionary": (
        pickle_of(b"ccollections\nOrderedDict\n)R", text("x"), b"b"),
        "state of a dict",
    ),
    "INST": (b"(ios\nsystem\n.", "opcode"),
    "NEWOBJ": (pickle_of(b"ctorch\nFloatStorage\n)\x81"), "opcode"),
    "EXT1": (pickle_of(b"\x82\x01"), "opcode"),
    "persistent id of another kind": (pickle_of(text("x"), b"Q"), "damaged pickle"),
    "integer of 255 bytes": (pickle_of(b"\x8a\xff" + bytes(255)), "255 bytes"),
    "text longer than the file": (pickle_of(b"X\xff\xff\xff\x7f"), "damaged pickle"),
    "no end": (b"\x80\x02}", "damaged pickle"),
    "empty": (b"", "damaged pickle"),
    "memo that is not there": (pickle_of(b"h\x07"), "damaged pickle"),
    "stack empty": (pickle_of(b"}s"), "damaged pickle"),
    "tuple as key": (pickle_of(b"}", b")K\x01s"), "key of type tuple"),
    "list as key": (pickle_of(b"}", b"]K\x01s"), "key of type list"),
    "protocol 9": (b"\x80\x09}.", "protocol 9"),
    "a list": (pickle_of(b"]"), "a list, not a dictionary"),
    "no tensors": (pickle_of(b"}", text("a"), b"K\x01s"), "among its keys: 'a'"),
    "numbers as keys": (pickle_of(b"}K\x01", tensor_opcodes(V2, TAIL), b"s"), "not text"),
    "a dictionary in itself": (pickle_of(b"}q\x00", text("model"), b"h\x00s"), "no tensors in it"),
    "two models": (pickle_of(b"}", text("model"), b"}s", text("module"), b"}s"), "among its keys"),
    # each of these took gigabytes or minutes
    "Size of bytes, again and again": (
        pickle_of(
            b"ctorch\nSize\nq\x00B",
            struct.pack("<I", 20000),
            bytes(20000),
            b"\x85q\x01",
            b"h\x00h\x01R" * 60000,
        ),
        "damaged pickle",
    ),
    "a parameter with many arguments": (
        pickle_of(
            b"ctorch._utils\n_rebuild_parameter\nq\x00(", b"N" * 1000, b"tq\x01", b"h\x00h\x01R" * 60000
        ),
        "'torch._utils._rebuild_parameter' with 1000 arguments",
    ),
    "more objects than any model has": (pickle_of(b"}" * (1 << 20)), "more than 300000 opcodes"),
    "a pickle of 9 MB": (pickle_of(b"}" * (9 << 20)), "more than 8388608"),
    "a number of elements that grows when printed": (
        pickle_of(
            b"(",
            text("storage"),
            b"ctorch\nFloatStorage\n",
            text("0"),
            text("cpu"),
            b")" + b"q\x00h\x00\x86" * 60,
            b"tQ",
        ),
        "damaged pickle",
    ),
    "OrderedDict with items": (pickle_of(b"ccollections\nOrderedDict\n(](K\x01K\x02etR"), "made from items"),
}


@pytest.mark.parametrize("name", BAD_PICKLES)
def test_bad_pickle_is_one_line_and_nothing_runs(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    data, message = BAD_PICKLES[name]
    refused(write_pt(tmp_path / "x.pt", data, {"0": bytes(16)}), message)
    assert not (tmp_path / "hacked").exists()


def test_tuples_of_tuples_stay_small(tmp_path):
    # 2^60 elements if anyone walked it
    bomb = pickle_of(b"}", text("x"), b")", b"".join(b"q\x00h\x00\x86" for _ in range(60)), b"s")
    refused(write_pt(tmp_path / "x.pt", bomb), "no tensors")


@pytest.fixture
def good(tmp_path):
    return save({"a": torch.randn(50, 20), "b": torch.ones(3)}, tmp_path / "good.pt")


def test_cut_short_anywhere(good, tmp_path):
    data = good.read_bytes()
    for cut in (0, 1, 2, 30, 100, len(data) // 2, len(data) - 100, len(data) - 1):
        (tmp_path / "x.pt").write_bytes(data[:cut])
        with pytest.raises(UserError, match="x.pt: not a PyTorch checkpoint"):
            open_torch(tmp_path / "x.pt")


def test_cut_short_after_opening(good):
    with open_torch(good) as weights:
        with open(good, "r+b") as file:
            file.truncate(200)
        with pytest.raises(UserError, match="became shorter"):
            weights.raw("b")


def test_missing_storage_is_named(good, tmp_path):
    path = rewrite_zip(good, tmp_path / "x.pt", lambda n, d: None if n == "data/1" else d)
    refused(path, "storage '1' is missing")


def test_storage_of_another_size(good, tmp_path):
    refused(
        rewrite_zip(good, tmp_path / "x.pt", lambda n, d: d[:-4] if n == "data/0" else d), "not 1000 elements"
    )


def test_big_endian(good, tmp_path):
    refused(
        rewrite_zip(good, tmp_path / "x.pt", lambda n, d: b"big" if n == "byteorder" else d), "big-endian"
    )


def test_old_format(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    refused(tmp_path / "x.pt", "before PyTorch 1.6")


@pytest.mark.filterwarnings("ignore:.*jit:DeprecationWarning")
def test_torchscript(tmp_path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "x.pt"))
    refused(tmp_path / "x.pt", "TorchScript")


def test_missing_file(tmp_path):
    refused(tmp_path / "gone.pt", "cannot open")


def test_zip_without_a_pickle(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("readme", "x")
    refused(tmp_path / "x.pt", "no data.pkl")


def test_compressed_bomb(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", one_tensor(count=10**8, shape=(10**4, 10**4), stride=(10**4, 1)))
        archive.writestr("archive/data/0", bytes(4 * 10**7))
    assert (tmp_path / "x.pt").stat().st_size < 10**6
    refused(tmp_path / "x.pt", "is compressed")


def edit_directory(path, edit):
    """Apply ``edit(record, name)`` to every record (bytearray, at least 46 bytes) of the directory."""
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    at = struct.unpack_from("<I", data, end + 16)[0]
    while data[at : at + 4] == b"PK\x01\x02":
        name_length, extra, comment = struct.unpack_from("<HHH", data, at + 28)
        size = 46 + name_length + extra + comment
        record = data[at : at + size]
        edit(record, bytes(record[46 : 46 + name_length]).decode())
        data[at : at + size] = record
        at += size
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("end", DIRECTORY_ENDS)
def test_more_entries_than_any_model_has(tmp_path, end):
    """Refused by the size of the zip's directory, before it is read."""
    (tmp_path / "x.pt").write_bytes(large_directory(end))
    refused(tmp_path / "x.pt", "a zip directory of 90000")


def test_strides_that_no_step_takes(tmp_path):
    changes = dict(shape=(1, 2), stride=(2**62, 2))
    with open_torch(write_pt(tmp_path / "x.pt", one_tensor(**changes), {"0": bytes(16)})) as weights:
        assert weights.read("a").shape == (1, 2)


@pytest.mark.parametrize("stride", [b"](K\x02K\x01e", b"}K\x02NsK\x01Ns", b"C\x02\x02\x01"])
def test_strides_are_a_tuple(tmp_path, stride):
    """A list could be changed after it was checked, and cannot be compared."""
    made = tensor_opcodes(V2, TAIL).replace(b"t\x89}tR", b"\x89}tR")
    at = made.rindex(b"(")
    pickle = pickle_of(b"}", text("a"), made[:at] + stride + TAIL + b"tR", b"s")
    refused(write_pt(tmp_path / "x.pt", pickle, {"0": bytes(16)}), "damaged pickle")


def test_tensors_that_together_are_larger_than_the_file(tmp_path):
    changes = dict(shape=(2**22,), stride=(0,))  # 16 MB each, of another element each
    several = [
        piece
        for n in range(4)
        for piece in (text(f"a{n}"), tensor_opcodes(V2, TAIL, offset=n, **changes), b"s")
    ]
    path = write_pt(tmp_path / "x.pt", pickle_of(b"}", *several[:9]), {"0": bytes(16)})
    with open_torch(path) as weights:
        assert len(weights.infos) == 3
    more = several + [text("b"), tensor_opcodes(V2, TAIL, shape=(2**20,), stride=(0,)), b"s"]
    refused(write_pt(tmp_path / "y.pt", pickle_of(b"}", *more), {"0": bytes(16)}), "repeat what is stored")


def test_entries_that_share_bytes(tmp_path):
    path = write_pt(tmp_path / "x.pt", one_tensor(), {"0": bytes(16), "1": bytes(16)})
    offsets = {}

    def point_one_at_zero(record, name):
        offsets[name] = record[42:46]
        if name.endswith("data/1"):
            record[42:46] = offsets["archive/data/0"]

    refused(edit_directory(path, point_one_at_zero), "overlaps another")


def test_entry_that_is_larger_than_the_file(tmp_path):
    path = write_pt(tmp_path / "x.pt", one_tensor(), {"0": bytes(16)})

    def enlarge(record, name):
        if name.endswith("data/0"):
            record[20:28] = struct.pack("<II", 2**31, 2**31)

    refused(edit_directory(path, enlarge), "lies outside")


def test_entry_whose_header_is_elsewhere(tmp_path):
    path = write_pt(tmp_path / "x.pt", one_tensor(), {"0": bytes(16)})

    def shift(record, name):
        if name.endswith("data/0"):
            record[42:46] = struct.pack("<I", struct.unpack("<I", record[42:46])[0] + 1)

    refused(edit_directory(path, shift), "no header where")


def test_name_twice(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        for folder in ("a", "b"):
            archive.writestr(f"{folder}/data.pkl", one_tensor())
    refused(tmp_path / "x.pt", "appears twice")


@settings(max_examples=200, deadline=None)
@given(edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=5))
def test_damaged_bytes_give_a_user_error_or_readable_tensors(tmp_path_factory, edits):
    folder = tmp_path_factory.mktemp("fuzz")
    state = {"model": {"a": torch.ones(3, 2).T, "b": torch.zeros(2, dtype=torch.int64)}, "n": 1}
    data = bytearray(save(state, folder / "x.pt").read_bytes())
    for place, value in edits:
        data[place % len(data)] = value
    (folder / "x.pt").write_bytes(data)
    try:
        with open_torch(folder / "x.pt") as weights:
            for name in weights.infos:
                weights.read(name)
    except UserError as error:
        assert "\n" not in str(error)


@settings(max_examples=400, deadline=None)
@given(pickle=st.binary(max_size=80), cut=st.integers(0, 120))
def test_random_pickles_give_a_user_error(tmp_path_factory, pickle, cut):
    path = tmp_path_factory.mktemp("fuzz") / "x.pt"
    write_pt(path, one_tensor()[:cut] + pickle, {"0": bytes(16)})
    try:
        with open_torch(path) as weights:
            assert weights.infos
    except UserError as error:
        assert "\n" not in str(error)
