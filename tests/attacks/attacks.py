"""Attacks that have worked, each made anew from its line: what it was, and what closes it.

Kept elsewhere, beside what closes them: sockets that say nothing, heads without end, many connections and
log lines (tests/serving/test_connections.py); bodies that do not end, odd charsets
(tests/serving/test_bodies.py); zip bombs, entries that overlap, damaged `.pt` files
(tests/convert/test_torch_reader.py); holes and overlaps in safetensors (tests/convert/test_weights_io.py);
flipped bits and torn checkpoints (tests/training/test_checkpoint.py); more YAML (tests/test_config.py).
"""

import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from mindspore_osum.folder import BUNDLED

CANARY = "ran"


class Attack(NamedTuple):
    """An attack.

    Attributes
    ----------
    was : what it did.
    closed : what closes it now.
    make : writes its file into a folder, and returns the arguments of `osum`.
    says : in the one line that refuses it.
    """

    was: str
    closed: str
    make: Callable[[Path], list[str]]
    says: str


def _convert(path: Path) -> list[str]:
    return ["convert", str(path), "--output", str(path.parent / "out")]


def _torch(stream: bytes) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        with zipfile.ZipFile(folder / "x.pt", "w") as archive:
            archive.writestr("archive/data.pkl", stream)
        return _convert(folder / "x.pt")

    return make


def _safetensors(names: Callable[[], list[str]]) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        header = {name: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for name in names()}
        text = json.dumps(header).encode()
        (folder / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
        return _convert(folder / "x.safetensors")

    return make


def _text(name: str, text: str, *argv: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / name).write_text(text, "utf-8")
        return [*argv, str(folder / name)]

    return make


_CHECK = ("data", "validate")


def _yaml(text: str) -> Callable[[Path], list[str]]:
    return _text("job.yaml", text, "train", "--config")


def _line(**values) -> Callable[[Path], list[str]]:
    line = {"key": "a", "wav": None, "txt": "yes", "task": "<TEXT2TEXT>", "extra": {"question": "?"}} | values
    return _text("m.jsonl", json.dumps(line), "data", "validate")


def _config(section: str = "encoder", **given) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        values = json.loads((BUNDLED / "config.json").read_text("utf-8"))
        values[section] |= given
        (folder / "config.json").write_text(json.dumps(values), "utf-8")
        (folder / "model.safetensors").symlink_to(BUNDLED / "model.safetensors")
        return _convert(folder)

    return make


def _index(file: str) -> Callable[[Path], list[str]]:
    return _index_text(json.dumps({"weight_map": {"a": file}}))


def _index_text(text: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / "config.json").write_bytes((BUNDLED / "config.json").read_bytes())
        (folder / "model.safetensors.index.json").write_text(text, "utf-8")
        return _convert(folder)

    return make


def _pipe(name: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        kept = "config.json" if name.startswith("model") else "model.safetensors"
        (folder / kept).symlink_to(BUNDLED / kept)
        os.mkfifo(folder / name)
        return _convert(folder / name if name.endswith(".pt") else folder)

    return make


def _tar(folder: Path) -> list[str]:
    with tarfile.open(folder / "x.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("a\n\x1b[2J.wav"), io.BytesIO())
    return ["data", "validate", str(folder / "x.tar")]


def _packed(name: str, text: Callable[[], bytes], verb: str = "stats") -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / name).write_bytes(gzip.compress(text()))
        return ["data", verb, str(folder / name)]

    return make


def large_directory(end: str) -> bytes:
    """A zip of 9 MB of entries, whose end records say so, or lie: see `DIRECTORY_ENDS`."""
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 4) + bytes(16)  # with a name of 4 bytes
    entries = b"".join(entry + b"%04x" % (n % 65536) for n in range(180_000))
    before = (
        b"PK\x06\x06" + bytes(36) + struct.pack("<QQ", 100, 0) + bytes(20) if end == "false zip64" else b""
    )
    last = struct.pack("<4s8xIIH", b"PK\x05\x06", len(entries + before), 0, 0)
    return entries + before + (last[:16] + b"PK\x05\x06\0\0" if end == "two ends" else last)


DIRECTORY_ENDS = ("plain", "false zip64", "two ends")


def _directory(end: str) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        (folder / "x.pt").write_bytes(large_directory(end))
        return _convert(folder / "x.pt")

    return make


def _header(text: Callable[[], bytes]) -> Callable[[Path], list[str]]:
    def make(folder: Path) -> list[str]:
        header = text()
        (folder / "x.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
        return _convert(folder / "x.safetensors")

    return make


def _tokenizer(field: bytes, content: Callable[[], bytes]) -> Callable[[Path], list[str]]:
    """A field more at the end of a model: what is there twice counts as one."""

    def make(folder: Path) -> list[str]:
        path = folder / "x.model"
        path.write_bytes((BUNDLED / "tokenizer.model").read_bytes() + message(field, content()))
        return ["convert", str(BUNDLED), "--output", str(folder / "out"), "--tokenizer", str(path)]

    return make


def message(field: bytes, content: bytes) -> bytes:
    """A field of protobuf that has a length."""
    size, groups = len(content), []
    while size > 127:
        size, groups = size >> 7, [*groups, size & 127 | 128]
    return field + bytes([*groups, size]) + content


def charsmap(replacement: bytes) -> bytes:
    """A normaliser that puts a text in the place of each "a"."""
    units = [0] * 512
    node = 256 ^ ord("a")
    units[0], units[node], units[1] = 256 << 10, ord("a") | 1 << 8 | (node ^ 1) << 10, 1 << 31
    return message(b"\x12", struct.pack("<513I", 2048, *units) + replacement + b"\0")


class _Command:
    def __reduce__(self):
        return os.system, (f"touch {CANARY}",)


def _bomb(levels: int, merged: bool = False) -> str:
    lines = ["a0: &a0 " + ("{x: 1}" if merged else "[x, x]")]
    for n in range(1, levels):
        before = ", ".join([f"*a{n - 1}"] * 10)
        lines.append(f"a{n}: &a{n} " + (f"{{<<: [{before}], y{n}: 1}}" if merged else f"[{before}]"))
    return "\n".join(lines)


_SIZE = b"\x80\x02ctorch\nSize\nq\x00B" + struct.pack("<I", 20_000) + bytes(20_000) + b"\x85q\x01"
_PARAMETER = b"\x80\x02ctorch._utils\n_rebuild_parameter\nq\x00(" + b"N" * 100_001 + b"tq\x01"

ATTACKS = {
    "pt, command": Attack(
        "unpickling runs what the file names",
        "no unpickling: the stream can call seven functions of ours",
        _torch(pickle.dumps({"a": _Command()}, 2)),
        "system'",
    ),
    "pt, size bomb": Attack(
        "320 kB took 8.5 GB: sizes copied from memoised bytes",
        "a size is checked before it is copied",
        _torch(_SIZE + b"h\x00h\x01R" * 60_000 + b"."),
        "damaged pickle",
    ),
    "pt, arguments": Attack(
        "400 kB took 22 s: 60,000 calls with 100,000 arguments",
        "a function has at most 16 arguments",
        _torch(_PARAMETER + b"h\x00h\x01R" * 60_000 + b"."),
        "100001 arguments",
    ),
    "pt, 64 MB of {}": Attack(
        "64 MB of dictionaries took 5 GB",
        "a pickle has at most 8 MB",
        _torch(b"\x80\x02" + b"}" * (64 << 20) + b"."),
        "more than 8388608",
    ),
    "pt, a million objects": Attack(
        "8 MB of dictionaries took 0.6 GB",
        "a pickle has at most 300,000 opcodes",
        _torch(b"\x80\x02" + b"}" * (7 << 20) + b"."),
        "opcodes",
    ),
    "pt, names": Attack(
        "a tensor's name cleared the terminal",
        "names without control characters (errors.is_plain)",
        _torch(b"\x80\x02}X\x05\x00\x00\x00\x1b[2J\nK\x01s."),
        "x.pt",
    ),
    "safetensors, names": Attack(
        "names with line ends and escape codes were printed",
        "weights_io.valid_name",
        _safetensors(lambda: ["a\n\x1b[2J"]),
        "no name of a tensor",
    ),
    "safetensors, long name": Attack(
        "a name of 10 MB was printed",
        "names of at most 1,000 characters; 80 are shown",
        _safetensors(lambda: ["x" * 10**7]),
        "no name of a tensor",
    ),
    "safetensors, half a character": Attack(
        "a name that no file can hold ended in a traceback",
        "weights_io.valid_name",
        _safetensors(lambda: ["\ud800"]),
        "no name of a tensor",
    ),
    "safetensors, 200,000 names": Attack(
        "200,000 empty tensors took a minute and 1 GB",
        "a header has at most 100,000 tensors",
        _safetensors(lambda: [f"t{n}" for n in range(200_000)]),
        "x.safetensors",
    ),
    "index, NUL": Attack(
        "a name with a zero byte ended in a traceback", "files.open_regular", _index("a\0b"), "a\\x00b"
    ),
    "index, half a character": Attack(
        "so did half of a character", "files.read_json", _index("\ud800"), "half of a character"
    ),
    "index, path": Attack(
        "an index that names files elsewhere",
        "plain file names alone",
        _index("../../etc/passwd"),
        "not a plain file name",
    ),
    "pt, false zip64": Attack(
        "a record that says 100 bytes hid a directory of 160 MB: 1.4 GB, 23 s",
        "torch_reader._Bounded: what is read is bounded, not what is said",
        _directory("false zip64"),
        "a zip directory of",
    ),
    "pt, two ends": Attack(
        "so did the mark of an end inside of the end",
        "as above",
        _directory("two ends"),
        "a zip directory of",
    ),
    "safetensors, escaped": Attack(
        "235,000 tensors, uncounted since their keys were written as data\\u005foffsets",
        "values are counted before parsing, tensors after it",
        _header(lambda: b'{"":{"data\\u005foffsets":[]},' * 200_000 + b'"":0}'),
        "x.safetensors",
    ),
    "safetensors, small values": Attack(
        "a header of 16 MB of {} took 0.5 GB and 5 s",
        "files.check_values",
        _header(lambda: b'{"a":[' + b'{"":[]},' * 1_900_000 + b"0]}"),
        "values",
    ),
    "index, small values": Attack(
        "so did an index",
        "files.check_values",
        _index_text('{"a":[' + "{}," * 600_000 + "0]}"),
        "values",
    ),
    "pipe as .pt": Attack("opening a named pipe waits for ever", "files.open_regular", _pipe("x.pt"), "x.pt"),
    "pipe as weights": Attack(
        "opening a named pipe waits for ever",
        "files.open_regular",
        _pipe("model.safetensors"),
        "model.safetensors",
    ),
    "pipe as an index": Attack(
        "opening a named pipe waits for ever",
        "files.read_json",
        _pipe("model.safetensors.index.json"),
        "not a regular file",
    ),
    "pipe as config.json": Attack(
        "opening a named pipe waits for ever", "is_file", _pipe("config.json"), "config.json"
    ),
    "config, layers": Attack(
        "n_layers: 1000000000 took 5 GB before a tensor was read",
        "sizes are bounded, and compared with the weights before anything is built",
        _config(n_layers=10**9),
        "layers",
    ),
    "config, 2^53 layers": Attack("so did 2^53, for ever", "as above", _config(n_layers=2**53), "layers"),
    "config, infinite": Attack(
        "norm_eps: 1e999 became NaN in every answer",
        "settings are finite (config.from_dict)",
        _config(norm_eps=float("inf")),
        "finite",
    ),
    "config, heads": Attack(
        "one head per column took 5 GB for a minute of sound, from a file of 5 MB",
        "systems/osum/config.py MOST",
        _config(n_heads=144),
        "encoder.n_heads must be at most 32",
    ),
    "config, wide heads": Attack(
        "weights of 30 MB with heads 100,000 times as wide as the model took 4 GB of cache",
        "systems/osum/config.py WIDEST",
        _config("decoder", head_dim=10**6),
        "times d_model",
    ),
    "config, wide layers": Attack(
        "so did their inner width", "as above", _config(d_ff=10**7), "encoder.d_ff must be at most"
    ),
    "config, angles": Attack(
        "a base of 1e-300 made every answer NaN",
        "numbers that a model computes with are within what models have",
        _config("decoder", rope_theta=1e-300),
        "rope_theta must be 1 or more",
    ),
    "config, norm": Attack(
        "so did 1e300 in a norm", "as above", _config("decoder", norm_eps=1e300), "norm_eps must be at most 1"
    ),
    "config, targets": Attack(
        "100,000 names of modules took seconds",
        "no more names than there are modules",
        _config("lora", targets=["q_proj"] * 100_000),
        "lora.targets has 100000 names",
    ),
    "config, long key": Attack(
        "an unknown key of 0.5 MB was compared with the known ones; in a request, of 30 MB, for a minute",
        "config.did_you_mean compares words",
        _config(**{"xy" * (1 << 18): 1}),
        "unknown key",
    ),
    "yaml, aliases": Attack(
        "1.5 kB became 2 GB",
        "aliases count as what they stand for",
        _yaml(_bomb(9)),
        "more than 200000 values",
    ),
    "yaml, merged aliases": Attack(
        "merging them took minutes", "as above", _yaml(_bomb(9, merged=True)), "more than 200000 values"
    ),
    "yaml, nesting": Attack(
        "4 kB of [ ended in a traceback",
        "depth of at most 50",
        _yaml("a: " + "[" * 2000 + "]" * 2000),
        "not valid YAML",
    ),
    "yaml, date": Attack(
        "2001-99-99 ended in a traceback", "config.parse_yaml", _yaml("a: 2001-99-99"), "no such date"
    ),
    "yaml, tag": Attack(
        "so did !!timestamp x", "settings have no tags", _yaml("a: !!timestamp x"), "leave the tag out"
    ),
    "yaml, number": Attack(
        "so did a number of 5,000 digits",
        "config.parse_yaml",
        _yaml("a: " + "9" * 5000),
        "no such date or number",
    ),
    "yaml, base 60": Attack(
        "so did a number in base 60 of 20,000 digits",
        "config.parse_yaml",
        _yaml("a: 1" + ":59" * 20_000 + ".5"),
        "no such date or number",
    ),
    "yaml, key twice": Attack(
        "of a key given twice the last value counted, and nobody saw it",
        "config._check_key",
        _yaml("model: {a: 1, b: 2, a: 3}"),
        "key 'a' is given twice",
    ),
    "jsonl, number": Attack(
        "an end at 10^400 s ended in a traceback",
        "manifest.seconds_in",
        _line(start=0, end=10**400),
        "must be seconds",
    ),
    "jsonl, key": Attack(
        "a key cleared the terminal",
        "keys without control characters",
        _line(key="a\n\x1b[2J"),
        "control characters",
    ),
    "jsonl, nesting": Attack(
        "nested lists ended in a traceback",
        "files.json_object",
        _text("m.jsonl", '{"key": ' + "[" * 10**5, "data", "validate"),
        "not a JSON object",
    ),
    "jsonl, small values": Attack(
        "so did a line",
        "files.check_values",
        _text("m.jsonl", '{"a":[' + "[]," * 500_001 + "0]}", *_CHECK),
        "values",
    ),
    "json, small values": Attack(
        "and an element of an array",
        "files.check_values",
        _text("m.json", '[{"a":[' + "[]," * 900_000 + "0]}]", *_CHECK),
        "values",
    ),
    "gz, lines of nothing": Attack(
        "290 kB of gzip took a minute and more",
        "a million blank lines are no manifest",
        _packed("m.jsonl.gz", lambda: b"\n" * 20_000_000),
        "blank lines",
    ),
    "gz, lines of {}": Attack(
        "so did 58 kB",
        "no more than 20,000 lines that cannot be used, while there are few that can",
        _packed("m.jsonl.gz", lambda: b"{}\n" * 100_000),
        "cannot be used",
    ),
    "gz, a list": Attack(
        "17 kB that name two million shards took 0.4 GB and 40 s",
        "as above",
        _packed("m.list.gz", lambda: b"a.tar\n" * 100_000),
        "cannot be used",
    ),
    "gz, spaces": Attack(
        "1 MB became 1 GB",
        "gzip becomes at most 100 times as long",
        _packed("m.json.gz", lambda: b"[" + b" " * 50_000_000, "validate"),
        "gunzip",
    ),
    "tokenizer, replacement": Attack(
        "a tokenizer of 5 MB turned every letter a into 5 MB",
        "text/model_file.py",
        _tokenizer(b"\x1a", lambda: charsmap(b"x" * 5_000_000)),
        "replaces a character by 5000000 bytes",
    ),
    "tokenizer, bytes": Attack(
        "a piece that is no text ended an answer in a traceback",
        "tokenizer._load reads all pieces",
        _tokenizer(b"\x0a", lambda: message(b"\x0a", b"a\xff") + b"\x15\0\0\0\0"),
        "no text in UTF-8",
    ),
    "list, NUL": Attack(
        "a path with a zero byte ended in a traceback",
        "tar_index.TarReader",
        _text("m.list", "a\0b.tar", "data", "validate"),
        "a\\x00b.tar",
    ),
    "tar, name": Attack(
        "a member's name cleared the terminal",
        "names without control characters",
        _tar,
        "no name for a sample",
    ),
}
