"""Reads PyTorch `.pt` checkpoints without PyTorch and without unpickling.

A `.pt` is a zip of stored (never compressed) entries: `data.pkl` describes the dictionary, `data/<key>` has
the bytes of storage <key>. The description is read by `pickle_subset`; a tensor's bytes are memory-mapped on
demand.

Notable choices
- Every entry must be stored, lie inside the file and not overlap others, which excludes zip bombs.
- A tensor is (storage, offset, size, stride) and is checked against its storage before use; tensors may
  share a storage and may be non-contiguous. Repeated elements (stride 0) are refused beyond 64 MiB, as are
  tensors that together are much larger than the file.
- The dictionary may be wrapped: `{"state_dict" | "model_state_dict" | "model" | "module": {...}}`, with small
  tensors beside it (a step, a rate). Other values are kept in `extra` (openai-whisper's `dims`).
"""

import contextlib
import math
import os
import struct
import zipfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ckpt_convert.pickle_subset import Global, StateDictPickle
from mindspore_osum.errors import UserError
from mindspore_osum.files import open_regular
from mindspore_osum.weights_io import DTYPES, TensorInfo, Weights, map_bytes, valid_name, valid_shape

STORAGES = {
    "torch.DoubleStorage": "F64",
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
}
# values that a state_dict may contain but that do not affect its tensors
_OTHER_NAMES = {
    f"torch.{name}" for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "bool")
}
_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
_MAX_PICKLE = 8 << 20  # bytes of data.pkl; a 7B model needs 0.2 MB
_MAX_NAME = 100  # characters of a storage's name; torch numbers them
_MAX_DIRECTORY = 8 << 20  # bytes of the zip's list of entries; a 7B model needs 0.1 MB
_MAX_COUNTER = 1024  # elements of a tensor beside a wrapped state_dict that is surely none of its weights
_MAX_REPEATED = 64 << 20  # bytes of a tensor that is larger than its storage
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, length of the name, length of the extra field


@dataclass(frozen=True)
class _Storage:
    dtype: str
    start: int  # of its bytes in the file
    count: int  # elements


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int  # elements
    shape: tuple[int, ...]
    stride: tuple[int, ...]  # elements


class _Bounded:
    """A file for `zipfile`, which reads the list of entries at once, whatever its end records claim."""

    def __init__(self, file: BinaryIO, fail: Callable[[str], UserError]):
        self.seek, self.tell, self._read, self._fail = file.seek, file.tell, file.read, fail

    def read(self, size: int = -1) -> bytes:
        """As of a file; UserError for more than a list of entries has."""
        if size > _MAX_DIRECTORY:
            raise self._fail(f"a zip directory of {size} bytes, far more than a model needs")
        return self._read(size)


class TorchWeights(Weights):
    """Tensors of a `.pt`; see `open_torch`.

    Attributes
    ----------
    extra : top-level values of the file that are neither tensors nor dictionaries of tensors.
    """

    def __init__(self, path: Path):
        try:
            self._file = open_regular(path)
        except OSError as error:
            raise UserError(f"{path}: cannot open the checkpoint ({error.strerror})") from None
        self._path = path
        try:
            self._entries = self._read_directory()
            tensors, self.extra = self._read_tensors()
        except UserError:
            self._file.close()
            raise
        super().__init__(str(path), {n: TensorInfo(t.storage.dtype, t.shape) for n, t in tensors.items()})
        self._tensors = tensors

    def shared(self) -> list[list[str]]:
        groups = defaultdict(list)
        for name, tensor in self._tensors.items():
            groups[tensor].append(name)
        return [names for names in groups.values() if len(names) > 1]

    def raw(self, name: str) -> np.ndarray:
        tensor = self._tensors[name]
        item = DTYPES[tensor.storage.dtype].itemsize
        start = tensor.storage.start + tensor.offset * item
        span = _span(tensor.shape, tensor.stride)
        held = map_bytes(self._file, start, span * item)
        if _is_contiguous(tensor.shape, tensor.stride):
            return held
        strides = tuple(s * item for s in tensor.stride)
        view = np.lib.stride_tricks.as_strided(held.view(DTYPES[tensor.storage.dtype]), tensor.shape, strides)
        return np.ascontiguousarray(view).reshape(-1).view(np.uint8)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # all that was wanted has been read
            self._file.close()

    def _fail(self, what: str) -> UserError:
        return UserError(f"{self._path}: not a PyTorch checkpoint that can be read: {what}")

    def _read_directory(self) -> dict[str, tuple[int, int]]:
        """Entry name without the archive's folder -> (start, size), all checked."""
        size = os.fstat(self._file.fileno()).st_size
        magic = self._file.read(2)
        if magic == b"\x80\x02":
            raise self._fail(
                "the old format from before PyTorch 1.6; torch.save it again with a newer PyTorch"
            )
        try:
            with zipfile.ZipFile(_Bounded(self._file, self._fail)) as archive:
                infos = archive.infolist()
        except (
            zipfile.BadZipFile,
            struct.error,
            ValueError,
            NotImplementedError,
            OverflowError,
            OSError,
        ) as error:
            raise self._fail(f"no zip directory, so truncated or not a .pt ({str(error)[:80]})") from None
        if any(info.filename.endswith("/constants.pkl") for info in infos):
            raise self._fail("a TorchScript archive; torch.save model.state_dict() instead")
        entries: dict[str, tuple[int, int]] = {}
        end = 0
        for info in sorted(infos, key=lambda i: i.header_offset):
            start = self._data_start(info)
            if info.header_offset < end or start + info.file_size > size:
                raise self._fail(f"entry {info.filename[:80]!r} overlaps another or lies outside the file")
            end = start + info.file_size
            name = info.filename.partition("/")[2]
            if name in entries:
                raise self._fail(f"entry {info.filename[:80]!r} appears twice")
            entries[name] = (start, info.file_size)
        return entries

    def _data_start(self, info: zipfile.ZipInfo) -> int:
        if (
            info.compress_type != zipfile.ZIP_STORED
            or info.compress_size != info.file_size
            or info.flag_bits & 1
        ):
            raise self._fail(
                f"entry {info.filename[:80]!r} is compressed or encrypted, which torch.save never does"
            )
        self._file.seek(max(info.header_offset, 0))
        header = self._file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
            raise self._fail(f"entry {info.filename[:80]!r} has no header where the directory says")
        _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
        return info.header_offset + _LOCAL_HEADER.size + name_length + extra_length

    def _bytes(self, name: str, limit: int) -> bytes:
        start, size = self._entries[name]
        if size > limit:
            raise self._fail(f"{name} has {size} bytes, more than {limit}")
        return map_bytes(self._file, start, size).tobytes()

    def _read_tensors(self) -> tuple[dict[str, _Tensor], dict]:
        if "data.pkl" not in self._entries:
            raise self._fail("the zip has no data.pkl")
        if "byteorder" in self._entries and self._bytes("byteorder", 16).strip() != b"little":
            raise self._fail("it was written on a big-endian machine")
        callables = {
            "collections.OrderedDict": self._ordered_dict,
            "torch._utils._rebuild_tensor_v2": self._rebuild_tensor,
            "torch._utils._rebuild_parameter": _rebuild_parameter,
            "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
            "torch.Size": _size,
            # torch_npu up to 2.1 saved tensors of an Ascend device this way; the bytes are plain, the last
            # argument is the device layout to cast to after loading
            "torch_npu.utils.storage._rebuild_npu_tensor": self._rebuild_tensor,
            "torch_npu.npu._format.Format": lambda number: number,
        }
        names = set(STORAGES) | _OTHER_NAMES
        pickle = self._bytes("data.pkl", _MAX_PICKLE)
        loaded = StateDictPickle(pickle, callables, names, self._storage, str(self._path)).load()
        if not isinstance(loaded, dict):
            raise self._fail(f"it holds a {type(loaded).__name__}, not a dictionary")
        return self._find_state_dict(loaded)

    def _find_state_dict(self, top: dict) -> tuple[dict[str, _Tensor], dict]:
        extra: dict = {}
        state = top
        for _ in range(3):  # e.g. {"state_dict": {"module": {...}}}
            inner = [k for k in _WRAPPERS if isinstance(state.get(k), dict)]
            beside = {k: v for k, v in state.items() if isinstance(v, _Tensor)}
            if beside and not inner:
                break
            if len(inner) != 1:
                keys = ", ".join(repr(k)[:30] for k in list(state)[:6]) or "none"
                several = f"no tensors and {'more than' if inner else 'not'} one of {', '.join(_WRAPPERS)}"
                raise self._fail(f"{several} among its keys: {keys}")
            large = [k for k, v in beside.items() if math.prod(v.shape) > _MAX_COUNTER]
            if large:
                raise self._fail(
                    f"tensor {str(large[0])[:80]!r} lies beside the dictionary {inner[0]!r}, so which of "
                    "them is the model is not known; save the state_dict alone"
                )
            extra |= {k: v for k, v in state.items() if k not in inner}
            state = state[inner[0]]
        tensors = {k: v for k, v in state.items() if isinstance(v, _Tensor)}
        for key, value in state.items():
            if not isinstance(key, str):
                raise self._fail(f"key {str(key)[:40]!r} is not text")
            if not valid_name(key):
                raise self._fail(f"{key[:80]!r} is no name of a tensor")
            if key not in tensors:
                extra[key] = value
        if not tensors:
            raise self._fail("no tensors in it")
        size, most = self._size_of(tensors), 2 * os.fstat(self._file.fileno()).st_size + _MAX_REPEATED
        if size > most:
            raise self._fail(f"its tensors repeat what is stored: {size} bytes of them, at most {most}")
        return tensors, extra

    def _size_of(self, tensors: dict[str, _Tensor]) -> int:
        """Bytes of all tensors, each counted once, whatever its names."""
        return sum(TensorInfo(t.storage.dtype, t.shape).nbytes for t in set(tensors.values()))

    def _storage(self, pid) -> _Storage:
        kind, cls, key, location, count = pid
        if kind != "storage" or not isinstance(cls, Global) or not isinstance(key, str):
            raise ValueError("unknown persistent id")
        if cls.name not in STORAGES:
            raise self._fail(f"storage type {cls.name} is not supported")
        dtype = STORAGES[cls.name]
        if len(key) > _MAX_NAME or f"data/{key}" not in self._entries:
            raise self._fail(f"storage {key[:40]!r} is missing (truncated file?)")
        start, size = self._entries[f"data/{key}"]
        if type(count) is not int:
            raise ValueError("number of elements")
        if count < 0 or count * DTYPES[dtype].itemsize != size:
            raise self._fail(f"storage {key[:40]!r} has {size} bytes, not {count} elements of {dtype}")
        return _Storage(dtype, start, count)

    def _ordered_dict(self, items=()) -> dict:
        if items:
            raise self._fail("an OrderedDict made from items, which torch.save does not write")
        return {}

    def _rebuild_tensor(self, storage, offset, shape, stride, *_unused) -> _Tensor:
        if not isinstance(storage, _Storage) or not isinstance(shape, tuple) or not isinstance(stride, tuple):
            raise ValueError("bad tensor")
        if len(shape) != len(stride):
            raise ValueError("bad stride")
        if not valid_shape(shape) or not all(type(n) is int and n >= 0 for n in (offset, *stride)):
            raise self._fail("a tensor with a bad shape, stride or offset")
        if offset + _span(shape, stride) > storage.count:
            raise self._fail(f"a tensor of shape {shape} reaches beyond its {storage.count} stored elements")
        info = TensorInfo(storage.dtype, shape)
        if info.nbytes > max(_MAX_REPEATED, storage.count * DTYPES[storage.dtype].itemsize):
            raise self._fail(f"a tensor of shape {shape} repeats {storage.count} stored elements")
        # no step leads along a dimension of one element: its stride may be any number, even 2**62
        return _Tensor(storage, offset, shape, tuple(s if n > 1 else 0 for n, s in zip(shape, stride)))


def open_torch(path: str | Path) -> TorchWeights:
    """Open a `.pt` / `.pth` / `.bin` written by torch.save (PyTorch 1.6 or later).

    Raises
    ------
    UserError : not such a file, damaged, hostile, or holding anything but a state_dict.
    """
    return TorchWeights(Path(path))


def _span(shape, stride) -> int:
    """Elements of the storage between a tensor's first and last element, both included."""
    if 0 in shape:
        return 0
    return 1 + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))


def _is_contiguous(shape, stride) -> bool:
    expected = 1
    for n, s in zip(reversed(shape), reversed(stride), strict=True):
        if n != 1 and s != expected:
            return 0 in shape
        expected *= n
    return True


def _size(sizes=()) -> tuple:
    if not isinstance(sizes, tuple | list) or not valid_shape(sizes):
        raise ValueError("bad size")
    return tuple(sizes)


def _rebuild_parameter(tensor, *_unused) -> _Tensor:
    if not isinstance(tensor, _Tensor):
        raise ValueError("parameter without a tensor")
    return tensor
