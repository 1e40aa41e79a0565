"""Strict conversion of plain values to dataclasses, for config.json, a job's YAML and `--set`.

Notable choices
- `from_dict` refuses an unknown key, suggesting the nearest known one, and a wrong type with its path.
- A dataclass may list former keys in `RETIRED`: they had no effect and are ignored, so that old files can
  still be read.
"""

import dataclasses
import difflib
import types
import typing
from typing import Any, TypeVar

from mindspore_osum.errors import UserError

T = TypeVar("T")


def from_dict(cls: type[T], values: Any, where: str) -> T:
    """Build dataclass `cls` from plain dictionaries, strictly.

    Parameters
    ----------
    cls : a dataclass; nested dataclasses, lists of them, tuples, optionals and plain types are supported.
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
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise UserError(f"{where}: expected a list, found {value!r}")
        return origin(_convert(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict or hint is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where}: expected a mapping, found {value!r}")
        return dict(value)
    if hint is float and isinstance(value, str):
        # YAML 1.1 parses 1e-6 (no dot) as a string
        try:
            return float(value)
        except ValueError:
            raise UserError(f"{where}: expected a number, found {value!r}") from None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Any or (isinstance(value, hint) and not (hint is int and isinstance(value, bool))):
        return value
    raise UserError(f"{where}: expected {hint.__name__}, found {value!r}")


def parse_overrides(pairs: list[str]) -> dict:
    """``["a.b=1", "c=x"]`` -> ``{"a": {"b": 1}, "c": "x"}``; values are parsed as YAML."""
    import yaml

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
            node[last] = yaml.safe_load(text)
        except yaml.YAMLError:
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
    """A YAML file's mapping, by safe_load; UserError with file:line if it cannot be read."""
    import yaml

    try:
        with open(path, encoding="utf-8") as f:
            values = yaml.safe_load(f)
    except OSError as error:
        raise UserError(f"{path}: cannot read the config ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(
            f"{path}{line}: not valid YAML ({getattr(error, 'problem', None) or error})"
        ) from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of settings at the top level")
    return values


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
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise UserError(f"{self.where}: {key} should be of type {kind.__name__}, not {str(value)[:40]!r}")
        return value

    def refuse(self, key: str, ok: tuple, why: str) -> None:
        """UserError if the value of `key` is neither None nor in `ok`."""
        value = self.values.get(key)
        if value is not None and value not in ok:
            raise UserError(f"{self.where}: {key} = {str(value)[:60]!r} is not supported: {why}")
