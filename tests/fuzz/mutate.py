"""Changes to valid files: of any bytes, of lengths, and of JSON's structure; all from one `random.Random`."""

import json
import random
import struct
from collections.abc import Sequence

MOST = 1 << 20  # bytes of a changed file
LENGTHS = (0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**47, 2**63 - 1, 2**63, 2**64 - 1)
TEXTS = (
    "",
    "\0",
    "a\nb",
    "\x1b[2J\x1b]0;x\x07",
    "\u202e",
    "../../x",
    "/dev/zero",
    "\ud800",
    "x" * 5000,
    "é" * 80,
)
NUMBERS = (0, -1, 2, 2**31, 2**53 + 1, 2**63, -(2**63), 10**9, 10**400, 0.5, 1e308, 5e-324, float("inf"))
# as a text of JSON or YAML, in the place of any value
LITERALS = (
    "1e999",
    "-1e999",
    "NaN",
    "9" * 5000,
    "[" * 3000,
    '{"a":' * 3000,
    '"\\ud800"',
    '"\\u0000"',
    "2001-99-99",
)


def changed(data: bytes, rng: random.Random, others: Sequence[bytes] = ()) -> bytes:
    """One to four changes of bytes.

    Parameters
    ----------
    others : files from which pieces are spliced in.
    """
    work = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _change(work, rng, others)
    return bytes(work[:MOST])


def _change(work: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    at = min(rng.choice((rng.randrange(len(work) + 1), rng.randrange(min(len(work), 200) + 1))), len(work))
    size = rng.choice((1, 2, 4, 8, 16, 64, 512))
    kind = rng.randrange(9)
    if kind == 0 and at < len(work):
        work[at] ^= 1 << rng.randrange(8)
    elif kind == 1 and at < len(work):
        work[at] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))
    elif kind == 2:
        del work[at:]  # truncated
    elif kind == 3:
        del work[at : at + size]
    elif kind == 4:
        work[at:at] = rng.randbytes(size)
    elif kind == 5:
        work[at:at] = work[at : at + size] * rng.choice((1, 2, 50))
    elif kind == 6:  # a field of a length
        form = rng.choice(("<H", "<I", "<Q", ">H", ">I", ">Q"))
        value = rng.choice(LENGTHS) & (256 ** struct.calcsize(form) - 1)
        work[at : at + struct.calcsize(form)] = struct.pack(form, value)
    elif kind == 7 and others:  # a splice
        other = rng.choice(others)
        start = rng.randrange(len(other) + 1)
        piece = other[start : start + rng.choice((size, 4096))]
        work[at : at + rng.choice((0, len(piece)))] = piece
    else:
        work[at : at + size] = bytes((rng.choice((0, 0xFF)),)) * size


def changed_json(values, rng: random.Random) -> str:
    """A JSON text of `values`, changed at one to three nodes."""
    values = json.loads(json.dumps(values))
    for _ in range(rng.choice((1, 1, 2, 3))):
        values = _changed_node(values, rng)
    marked = rng.random() < 0.2
    text = json.dumps(values if not marked else _replaced(values, rng, "@literal@"), allow_nan=True)
    return text.replace('"@literal@"', rng.choice(LITERALS)) if marked else text


def _changed_node(values, rng: random.Random):
    kind = rng.randrange(8)
    if kind < 5:
        new = rng.choice(
            (rng.choice(TEXTS), rng.choice(NUMBERS), None, True, [], {}, [[]] * 3, {"a": {"b": 1}})
        )
        return _replaced(values, rng, new)
    path = _path(values, rng)
    node = _at(values, path)
    if isinstance(node, dict) and node:
        key = rng.choice(list(node))
        if kind == 5:
            del node[key]
        elif kind == 6:
            node[rng.choice(TEXTS)] = node[key]
        else:
            node[rng.choice(list(node))] = node[key]
    elif isinstance(node, list) and node:
        if kind == 5:
            node.pop(rng.randrange(len(node)))
        else:
            node.extend(node * rng.choice((1, 30)))
    return values


def _path(values, rng: random.Random) -> list:
    path = []
    while isinstance(values, dict | list) and values and rng.random() < 0.8:
        key = rng.choice(list(values)) if isinstance(values, dict) else rng.randrange(len(values))
        path.append(key)
        values = values[key]
    return path


def _at(values, path: list):
    for key in path:
        values = values[key]
    return values


def _replaced(values, rng: random.Random, new):
    path = _path(values, rng)
    if not path:
        return values if isinstance(values, dict) and rng.random() < 0.9 else new
    _at(values, path[:-1])[path[-1]] = new
    return values
