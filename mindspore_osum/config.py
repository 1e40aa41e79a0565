"""Strict conversion of plain values to dataclasses, for config.json, a job's YAML and `--set`.

Notable choices
- `from_dict` refuses an unknown key, suggesting the nearest known one, and a wrong type with its path.
- A dataclass may list former keys in `RETIRED`: they had no effect and are ignored, so that old files can
  still be read.
- YAML is bounded before anything is built of it: bytes, depth, and values, where an alias (`*name`) counts as
  what it stands for. Otherwise a file of 2 kB can become 2 GB.
"""

import dataclasses
import difflib
import math
import reprlib
import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

from mindspore_osum.errors import UserError
from mindspore_osum.files import read_text

T = TypeVar("T")
MOST_VALUES, MOST_DEPTH = 200_000, 50  # of a YAML file
_LONG_WORD = 200  # characters
_BIG = 2**63  # numbers of settings are below


def from_dict(cls: type[T], values: Any, where: str) -> T:
    """Build dataclass `cls` from plain dictionaries, strictly.

    Parameters
    ----------
    cls : a dataclass; nested dataclasses, lists of them, tuples, optionals and plain types are supported. Of
        a union it is the dataclass whose default `kind` the mapping has.
    values : parsed YAML or JSON.
    where : file (and key path so far), for the error.

    Raises
    ------
    UserError : not a mapping, an unknown key (with the nearest known one), a missing key or a wrong type.
    """
    if not isinstance(values, dict):
        raise UserError(
            f"{where}: expected a mapping of {cls.__name__} settings, found {type(values).__name__}"
        )
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for key in values:
        if key not in fields and key not in getattr(cls, "RETIRED", ()):
            raise UserError(f"{where}: unknown key {key!r}{did_you_mean(str(key), fields)}")
    out = {}
    for name, f in fields.items():
        if name in values:
            out[name] = _convert(
                hints[name], values[name], f"{where}: {name}" if ": " not in where else f"{where}.{name}"
            )
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}: missing key {name!r}")
    try:
        return cls(**out)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def did_you_mean(word: str, known) -> str:
    """'; did you mean X?' for the nearest known word, else the list of known words."""
    known = sorted(str(k) for k in known)
    short = len(word) <= _LONG_WORD  # comparing a word of 30 MB takes a minute and 1.5 GB
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5) if short else ()
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        kinds = [a for a in args if a is not type(None)]
        named = value.get("kind") if isinstance(value, dict) else None
        known = {getattr(a, "kind", None): a for a in reversed(kinds)}
        if len(kinds) > 1 and named not in known:
            raise UserError(
                f"{where}.kind {named!r} is unknown{did_you_mean(str(named), known.keys() - {None})}"
            )
        return _convert(known.get(named, kinds[0]), value, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise UserError(f"{where}: expected a list, found {_short(value)}")
        return origin(_convert(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict or hint is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where}: expected a mapping, found {_short(value)}")
        if not args:
            return dict(value)
        return {_convert(args[0], k, where): _convert(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, str):
        # YAML 1.1 parses 1e-6 (no dot) as a string
        try:
            value = float(value)
        except ValueError:
            raise UserError(f"{where}: expected a number, found {_short(value)}") from None
    if isinstance(value, int) and abs(value) >= _BIG:
        raise UserError(f"{where}: {_short(value)} is too large a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}: {value} must be a finite number")
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Any or (isinstance(value, hint) and not (hint is int and isinstance(value, bool))):
        return value
    raise UserError(f"{where}: expected {hint.__name__}, found {_short(value)}")


def _short(value: Any) -> str:
    """A value in an error: Python refuses to write very long numbers."""
    return f"a number of {value.bit_length()} bits" if _is_huge(value) else reprlib.repr(value)


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and abs(value) >= 2**256


def parse_overrides(pairs: list[str]) -> dict:
    """``["a.b=1", "c=x"]`` -> ``{"a": {"b": 1}, "c": "x"}``; values are parsed as YAML."""
    out: dict = {}
    for pair in pairs:
        path, sep, text = pair.partition("=")
        if not sep or not path:
            raise UserError(f"--set {pair!r}: expected key.path=value, for instance --set optimizer.lr=1e-4")
        *parents, last = path.split(".")
        node = out
        for key in parents:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise UserError(f"--set {pair!r}: {key!r} was already set to a value")
        try:
            node[last] = parse_yaml(text, "")
        except UserError:
            raise UserError(f"--set {pair!r}: the value is not readable as YAML") from None
    return out


def merge(base: dict, over: dict) -> dict:
    """`base` with the values of `over`, mappings merged key by key; neither is changed."""
    out = dict(base)
    for key, value in over.items():
        out[key] = (
            merge(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
        )
    return out


def read_yaml(path: str) -> dict:
    """A YAML file's mapping; UserError with file:line if it cannot be read."""
    values = parse_yaml(read_text(path, "a file of settings"), str(path))
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of settings at the top level")
    return values


def parse_yaml(text: str, where: str) -> Any:
    """The plain values of a YAML text: mappings, lists, texts, numbers, dates.

    Parameters
    ----------
    text : the caller limits its length.
    where : file, for errors; the line is added.

    Raises
    ------
    UserError : not YAML, types of Python or other tags, or more values or depth than settings need.
    """
    import yaml

    try:
        safe = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, ten times as fast
        _check_size(yaml.parse(text, safe), where)
        loader = safe(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(
            f"{where}{line}: not valid YAML ({getattr(error, 'problem', None) or error})"
        ) from None
    except (ValueError, OverflowError) as error:  # 2001-99-99, thousands of digits, 1:59:59:... .5
        reason = str(error).partition(";")[0]
        raise UserError(f"{where}: no such date or number ({reason}); put texts in quotes") from None


def _check_size(events: Iterable, where: str) -> None:
    """UserError at the event of a YAML text with which it becomes too large, too deep, or has a tag."""
    import yaml

    sizes: dict[str, int] = {}  # values of each anchor's node, its aliases replaced
    # [anchor, values so far, keys or None in a list, nodes so far] from the outermost to the innermost
    open_nodes: list[list] = []
    total = 0
    for event in events:
        here = f"{where}:{event.start_mark.line + 1}"
        if isinstance(event, yaml.NodeEvent) and open_nodes and open_nodes[-1][2] is not None:
            _check_key(event, open_nodes[-1], here)
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor)
            if size is None:
                raise UserError(f"{here}: *{event.anchor} stands for nothing that is complete before it")
        elif isinstance(event, yaml.NodeEvent):
            if event.tag is not None and event.tag != "!":
                raise UserError(f"{here}: tag {event.tag[:60]}: settings are plain values; leave the tag out")
            size = 1
            if event.anchor is not None:
                sizes.pop(event.anchor, None)
                if isinstance(event, yaml.ScalarEvent):
                    sizes[event.anchor] = 1
            if isinstance(event, yaml.CollectionStartEvent):
                keys = set() if isinstance(event, yaml.MappingStartEvent) else None
                open_nodes.append([event.anchor, 0, keys, 0])
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size, *_ = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = size
            if open_nodes:
                open_nodes[-1][1] += size
            continue
        else:
            continue
        total += size
        if open_nodes:
            open_nodes[-1][1] += size
        if total > MOST_VALUES or len(open_nodes) > MOST_DEPTH:
            what = f"{MOST_VALUES} values" if total > MOST_VALUES else f"{MOST_DEPTH} lists or mappings"
            more = ", aliases counted as what they stand for" if total > MOST_VALUES else " in one another"
            raise UserError(f"{here}: more than {what}{more}; settings are smaller")


def _check_key(event, mapping: list, here: str) -> None:
    """UserError if this node is a key that its mapping has already: the last value would count, silently."""
    mapping[3] += 1
    key = getattr(event, "value", None)
    if mapping[3] % 2 and key not in (None, "<<"):
        if key in mapping[2]:
            raise UserError(f"{here}: key {key[:80]!r} is given twice; leave one out")
        mapping[2].add(key)


class Reader:
    """Typed look-ups in a description from elsewhere, such as a config.json of Hugging Face.

    Parameters
    ----------
    where : file, for errors.
    """

    def __init__(self, values: dict, where: str):
        self.values, self.where = values, where

    def get(self, key: str, kind: type, default=None):
        """The value of `key` or `default`; UserError for a wrong type, or a missing key without default."""
        value = self.values.get(key)
        if value is None:
            if default is None:
                raise UserError(f"{self.where}: key {key!r} is missing")
            return default
        if kind is float and type(value) is int and abs(value) < _BIG:
            value = float(value)
        if type(value) is not kind or kind in (int, float) and not abs(value) < _BIG:
            raise UserError(f"{self.where}: {key} should be of type {kind.__name__}, not {str(value)[:40]!r}")
        return value

    def refuse(self, key: str, ok: tuple, why: str) -> None:
        """UserError if the value of `key` is neither None nor in `ok`."""
        value = self.values.get(key)
        if value is not None and value not in ok:
            raise UserError(f"{self.where}: {key} = {str(value)[:60]!r} is not supported: {why}")
