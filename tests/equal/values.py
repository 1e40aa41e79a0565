"""What is recorded: plain values by key, digests of arrays and files, and how two recordings differ."""

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

# names of values that no two runs share, by subject
LEFT_OUT = {
    "answers": {"rtf"},  # computing time
    "eval": {"speed", "compute_seconds"},  # computing time, and what follows from it
    "training": {"seconds", "utterances_per_s", "tokens_per_s"},
    "conversion": {"seconds"},
    "golden": {"rtf"},
    "plan": set(),
}
PROSE = "prose"  # last name of a key whose value is text for people: its numbers count
SHOWN = 60  # characters of a differing text


def flat(value, left_out: set[str] = frozenset(), key: str = "") -> Iterator[tuple[str, object]]:
    """(key, plain value) of everything in nested mappings and lists; names are joined with "/".

    Mappings' names in `left_out` are not in it; an empty mapping or list is a value.
    """
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            if name not in left_out:
                yield from flat(inner, left_out, f"{key}/{name}" if key else str(name))
    elif isinstance(value, list | tuple) and value:
        for i, inner in enumerate(value):
            yield from flat(inner, left_out, f"{key}/{i}" if key else str(i))
    else:
        yield key, value


def digest(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def of_array(array: np.ndarray) -> dict:
    """An array's digest, and some of its values, which tell how far two arrays are apart."""
    values = np.ascontiguousarray(array).reshape(-1)
    some = values[np.linspace(0, len(values) - 1, min(8, len(values)), dtype=int)] if len(values) else []
    return {
        "form": f"{array.dtype} {'x'.join(map(str, array.shape))}",
        "sha256": digest(values.tobytes()),
        "values": [x.item() for x in some],
        "mean square": float(np.square(values.astype(np.float64)).mean()) if len(values) else 0.0,
    }


def of_safetensors(path: Path) -> dict:
    """The tensors of a safetensors file by name: type, shape and digest of each."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        start, tensors = file.tell(), {}
        for name in sorted(header.keys() - {"__metadata__"}):
            about = header[name]
            first, end = about["data_offsets"]
            file.seek(start + first)
            data = file.read(end - first)
            tensors[name] = {"form": f"{about['dtype']} {about['shape']}", "sha256": digest(data)}
            if about["dtype"] == "F32":
                tensors[name] |= of_array(np.frombuffer(data, np.float32))
                tensors[name]["form"] = f"F32 {about['shape']}"
    return tensors


def of_file(path: Path) -> object:
    """A file: JSON by its values, safetensors by its tensors, anything else by its bytes."""
    if path.suffix == ".json":
        return json.loads(path.read_text("utf-8"))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    if path.suffix == ".safetensors":
        return of_safetensors(path) | {"file": digest(path.read_bytes())}
    return {"file": digest(path.read_bytes())}


def of_folder(path: Path) -> dict:
    """The files below a folder by their names in it; of one file, that file."""
    if path.is_file():
        return {path.name: of_file(path)}
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path)): of_file(p) for p in files}


def differences(old: dict[str, object], new: dict[str, object]) -> tuple[list[str], int]:
    """How two recordings of a subject differ, and how many texts are only worded in another way.

    Returns
    -------
    A line for each group of keys: those of one part (the first name in the key) with one last name. Keys that
    only one recording has come first.
    """
    lines = _one_sided(old, new.keys(), "gone") + _one_sided(new, old.keys(), "new")
    groups, reworded = defaultdict(list), 0
    for key in (key for key in old if key in new):
        a, b = old[key], new[key]
        if same(a, b):
            continue
        if key.rpartition("/")[2] == PROSE and numbers(a) == numbers(b):
            reworded += 1
        else:
            groups[group(key)].append(key)
    for name, keys in groups.items():
        a, b = old[keys[0]], new[keys[0]]
        of = sum(group(key) == name for key in old)
        lines.append(f"{name}: {len(keys)} of {of} differ; {keys[0]}: {shown(a, b)}{_apart(old, new, keys)}")
    return lines, reworded


def same(a, b) -> bool:
    """Equal in type and value; NaN is equal to itself, 0.0 and -0.0 differ."""
    return json.dumps(a) == json.dumps(b)


def group(key: str) -> str:
    """The part and the last name that is no number: ``lora/metrics/3/loss`` -> ``lora/.../loss``."""
    part, *names = key.split("/")
    last = next((name for name in reversed(names) if not name.isdigit()), "")
    return f"{part}/.../{last}" if len(names) > 1 else key


def numbers(text: str) -> list[str]:
    """The numbers in a text, in order."""
    return re.findall(r"\d+(?:\.\d+)?(?:e[-+]?\d+)?", text)


def shown(a, b) -> str:
    """``a -> b``, of long texts only where they part."""
    if not (isinstance(a, str) and isinstance(b, str)):
        return f"{a!r} -> {b!r}"
    apart = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    start = max(0, apart - 20) if max(len(a), len(b)) > SHOWN else 0
    return " -> ".join(repr(text[start : start + SHOWN]) for text in (a, b))


def _one_sided(some: dict, others, word: str) -> list[str]:
    groups = defaultdict(list)
    for key in some:
        if key not in others:
            groups[group(key)].append(key)
    return [
        f"{name}: {word} in {len(keys)} places; {keys[0]}: {some[keys[0]]!r:.60}"
        for name, keys in groups.items()
    ]


def _apart(old: dict, new: dict, keys: list[str]) -> str:
    """The largest difference of floats among the keys."""
    pairs = [(old[k], new[k]) for k in keys if isinstance(old[k], float) and isinstance(new[k], float)]
    gaps = [(abs(a - b), abs(a - b) / max(abs(a), abs(b))) for a, b in pairs if math.isfinite(a - b)]
    gaps = [gap for gap in gaps if gap[0]]
    if not gaps:
        return ""
    return f"; by up to {max(g[0] for g in gaps):.2g} (relative {max(g[1] for g in gaps):.2g})"
