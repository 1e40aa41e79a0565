"""Statistics of features in files: WeNet's JSON and Kaldi's matrices give the same; others one line."""

import json
import os
import struct

import numpy as np
import pytest

from ckpt_convert.cmvn import read_statistics
from mindspore_osum.errors import UserError

FRAMES = np.random.default_rng(3).normal(14, 4, (50, 7)) * np.array(
    [1, 1, 1, 1, 1, 1, 0.0]
)  # the last is silent
SUMS = np.vstack([[*FRAMES.sum(0), len(FRAMES)], [*(FRAMES**2).sum(0), 0]])


def binary(matrix, kind=b"DM ", name=b"") -> bytes:
    dtype = {b"DM ": "<f8", b"FM ": "<f4"}.get(kind, "<f8")
    rows, columns = matrix.shape
    return name + b"\0B" + kind + struct.pack("<bibi", 4, rows, 4, columns) + matrix.astype(dtype).tobytes()


def text(matrix, name="") -> bytes:
    rows = "\n".join("  " + " ".join(map(repr, map(float, row))) for row in matrix)
    return f"{name} [\n{rows} ]\n".encode()


def as_json(sums=SUMS) -> bytes:
    stats = {"mean_stat": list(sums[0, :-1]), "var_stat": list(sums[1, :-1]), "frame_num": int(sums[0, -1])}
    return json.dumps(stats).encode()


@pytest.mark.parametrize(
    "raw",
    [as_json(), text(SUMS), text(SUMS, "global"), binary(SUMS), binary(SUMS, name=b"global ")],
    ids=["json", "text", "text archive", "binary", "binary archive"],
)
def test_mean_and_deviation_are_those_of_the_frames(tmp_path, raw):
    (tmp_path / "cmvn").write_bytes(raw)
    mean_F, istd_F = read_statistics(tmp_path / "cmvn")
    assert mean_F.dtype == istd_F.dtype == np.float32
    np.testing.assert_allclose(mean_F, FRAMES.mean(0), rtol=1e-6)
    np.testing.assert_allclose(istd_F[:6], 1 / FRAMES.std(0)[:6], rtol=1e-6)
    assert istd_F[6] == np.float32(1e10)  # of a variance of 1e-20


def test_single_precision_is_read(tmp_path):
    (tmp_path / "cmvn.ark").write_bytes(binary(SUMS, b"FM "))
    mean_F, istd_F = read_statistics(tmp_path / "cmvn.ark")
    np.testing.assert_allclose(mean_F, FRAMES.mean(0), rtol=1e-6)
    np.testing.assert_allclose(istd_F[:6], 1 / FRAMES.std(0)[:6], rtol=1e-4)


def changed(row: int, column: int, value: float):
    out = SUMS.copy()
    out[row, column] = value
    return out


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "no matrix in brackets"),
        (b"hello", "no matrix in brackets"),
        (b"{}", "no statistics of features \\('mean_stat'\\)"),
        (b"{", "cmvn"),
        (as_json().replace(b"50}", b'"50"}'), "is no number"),
        (as_json(changed(0, -1, 0)), "of 0.0 frames, are not those of features"),
        (text(SUMS)[:-3], "no matrix in brackets"),
        (text(SUMS[:1]), "a matrix of 1 rows"),
        (text(SUMS).replace(b" ]", b" 1.0 ]"), "rows of different lengths"),
        (text(changed(1, 2, np.nan)), "nan"),
        (text(changed(1, 2, np.inf)), "are not those of features"),
        (binary(SUMS)[:-1], "it ends after 127 of 128 bytes"),
        (binary(SUMS, b"CM "), "of the type b'CM '"),
        (binary(SUMS)[:5] + struct.pack("<bibi", 4, 2, 4, 2**31 - 1), "2147483647 columns"),
        (binary(SUMS)[:5] + struct.pack("<bibi", 4, -2, 4, 8), "-2 rows"),
        (b" " * (1 << 20) + b"[ ]", "larger than 1048576 bytes"),
    ],
)
def test_other_files_are_one_line(tmp_path, raw, said):
    (tmp_path / "cmvn").write_bytes(raw)
    with pytest.raises(UserError, match=said) as caught:
        read_statistics(tmp_path / "cmvn")
    assert "\n" not in str(caught.value) and str(caught.value).startswith(str(tmp_path / "cmvn"))


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "cmvn.ark")
    with pytest.raises(UserError, match="not a regular file"):
        read_statistics(tmp_path / "cmvn.ark")
