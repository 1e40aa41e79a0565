"""Settings of a method as named arguments: signature, help and checks from one declaration."""

import functools
import inspect
import numbers
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mindspore_osum.config import did_you_mean
from mindspore_osum.errors import UserError

_KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}
# what other libraries have -> why it is not here
_ELSEWHERE = {"language": ": leave it out; the model detects the language by itself"}
_MARK = "settings :"  # the line of a docstring that the settings replace


class Setting(NamedTuple):
    """A named argument; its type is that of the default, anything where that is None."""

    default: Any
    about: str


def with_settings(settings: Mapping[str, Setting]) -> Callable:
    """Decorate a method that takes ``**settings``: these, checked, and shown by `help` and completion.

    The line "settings :" of its docstring is replaced by theirs. What is not given is not passed on.

    Raises
    ------
    UserError : (the method) no such setting, one of another type, or missing or surplus arguments.
    """

    def decorate(method):
        signature = inspect.signature(method)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        more = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=setting.default)
            for name, setting in settings.items()
        ]
        names = {p.name for p in [*own, *more]}
        known = names - {"self", "cls"}

        @functools.wraps(method)
        def call(*args, **given):
            for name, value in given.items():
                if name not in names:
                    raise UserError(f"no setting {name!r}{_ELSEWHERE.get(name) or did_you_mean(name, known)}")
                if name in settings:
                    _check(name, value, settings[name].default)
            try:
                signature.bind(*args, **given)
            except TypeError as error:
                raise UserError(
                    f"{method.__name__.strip('_')}: {error}; settings are given by name"
                ) from None
            return method(*args, **given)

        call.__signature__ = signature.replace(parameters=[*own, *more])
        call.__doc__ = _documented(inspect.getdoc(method), settings)
        return call

    return decorate


def _check(name: str, value, default) -> None:
    kind = type(default)
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    right = {
        bool: value is True or value is False,
        int: number and isinstance(value, numbers.Integral),
        float: number,
        str: isinstance(value, str),
    }
    if not right.get(kind, True):
        raise UserError(f"{name}={value!r}: must be {_KINDS[kind]}, as {default!r}")


def _documented(text: str, settings: Mapping[str, Setting]) -> str:
    lines = []
    for line in text.splitlines():
        new = [f"{name} : {s.about}." for name, s in settings.items()] if line.startswith(_MARK) else [line]
        lines += new
    return "\n".join(lines)
