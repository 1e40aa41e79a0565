"""An interpreter for the pickle opcodes of a PyTorch state_dict; it never imports or calls what a file names.

Notable choices
- A name in the stream (GLOBAL) becomes a `Global` record. REDUCE looks that record up in the given table of
  callables, which are all our own functions; other names are refused.
- Stack, memo and dictionaries contain only None, bool, int, float, str, bytes, tuple, list, dict and results
  of those functions, so that the stream cannot access attributes of Python objects.
- Each opcode adds at most one object of a size bounded by the bytes it consumed, and a function gets few
  arguments, so that time and memory are linear in the number of opcodes; that is bounded, too.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mindspore_osum.errors import UserError


@dataclass(frozen=True)
class Global:
    """A name found in the stream, e.g. ``torch.FloatStorage``."""

    name: str


class _Mark:
    """Position marker on the stack."""


_MARK = _Mark()
# A tensor takes 30 to 40 opcodes: a 7B model with LoRA has 1,000 of them, its optimizer 3,000 more
_MAX_OPCODES = 300_000
_MAX_ARGUMENTS = 16  # of a function; torch gives at most 7
_CONSTANTS = {b"N": None, b"\x88": True, b"\x89": False}
# fixed-size numbers: opcode -> struct format
_NUMBERS = {b"K": "<B", b"M": "<H", b"J": "<i", b"G": ">d"}
# text and bytes with a length in front: opcode -> (struct format of the length, is text)
_STRINGS = {
    b"\x8c": ("<B", True),
    b"X": ("<I", True),
    b"\x8d": ("<Q", True),
    b"C": ("<B", False),
    b"B": ("<I", False),
    b"\x8e": ("<Q", False),
}
_MEMO_PUT = {b"q": "<B", b"r": "<I"}
_MEMO_GET = {b"h": "<B", b"j": "<I"}
_TUPLES = {b"\x85": 1, b"\x86": 2, b"\x87": 3}


class StateDictPickle:
    """Interprets one stream.

    Parameters
    ----------
    data : the pickle stream.
    callables : name in the stream -> our function for it, called with the stream's argument tuple.
    globals_ : other names that are allowed as values only (storage and dtype classes).
    persistent : function from a persistent id (a tuple in the stream) to its value.
    where : file, for messages.
    """

    def __init__(
        self,
        data: bytes,
        callables: Mapping[str, Callable],
        globals_: set[str],
        persistent: Callable,
        where: str,
    ):
        self._data = data
        self._callables = callables
        self._globals = globals_
        self._persistent = persistent
        self._where = where
        self._at = 0
        self._stack: list = []
        self._memo: dict[int, object] = {}

    def fail(self, what: str) -> UserError:
        """The error for this stream."""
        return UserError(
            f"{self._where}: {what}; only plain state_dicts are read, nothing in the file is ever run"
        )

    def load(self):
        """The object the stream describes; UserError for anything outside the subset or damaged."""
        try:
            for _ in range(_MAX_OPCODES):
                op = self._take(1)
                if op == b".":
                    return self._pop()
                self._step(op)
        except (IndexError, struct.error, TypeError, KeyError, ValueError, OverflowError) as error:
            raise self.fail(f"damaged pickle near byte {self._at} ({type(error).__name__})") from None
        raise self.fail(f"its pickle has more than {_MAX_OPCODES} opcodes, far more than a model needs")

    def _step(self, op: bytes) -> None:
        if op in _CONSTANTS:
            self._stack.append(_CONSTANTS[op])
        elif op in _NUMBERS:
            self._stack.append(self._number(_NUMBERS[op]))
        elif op in _STRINGS:
            self._stack.append(self._string(*_STRINGS[op]))
        elif op in _MEMO_GET:
            self._stack.append(self._memo[self._number(_MEMO_GET[op])])
        elif op in _MEMO_PUT:
            self._memo[self._number(_MEMO_PUT[op])] = self._stack[-1]
        elif op in _TUPLES:
            count = _TUPLES[op]
            items = tuple(self._pop() for _ in range(count))
            self._stack.append(items[::-1])
        else:
            handler = self._HANDLERS.get(op)
            if handler is None:
                raise self.fail(f"pickle opcode {op!r} refused near byte {self._at}")
            handler(self)

    def _take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise IndexError("stream ends early")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def _number(self, fmt: str):
        return struct.unpack(fmt, self._take(struct.calcsize(fmt)))[0]

    def _string(self, fmt: str, is_text: bool):
        piece = self._take(self._number(fmt))
        return piece.decode("utf-8", "surrogatepass") if is_text else piece

    def _line(self) -> str:
        end = self._data.index(b"\n", self._at, self._at + 1000)
        return self._take(end + 1 - self._at)[:-1].decode("utf-8")

    def _pop(self):
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("mark in the way")
        return value

    def _pop_mark(self) -> list:
        for i in range(len(self._stack) - 1, -1, -1):
            if self._stack[i] is _MARK:
                items = self._stack[i + 1 :]
                del self._stack[i:]
                return items
        raise ValueError("no mark")

    def _proto(self) -> None:
        version = self._number("<B")
        if version > 5:
            raise self.fail(f"pickle protocol {version} is unknown")

    def _long(self) -> None:
        count = self._number("<B")
        if count > 8:
            raise self.fail(f"an integer of {count} bytes")
        self._stack.append(int.from_bytes(self._take(count), "little", signed=True))

    def _name(self, name: str) -> None:
        if name not in self._callables and name not in self._globals:
            raise self.fail(f"the file asks for {name!r}, which is refused")
        self._stack.append(Global(name))

    def _global(self) -> None:
        module = self._line()
        self._name(f"{module}.{self._line()}"[:200])

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ValueError("name is not text")
        self._name(f"{module}.{name}"[:200])

    def _reduce(self) -> None:
        args, function = self._pop(), self._pop()
        if not isinstance(function, Global) or function.name not in self._callables:
            name = getattr(function, "name", type(function).__name__)
            raise self.fail(f"the file calls {name!r}, which is refused")
        if not isinstance(args, tuple):
            raise ValueError("arguments are not a tuple")
        if len(args) > _MAX_ARGUMENTS:
            raise self.fail(f"the file calls {function.name!r} with {len(args)} arguments")
        self._stack.append(self._callables[function.name](*args))

    def _build(self) -> None:
        # OrderedDict attributes (a module's _metadata): not used
        state = self._pop()
        if not isinstance(state, dict) or not isinstance(self._stack[-1], dict):
            kind = type(self._stack[-1]).__name__
            raise self.fail(f"the file sets the state of a {kind}, which is refused")

    def _set_items(self, items: list) -> None:
        target = self._stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise ValueError("not a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int, bool, float, type(None)):
                raise self.fail(f"a dictionary key of type {type(key).__name__}")
            target[key] = value

    def _append(self, items: list) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise ValueError("not a list")
        target.extend(items)

    def _persistent_id(self) -> None:
        self._stack.append(self._persistent(self._pop()))

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    _HANDLERS: dict[bytes, Callable] = {
        b"\x80": _proto,
        b"\x95": lambda self: self._take(8),  # FRAME: only a hint
        b"(": lambda self: self._stack.append(_MARK),
        b")": lambda self: self._stack.append(()),
        b"]": lambda self: self._stack.append([]),
        b"}": lambda self: self._stack.append({}),
        b"t": lambda self: self._stack.append(tuple(self._pop_mark())),
        b"\x94": lambda self: self._memo.__setitem__(len(self._memo), self._stack[-1]),
        b"\x8a": _long,
        b"c": _global,
        b"\x93": _stack_global,
        b"R": _reduce,
        b"b": _build,
        b"s": _set_item,
        b"u": lambda self: self._set_items(self._pop_mark()),
        b"a": lambda self: self._append([self._pop()]),
        b"e": lambda self: self._append(self._pop_mark()),
        b"Q": _persistent_id,
    }
