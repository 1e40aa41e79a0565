"""Writes `.pt` state_dicts that ``torch.load(weights_only=True)`` accepts, without PyTorch, tensor by tensor.

Notable choices
- The description (`data.pkl`) is written first, opcode by opcode: all names and shapes are known in advance.
- Names that share one tensor (tied or duplicated embeddings) share one storage, as with torch.save.
- Storages start at multiples of 64 bytes, as with torch.save, so that ``torch.load(mmap=True)`` works.
"""

import contextlib
import os
import struct
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ckpt_convert.torch_reader import STORAGES
from mindspore_osum.errors import UserError
from mindspore_osum.files import finish, sync_folder
from mindspore_osum.interrupts import unfinished
from mindspore_osum.weights_io import DTYPES, TensorInfo, Writer, chunks

_CLASSES = {code: name.rpartition(".")[2] for name, code in STORAGES.items()}
_FOLDER = "archive"
_ALIGNMENT = 64
_EXTRA_ID = 0x4246  # "FB": the padding field of torch.save


class TorchWriter(Writer):
    """Write a `.pt`; the file gets its final name only when it is complete.

    Parameters
    ----------
    path : the file.
    infos : name -> `TensorInfo` of every tensor.
    aliases : additional name -> name of the tensor that it shares.
    beside : name -> whole numbers by name, beside the tensors, which are then under "model_state_dict".

    Raises
    ------
    UserError : a dtype that PyTorch storages do not have.
    """

    def __init__(
        self,
        path: str | Path,
        infos: Mapping[str, TensorInfo],
        aliases: Mapping[str, str],
        beside: Mapping[str, Mapping[str, int]] | None = None,
    ):
        self._path = Path(path)
        self._infos = dict(infos)
        for name, info in self._infos.items():
            if info.dtype not in _CLASSES:
                raise UserError(f"{name}: dtype {info.dtype} cannot be written to a .pt")
        self._keys = {name: str(i) for i, name in enumerate(self._infos)}
        self._left = set(self._infos)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, self._temp = tempfile.mkstemp(
            prefix=f".{self._path.name}.", suffix=".partial", dir=self._path.parent
        )
        unfinished.add(Path(self._temp))
        self._file = os.fdopen(handle, "wb")
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_STORED)
        try:
            state = _describe(self._infos, self._keys, aliases)
            self._write_text("data.pkl", b"\x80\x02" + (_with(beside, state) if beside else state) + b".")
            self._write_text("byteorder", b"little")
        except BaseException:
            self.abort()
            raise

    def _entry(self, name: str, size: int) -> zipfile.ZipInfo:
        """A stored entry whose data will start at a multiple of 64 bytes."""
        entry = zipfile.ZipInfo(f"{_FOLDER}/{name}")
        entry.file_size = size
        zip64 = 20 if size * 1.05 > zipfile.ZIP64_LIMIT else 0  # zipfile puts these bytes before `extra`
        data = self._file.tell() + 30 + len(entry.filename) + zip64 + 4
        entry.extra = struct.pack("<HH", _EXTRA_ID, -data % _ALIGNMENT) + bytes(-data % _ALIGNMENT)
        return entry

    def _write_text(self, name: str, data: bytes) -> None:
        self._zip.writestr(self._entry(name, len(data)), data)

    def write_raw(self, name: str, raw: np.ndarray) -> None:
        """Write a tensor's bytes as they are: uint8 (nbytes,)."""
        if raw.nbytes != self._infos[name].nbytes or name not in self._left:
            raise ValueError(f"{name}: {raw.nbytes} bytes, announced {self._infos[name].nbytes}, or twice")
        with self._zip.open(self._entry(f"data/{self._keys[name]}", raw.nbytes), "w") as file:
            for chunk in chunks(raw):
                file.write(chunk)
        self._left.discard(name)

    def close(self) -> None:
        """Rename the finished file; all tensors in `infos` must have been written."""
        if self._left:
            raise ValueError(f"{len(self._left)} announced tensors were not written, e.g. {min(self._left)}")
        self._write_text("version", b"3\n")
        self._zip.close()
        finish(self._file)
        os.replace(self._temp, self._path)
        sync_folder(self._path.parent)

    def abort(self) -> None:
        """Remove what was written so far."""
        with contextlib.suppress(OSError, ValueError):  # a full disk, for instance
            self._zip.close()
        self._file.close()
        Path(self._temp).unlink(missing_ok=True)
        unfinished.discard(Path(self._temp))


def _describe(infos: Mapping[str, TensorInfo], keys: Mapping[str, str], aliases: Mapping[str, str]) -> bytes:
    """The opcodes (pickle protocol 2) of an OrderedDict of tensors."""
    out = [b"ccollections\nOrderedDict\n", b")R("]
    for name in [*infos, *aliases]:
        owner = aliases.get(name, name)
        info = infos[owner]
        strides = [1]
        for n in reversed(info.shape[1:]):
            strides.append(strides[-1] * max(n, 1))
        count = info.nbytes // DTYPES[info.dtype].itemsize
        out += [
            _text(name),
            b"ctorch._utils\n_rebuild_tensor_v2\n((",
            _text("storage"),
            f"ctorch\n{_CLASSES[info.dtype]}\n".encode(),
            _text(keys[owner]),
            _text("cpu"),
            _int(count),
            b"tQ",
            _int(0),
            _ints(info.shape),
            _ints(strides[::-1] if info.shape else []),
            b"\x89ccollections\nOrderedDict\n)RtR",
        ]
    return b"".join([*out, b"u"])


def _with(beside: Mapping[str, Mapping[str, int]], state: bytes) -> bytes:
    """The opcodes of a dictionary of dictionaries of numbers, and of the tensors."""
    out = []
    for name, values in beside.items():
        out += [_text(name), b"}(", *(_text(key) + _int(value) for key, value in values.items()), b"u"]
    return b"".join([b"}(", *out, _text("model_state_dict"), state, b"u"])


def _text(value: str) -> bytes:
    data = value.encode("utf-8")
    return b"X" + struct.pack("<I", len(data)) + data


def _int(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def _ints(values) -> bytes:
    return b"(" + b"".join(_int(v) for v in values) + b"t"
