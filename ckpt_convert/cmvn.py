"""Statistics of features in a file beside an encoder's weights: WeNet's JSON, or Kaldi's matrix.

    global_cmvn                {"mean_stat": [...], "var_stat": [...], "frame_num": N}, sums over N frames
    cmvn.ark, global_cmvn      a matrix of two rows, sums and sums of squares; N is behind the sums

As in WeNet (wenet/utils/cmvn.py) and FireRedASR (fireredasr/data/asr_feat.py) the variance is at least 1e-20.

Notable choices
- A file is at most a megabyte, and its numbers are counted before they are read.
- The tensors appear beside those of the weights; from there on they are converted as all others.
"""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.files import json_object, read_bytes
from mindspore_osum.weights_io import Weights, info_of

NAMES = ("global_cmvn", "global_cmvn.json", "cmvn.ark")
_MOST, _MOST_BINS, _FLOOR = 1 << 20, 10_000, 1e-20
_BINARY = {b"FM ": np.dtype("<f4"), b"DM ": np.dtype("<f8")}


class Completed(Weights):
    """The tensors of a file, and those of the statistics beside it.

    Parameters
    ----------
    file : without statistics.
    more : their keys -> values.
    """

    def __init__(self, file: Weights, more: Mapping[str, np.ndarray]):
        super().__init__(file.where, file.infos | {key: info_of(values) for key, values in more.items()})
        self.file, self.more = file, more

    def raw(self, name: str) -> np.ndarray:
        return self.more[name].view(np.uint8) if name in self.more else self.file.raw(name)

    def shared(self) -> list[list[str]]:
        return self.file.shared()

    def close(self) -> None:
        self.file.close()


def completed(weights: Weights, path: Path, prefix: str) -> Weights:
    """The weights of the file `path`, with the statistics beside it where they have none.

    Parameters
    ----------
    prefix : of the keys "mean" and "istd".

    Raises
    ------
    UserError : a file of that name that is none of statistics.
    """
    found = next((path.with_name(name) for name in NAMES if path.with_name(name).exists()), None)
    if f"{prefix}mean" in weights.infos or found is None:
        return weights
    mean_F, istd_F = read_statistics(found)
    return Completed(weights, {f"{prefix}mean": mean_F, f"{prefix}istd": istd_F})


def read_statistics(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean (F,) and inverse deviation (F,) of F bins, float32.

    Raises
    ------
    UserError : not readable, larger than a megabyte, of another form, or numbers that are no sums of frames.
    """
    raw = read_bytes(path, "statistics of features", _MOST)
    try:
        sums_F, squares_F, count = _from_json(raw, path) if raw.lstrip()[:1] == b"{" else _from_kaldi(raw)
    except (ValueError, TypeError, KeyError, struct.error) as error:
        raise UserError(
            f"{path}: no statistics of features ({str(error)[:80]}); expected WeNet's JSON (mean_stat, "
            "var_stat, frame_num) or a matrix of Kaldi of two rows"
        ) from None
    numbers = np.concatenate([sums_F, squares_F, [count]])
    if not (np.isfinite(numbers).all() and count > 0 and len(sums_F) == len(squares_F) > 0):
        raise UserError(f"{path}: its sums, of {count} frames, are not those of features; compute them again")
    mean_F = sums_F / count
    variance_F = np.maximum(squares_F / count - mean_F**2, _FLOOR)
    return mean_F.astype(np.float32), (1 / np.sqrt(variance_F)).astype(np.float32)


def _from_json(raw: bytes, path: Path) -> tuple[np.ndarray, np.ndarray, float]:
    values = json_object(raw, str(path))
    rows = [np.array([_number(x) for x in values[key]], np.float64) for key in ("mean_stat", "var_stat")]
    return *rows, _number(values["frame_num"])


def _number(value) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"{json.dumps(value)[:20]} is no number")
    return float(value)


def _from_kaldi(raw: bytes) -> tuple[np.ndarray, np.ndarray, float]:
    """Of a matrix in binary or in text; a name and a space may be in front of it, as in an archive."""
    name, _, rest = raw.partition(b" ")
    body = rest if rest[:2] == b"\0B" and b"\0" not in name else raw
    matrix = _binary(body[2:]) if body[:2] == b"\0B" else _text(raw)
    if matrix.shape[0] != 2 or matrix.shape[1] < 2:
        raise ValueError(f"a matrix of {matrix.shape[0]} rows and {matrix.shape[1]} columns")
    return matrix[0, :-1], matrix[1, :-1], float(matrix[0, -1])


def _binary(body: bytes) -> np.ndarray:
    dtype = _BINARY.get(body[:3])
    if dtype is None:
        raise ValueError(f"a matrix of the type {body[:3]!r}, not float or double")
    four, rows, again, columns = struct.unpack_from("<bibi", body, 3)
    if (four, again) != (4, 4) or not (0 < rows <= 2 and 0 < columns <= _MOST_BINS):
        raise ValueError(f"{rows} rows and {columns} columns")
    size = rows * columns * dtype.itemsize
    if len(body) < 13 + size:
        raise ValueError(f"it ends after {len(body) - 13} of {size} bytes")
    return np.frombuffer(body, dtype, rows * columns, 13).reshape(rows, columns).astype(np.float64)


def _text(raw: bytes) -> np.ndarray:
    words = raw.decode("ascii", "replace").strip()
    before, opened, rest = words.partition("[")
    inside, closed, behind = rest.partition("]")
    if not opened or not closed or behind.strip() or len(before.split()) > 1:
        raise ValueError("no matrix in brackets")
    rows = [[float(x) for x in line.split()] for line in inside.splitlines() if line.strip()]
    if len({len(row) for row in rows}) != 1 or len(rows[0]) > _MOST_BINS:
        raise ValueError("rows of different lengths")
    if any(math.isnan(x) for row in rows for x in row):
        raise ValueError("nan")
    return np.array(rows, np.float64)
