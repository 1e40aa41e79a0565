"""`osum info`: describe a model folder from its files alone; MindSpore is not loaded."""

import dataclasses
import hashlib
import json
import math
from collections import Counter
from pathlib import Path

from mindspore_osum.errors import UserError, one_line
from mindspore_osum.folder import BUNDLED, read_config
from mindspore_osum.hub import model_folder
from mindspore_osum.systems.config import Config
from mindspore_osum.systems.registry import system_of
from mindspore_osum.text.tokenizer import BYTE_PAIRS, SENTENCE_PIECE
from mindspore_osum.weights_io import CODES, TensorInfo, open_weights

EXAMPLES = """\
examples:
  osum info                  # the bundled model
  osum info model --json     # for a program
"""
LICENCE_FILES = ("LICEN[CS]E*", "NOTICE*", "[Ll]icen[cs]e*")
NEAR = 8  # settings in which a model may differ from a preset and still count as that preset
_HASH_BYTES = 1 << 20


def add_arguments(parser) -> None:
    """The arguments of `osum info`."""
    parser.add_argument("model", nargs="?", default=str(BUNDLED), metavar="DIR", help="default: bundled")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines to read")
    parser.add_argument("--no-hashes", action="store_true", help="do not read the files through for SHA-256")


def run(args) -> int:
    """Print it; 0."""
    facts = describe(model_folder(args.model), hashes=not args.no_hashes)
    print(json.dumps(facts, ensure_ascii=False, indent=2) if args.json else text_of(facts))
    return 0


def describe(folder: Path, hashes: bool = True) -> dict:
    """Everything known about a model folder, as plain values.

    Parameters
    ----------
    folder : a model folder.
    hashes : also SHA-256 of its files, for which all of them are read.

    Raises
    ------
    UserError : not a model folder, or damaged weights.
    """
    cfg = read_config(folder)
    with open_weights(folder) as weights:
        infos = dict(weights.infos)
    parameters: Counter = Counter()
    for name, info in infos.items():
        lora = name.endswith(("lora_A.weight", "lora_B.weight"))
        parameters["lora" if lora else name.partition(".")[0]] += math.prod(info.shape)
    preset, differs = nearest_preset(cfg)
    return {
        "folder": str(folder),
        "preset": preset,
        "differs": differs,
        **({"prompts": cfg.prompts} if hasattr(cfg, "prompts") else {}),
        "dtype": cfg.dtype,
        "stored_as": _types(infos),
        "parameters": {"total": parameters.total(), **parameters},
        "tensors": len(infos),
        "bytes": sum(path.stat().st_size for path in _files(folder)),
        "positions": cfg.decoder.max_positions,
        "tokens": cfg.decoder.vocab_size,
        "tokenizer": next((n for n in (SENTENCE_PIECE, BYTE_PAIRS) if (folder / n).is_file()), None),
        "licence": sorted({p.name for pattern in LICENCE_FILES for p in folder.glob(pattern)}),
        "files": [_file(path, hashes) for path in _files(folder)],
    }


def nearest_preset(cfg: Config) -> tuple[str | None, dict[str, list]]:
    """(name of the preset, what differs as key -> [here, in the preset]); no name if too much differs."""
    own = _flat(cfg)
    found = {}
    for name, other in system_of(cfg.model_type).presets.items():
        there = _flat(other)
        keys = own.keys() | there.keys()  # another kind of encoder has other sizes
        found[name] = {
            key: [own.get(key), there.get(key)] for key in sorted(keys) if own.get(key) != there.get(key)
        }
    name = min(found, key=lambda name: len(found[name]))
    return (name, found[name]) if len(found[name]) <= NEAR else (None, {})


def text_of(facts: dict) -> str:
    """For a person."""
    like = facts["preset"] or "none (sizes of its own, see config.json)"
    if facts["differs"]:
        like += " but for " + ", ".join(f"{key} {here}" for key, (here, _) in facts["differs"].items())
    parts = [f"{part} {_short(n)}" for part, n in facts["parameters"].items() if n and part != "total"]
    types = ", ".join(f"{kind} {_short(n)}" for kind, n in facts["stored_as"].items())
    rows = [
        ("model", facts["folder"]),
        ("preset", like),
        ("parameters", f"{_short(facts['parameters']['total'])} ({', '.join(parts)})"),
        ("stored as", f"{types}; {_bytes(facts['bytes'])} in all"),
        ("computes in", f"{facts['dtype']} on Ascend, float32 on CPU"),
        ("decoder", f"{facts['positions']} positions, {facts['tokens']} tokens"),
        *([("prompts", facts["prompts"])] if "prompts" in facts else ()),
        (
            "tokenizer",
            facts["tokenizer"] or f"missing: copy {SENTENCE_PIECE} or {BYTE_PAIRS} into the folder",
        ),
        ("licence", ", ".join(facts["licence"]) or "no licence file in the folder"),
    ]
    for file in facts["files"]:
        rows.append(("file", f"{file['name']}  {_bytes(file['bytes'])}  {file.get('sha256', '')}".rstrip()))
    return "\n".join(f"{name:<12} {one_line(str(value))}" for name, value in rows)


def _flat(cfg: Config) -> dict:
    values = {}
    for key, value in dataclasses.asdict(cfg).items():
        values |= {f"{key}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {key: value}
    return values


def _types(infos: dict[str, TensorInfo]) -> dict[str, int]:
    """Type -> number of parameters stored in it."""
    names = {code: name for name, code in CODES.items()}
    counts: Counter = Counter()
    for info in infos.values():
        counts[names[info.dtype]] += math.prod(info.shape)
    return dict(counts.most_common())


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _file(path: Path, hashed: bool) -> dict:
    facts = {"name": path.name, "bytes": path.stat().st_size}
    if hashed:
        digest = hashlib.sha256()
        try:
            with open(path, "rb") as file:
                while block := file.read(_HASH_BYTES):
                    digest.update(block)
        except OSError as error:
            raise UserError(f"{path}: cannot read it ({error.strerror})") from None
        facts["sha256"] = digest.hexdigest()
    return facts


def _short(n: float) -> str:
    """Three digits and a unit: 7.2 G, 3.1 M."""
    for unit in ("", " k", " M", " G"):
        if n < 1000 or unit == " G":
            return f"{n:.3g}{unit}"
        n /= 1000
    raise AssertionError


def _bytes(n: int) -> str:
    return f"{_short(n)}B" if n >= 1000 else f"{n} B"
