"""Weights on disk: safetensors read and written one tensor at a time, without MindSpore or PyTorch.

Notable choices
- A tensor is its raw little-endian bytes plus `TensorInfo` (dtype code, shape): copying never rounds.
  `read` converts it to numbers; bfloat16, which numpy lacks, is widened to float32 exactly.
- Each tensor is memory-mapped separately and unmapped with its array, so peak memory is one tensor.
- The reader validates its input: header size, names, shapes and offsets are checked before any byte is
  mapped, and the tensors must cover the data without gaps or overlaps, as the format requires.
- The writer needs all shapes beforehand: it writes the header first and then tensors in any order; files get
  their final names (temporary file, fsync, rename) only when all tensors are written. Where several files
  replace others, the old index goes first: an interrupted folder is refused, never a mixture.
"""

import contextlib
import json
import math
import mmap
import os
import re
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindspore_osum.errors import UserError, is_plain
from mindspore_osum.files import check_values, finish, open_regular, read_json, sync_folder, write_text
from mindspore_osum.interrupts import unfinished

# dtype code of safetensors -> numpy type of its bits
DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("bool"),
}
CODES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint64": "U64",
    "uint32": "U32",
    "uint16": "U16",
    "uint8": "U8",
    "bool": "BOOL",
}

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD_BYTES = 4 * 10**9  # default size limit of one file
_SHARD_NAME = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
# dtype code -> the bits of the exponent; they are all set in infinities and NaN alone
_EXPONENTS = {"F64": 0x7FF << 52, "F32": 0xFF << 23, "F16": 0x1F << 10, "BF16": 0xFF << 7}
FLOATS = tuple(_EXPONENTS)
_MAX_HEADER = 16 * 10**6  # bytes; as parsed JSON it can take thirty times as much memory
_MAX_TENSORS = 100_000  # of a file; a model of 7B has about a thousand
_MAX_DIMS = 16
_MAX_ELEMENTS = 1 << 48
_MAX_NAME = 1000  # characters of a tensor's name


@dataclass(frozen=True)
class TensorInfo:
    """Description of a tensor: dtype code ("F32", "BF16", ...) and shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Size of the data in bytes."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize


def valid_shape(shape) -> bool:
    """Whether numbers from a file are a valid shape: few integers >= 0 with a plausible product."""
    whole = len(shape) <= _MAX_DIMS and all(type(n) is int and n >= 0 for n in shape)
    return whole and math.prod(max(n, 1) for n in shape) < _MAX_ELEMENTS


def valid_name(name) -> bool:
    """Whether what a file calls a tensor is a name that can be shown and written: text without control
    characters and halves of characters, not too long."""
    return isinstance(name, str) and len(name) <= _MAX_NAME and is_plain(name)


def info_of(values: np.ndarray) -> TensorInfo:
    """The `TensorInfo` of an array (numpy types, and any extension type named "bfloat16")."""
    code = CODES.get(values.dtype.name)
    if code is None:
        raise UserError(f"arrays of type {values.dtype} cannot be saved; use one of {sorted(CODES)}")
    return TensorInfo(code, tuple(values.shape))


def decode(raw: np.ndarray, info: TensorInfo) -> np.ndarray:
    """Bytes -> numbers of `info.shape`: the same numpy dtype, or float32 for bfloat16 (exact)."""
    bits = raw.view(DTYPES[info.dtype])
    if info.dtype == "BF16":
        bits = (bits.astype(np.uint32) << 16).view(np.float32)
    return bits.reshape(info.shape)


def encode(values: np.ndarray, dtype: str) -> np.ndarray:
    """Numbers -> bytes (1-D uint8) of dtype code `dtype`, rounded once, to nearest even."""
    values = np.ascontiguousarray(values)
    if CODES.get(values.dtype.name) == dtype:
        return values.reshape(-1).view(np.uint8)
    if dtype != "BF16":
        return values.astype(DTYPES[dtype]).reshape(-1).view(np.uint8)
    bits = values.astype(np.float32).reshape(-1).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    quiet_nan = (bits >> 16) | 0x40
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return np.where(is_nan, quiet_nan, rounded).astype(np.uint16).view(np.uint8)


def check_finite(raw: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """The bytes of a tensor unchanged: 1-D uint8; integers are always finite.

    Parameters
    ----------
    dtype : its code.
    name : file and tensor, for the error.

    Raises
    ------
    UserError : a number of it is infinite or not a number; `name` and the first one are named.
    """
    if dtype not in _EXPONENTS:
        return raw
    bits = raw.view(f"<u{DTYPES[dtype].itemsize}")
    exponent = bits.dtype.type(_EXPONENTS[dtype])
    masked = np.empty(min(bits.size, 1 << 16), bits.dtype)  # a block stays in the processor's cache
    for start in range(0, bits.size, 1 << 16):
        block = bits[start : start + (1 << 16)]
        found = np.bitwise_and(block, exponent, out=masked[: block.size])
        if found.max() == exponent:
            at = start + int(found.argmax())
            value = decode(bits[at : at + 1].view(np.uint8), TensorInfo(dtype, (1,)))[0]
            raise UserError(f"{name}: number {at + 1} of {bits.size} is {value}, so no answer would be right")
    return raw


def map_bytes(file, start: int, size: int) -> np.ndarray:
    """`size` bytes of an open file from `start`, as a 1-D uint8 array over a separate memory mapping.

    Writing to it changes a private copy of the page, never the file.
    """
    if size == 0:
        return np.empty(0, np.uint8)
    shift = start % mmap.ALLOCATIONGRANULARITY
    try:
        mapped = mmap.mmap(file.fileno(), size + shift, access=mmap.ACCESS_COPY, offset=start - shift)
    except ValueError:
        raise UserError(f"{file.name}: became shorter while it was read") from None
    except OSError as error:
        raise UserError(f"{file.name}: cannot read {size} bytes of it ({error.strerror})") from None
    if hasattr(mmap, "MADV_WILLNEED"):  # read ahead: up to twice as fast from a disk
        mapped.madvise(mmap.MADV_WILLNEED)
    return np.frombuffer(mapped, np.uint8, count=size, offset=shift)


class Weights:
    """Named tensors of one model, read one at a time; subclasses define where the bytes are.

    Attributes
    ----------
    where : file or folder, for messages.
    infos : name -> `TensorInfo`, in the order of the file.
    """

    def __init__(self, where: str, infos: dict[str, TensorInfo]):
        self.where = where
        self.infos = infos

    def raw(self, name: str) -> np.ndarray:
        """The tensor's bytes in row-major order: uint8 (nbytes,), usually over a file mapping."""
        raise KeyError(name)

    def read(self, name: str) -> np.ndarray:
        """The tensor's numbers (see `decode`)."""
        return decode(self.raw(name), self.infos[name])

    def shared(self) -> list[list[str]]:
        """Groups of names that share the same bytes (aliases such as tied embeddings)."""
        return []

    def close(self) -> None:
        """Close the files; returned arrays stay valid."""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class _SafetensorsWeights(Weights):
    """One safetensors file."""

    def __init__(self, path: Path):
        self._file = _SafetensorsFile(path)
        super().__init__(str(path), self._file.infos)
        self.metadata = self._file.metadata

    def raw(self, name: str) -> np.ndarray:
        return map_bytes(self._file.file, *self._file.spans[name])

    def close(self) -> None:
        with contextlib.suppress(OSError):  # all that was wanted has been read
            self._file.file.close()


class _Sharded(Weights):
    """The files of an index as one."""

    def __init__(self, where: str, files: list[Weights]):
        self._all = files
        self._files = {name: file for file in files for name in file.infos}
        super().__init__(where, {name: file.infos[name] for name, file in self._files.items()})
        self.metadata: dict[str, str] = {}

    def raw(self, name: str) -> np.ndarray:
        return self._files[name].raw(name)

    def shared(self) -> list[list[str]]:
        return [group for file in self._all for group in file.shared()]

    def close(self) -> None:
        for file in self._all:
            file.close()


class _SafetensorsFile:
    """Validated header of one file: infos, spans (name -> start, size in the file) and metadata."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.file = open_regular(path)
        except OSError as error:
            raise UserError(f"{path}: cannot open the weights ({error.strerror})") from None
        try:
            self._read_header()
        except OSError as error:
            self.file.close()
            raise UserError(f"{path}: cannot read the weights ({error.strerror})") from None
        except UserError:
            self.file.close()
            raise

    def _fail(self, what: str):
        return UserError(f"{self.path}: not a valid safetensors file: {what}")

    def _read_header(self) -> None:
        size = os.fstat(self.file.fileno()).st_size
        if size < 8:
            raise self._fail(f"only {size} bytes")
        (length,) = struct.unpack("<Q", self.file.read(8))
        if length > min(_MAX_HEADER, size - 8):
            raise self._fail(f"the header claims {length} bytes (file: {size}, limit: {_MAX_HEADER})")
        try:
            raw = self.file.read(length)
            check_values(raw, str(self.path))
            header = json.loads(raw.decode("utf-8"), object_pairs_hook=self._unique)
        except (ValueError, RecursionError):
            raise self._fail("the header is not JSON") from None
        if not isinstance(header, dict):
            raise self._fail("the header is not a mapping")
        if len(header) > _MAX_TENSORS:
            raise self._fail(f"{len(header)} tensors, at most {_MAX_TENSORS}")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise self._fail("__metadata__ must map text to text")
        self.metadata: dict[str, str] = metadata
        self.infos = {name: self._info(name, entry) for name, entry in header.items()}
        offsets = {name: header[name]["data_offsets"] for name in header}
        end = 0
        for name in sorted(offsets, key=lambda n: (offsets[n][0], offsets[n][1])):
            start, stop = offsets[name]
            if start != end:
                raise self._fail(f"tensor {name!r} starts at byte {start}, expected {end} (hole or overlap)")
            needed = self.infos[name].nbytes
            if stop - start != needed:
                raise self._fail(
                    f"tensor {name!r} has {stop - start} bytes, its shape and dtype need {needed}"
                )
            end = stop
        if 8 + length + end != size:
            raise self._fail(f"it should have {8 + length + end} bytes, it has {size} (truncated or padded)")
        self.spans = {name: (8 + length + start, stop - start) for name, (start, stop) in offsets.items()}

    def _unique(self, pairs):
        keys = [key for key, _ in pairs]
        if len(set(keys)) != len(keys):
            raise self._fail("a name appears twice in the header")
        return dict(pairs)

    def _info(self, name: str, entry) -> TensorInfo:
        if not valid_name(name):
            raise self._fail(f"{name[:80]!r} is no name of a tensor")
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            raise self._fail(f"tensor {name!r}: expected dtype, shape and data_offsets")
        shape, offsets = entry["shape"], entry["data_offsets"]
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in DTYPES:
            raise self._fail(f"tensor {name!r}: dtype {str(entry['dtype'])[:20]!r} is not supported")
        if not isinstance(shape, list) or not valid_shape(shape):
            raise self._fail(f"tensor {name!r}: bad shape")
        pair = isinstance(offsets, list) and len(offsets) == 2
        if not pair or not all(type(n) is int and n >= 0 for n in offsets):
            raise self._fail(f"tensor {name!r}: bad data_offsets")
        return TensorInfo(entry["dtype"], tuple(shape))


def open_weights(path: str | Path) -> Weights:
    """Open a `.safetensors` file, or a folder with `model.safetensors` or `model.safetensors.index.json`.

    Raises
    ------
    UserError : no such file, a malformed or damaged file, or an index that does not match its files.
    """
    path = Path(path)
    try:
        return _open(path)
    except OSError as error:
        raise UserError(f"{path}: cannot read the weights ({error.strerror})") from None


def _open(path: Path) -> Weights:
    if path.is_dir():
        single, index = path / SINGLE, path / INDEX
        if single.exists() and index.exists():
            raise UserError(f"{path}: has both {SINGLE} and {INDEX}; remove the one that is out of date")
        if index.exists():
            return open_index(index, _SafetensorsWeights)
        if not single.exists():
            shards = any(_SHARD_NAME.fullmatch(file.name) for file in path.iterdir())
            hint = "; its writing was interrupted, write it again" if shards else ""
            raise UserError(f"{path}: no {SINGLE} or {INDEX} in this folder{hint}")
        path = single
    return _SafetensorsWeights(path)


def open_index(index: Path, open_file: Callable[[Path], Weights]) -> Weights:
    """The tensors of several files, as an index (``{"weight_map": {tensor: file}}``) lists them.

    Parameters
    ----------
    open_file : opens one of the files, which lie beside the index.

    Raises
    ------
    UserError : an index that is malformed or does not match its files, or what `open_file` raises.
    """
    weight_map = read_json(index, "an index of weights", _MAX_HEADER).get("weight_map")
    try:
        shards = sorted(set(weight_map.values()))
    except (TypeError, AttributeError):
        raise UserError(f"{index}: not a valid index (expected a mapping weight_map of texts)") from None
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard or shard in ("", ".", ".."):
            raise UserError(f"{index}: {str(shard)[:80]!r} is not a plain file name")
    files: list[Weights] = []
    try:
        for shard in shards:
            files.append(open_file(index.parent / shard))
        found = [(name, shard) for file, shard in zip(files, shards, strict=True) for name in file.infos]
        wrong = sorted(set(found) ^ set(weight_map.items()))
        if wrong:
            name, shard = wrong[0]
            raise UserError(f"{index}: tensor {name!r} of {shard!r} is in only one of the index and the file")
    except UserError:
        for file in files:
            file.close()
        raise
    return _Sharded(str(index.parent), files)


class Writer:
    """Writes tensors to what gets its name when it is finished.

    A `with` block that ends well calls `close`, which does that; `abort` removes what was written so far.
    """

    def __enter__(self):
        return self

    def __exit__(self, kind, *exc):
        try:
            if kind is None:
                self.close()
        finally:
            self.abort()


class WeightsWriter(Writer):
    """Write safetensors tensor by tensor; the files get their names only when all tensors are written.

    Parameters
    ----------
    target : a ``.safetensors`` file, or a folder (``model.safetensors``, or shards and an index).
    infos : every tensor's `TensorInfo`.
    metadata : text stored in the header of a single file.
    shard_bytes : maximum size of a folder's files, except for a single larger tensor.

    Examples
    --------
    >>> with WeightsWriter("model.safetensors", {"w": TensorInfo("F32", (2,))}) as writer:
    ...     writer.write("w", np.zeros(2, np.float32))
    """

    def __init__(
        self,
        target: str | Path,
        infos: Mapping[str, TensorInfo],
        metadata: Mapping[str, str] | None = None,
        shard_bytes: int = SHARD_BYTES,
    ):
        self._target = Path(target)
        self._infos = dict(infos)
        self._is_folder = self._target.suffix != ".safetensors"
        self._folder = self._target if self._is_folder else self._target.parent
        self._folder.mkdir(parents=True, exist_ok=True)
        groups = _split(self._infos, shard_bytes) if self._is_folder else [list(self._infos)]
        names = [f"model-{i + 1:05d}-of-{len(groups):05d}.safetensors" for i in range(len(groups))]
        if len(groups) == 1:
            names = [SINGLE if self._is_folder else self._target.name]
        self._temps: dict[str, str] = {}  # final name -> temporary path
        self._files: dict[str, object] = {}  # final name -> open file
        self._places: dict[str, tuple[str, int]] = {}  # tensor -> final name, offset
        self._left = set(self._infos)
        try:
            for name, group in zip(names, groups, strict=True):
                self._start(name, group, metadata or {})
        except BaseException:
            self.abort()
            raise

    def _start(self, file_name: str, group: list[str], metadata: Mapping[str, str]) -> None:
        # widest dtypes first: then every tensor is aligned to its item size
        group = sorted(group, key=lambda n: -DTYPES[self._infos[n].dtype].itemsize)
        header: dict = {"__metadata__": dict(metadata)} if metadata else {}
        end = 0
        for name in group:
            info = self._infos[name]
            offsets = [end, end + info.nbytes]
            header[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": offsets}
            end += info.nbytes
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        handle, temp = tempfile.mkstemp(prefix=f".{file_name}.", suffix=".partial", dir=self._folder)
        self._temps[file_name] = temp
        unfinished.add(Path(temp))
        self._files[file_name] = file = os.fdopen(handle, "wb")
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
        for name in group:
            self._places[name] = (file_name, 8 + len(text) + header[name]["data_offsets"][0])

    def write(self, name: str, values: np.ndarray) -> None:
        """Write a tensor's numbers, rounded once to its dtype in `infos`."""
        info = self._infos[name]
        if tuple(values.shape) != info.shape:
            raise ValueError(f"{name}: shape {values.shape}, announced {info.shape}")
        self.write_raw(name, encode(values, info.dtype))

    def write_raw(self, name: str, raw: np.ndarray) -> None:
        """Write a tensor's bytes unchanged: uint8 (nbytes,)."""
        info = self._infos[name]
        if raw.nbytes != info.nbytes or name not in self._left:
            raise ValueError(f"{name}: {raw.nbytes} bytes, announced {info.nbytes}, or written twice")
        file_name, offset = self._places[name]
        file = self._files[file_name]
        file.seek(offset)
        for chunk in chunks(raw):
            file.write(chunk)
        self._left.discard(name)

    def close(self) -> None:
        """Give the finished files their names; all tensors must have been written."""
        if self._left:
            raise ValueError(f"{len(self._left)} announced tensors were not written, e.g. {min(self._left)}")
        for file in self._files.values():
            finish(file)
        if self._is_folder and len(self._temps) > 1:
            self._withdraw_index()
        for name, temp in self._temps.items():
            os.replace(temp, self._folder / name)
            unfinished.discard(Path(temp))
        if self._is_folder:
            self._finish_folder()
        sync_folder(self._folder)
        self._temps = {}

    def _withdraw_index(self) -> None:
        """Remove the index of files that will be replaced, so that none joins old and new ones."""
        index = self._folder / INDEX
        if index.exists() and any((self._folder / name).exists() for name in self._temps):
            index.unlink()
            sync_folder(self._folder)

    def _finish_folder(self) -> None:
        """Write the index, and remove shards of an earlier model that was split differently."""
        keep = set(self._files)
        if len(keep) > 1:
            total = sum(info.nbytes for info in self._infos.values())
            weight_map = {name: self._places[name][0] for name in self._infos}
            index = {"metadata": {"total_size": total}, "weight_map": weight_map}
            write_text(self._folder / INDEX, json.dumps(index, indent=1))
            keep.add(INDEX)
        for path in self._folder.iterdir():
            if path.name not in keep and (path.name in (SINGLE, INDEX) or _SHARD_NAME.fullmatch(path.name)):
                path.unlink()

    def abort(self) -> None:
        """Remove everything written so far."""
        for file in self._files.values():
            file.close()
        for temp in self._temps.values():
            Path(temp).unlink(missing_ok=True)
            unfinished.discard(Path(temp))
        self._temps = {}


def _split(infos: dict[str, TensorInfo], shard_bytes: int) -> list[list[str]]:
    """Names in order, in groups of at most `shard_bytes`."""
    groups: list[list[str]] = [[]]
    size = 0
    for name, info in infos.items():
        if groups[-1] and size + info.nbytes > shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += info.nbytes
    return groups


def chunks(raw: np.ndarray, size: int = 1 << 24) -> Iterator[memoryview]:
    """The bytes of a contiguous array in pieces of at most `size`."""
    view = memoryview(raw.reshape(-1).view(np.uint8))
    return (view[i : i + size] for i in range(0, len(view), size))
