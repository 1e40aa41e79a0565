"""Terminal output shared by all verbs: lines, progress, tables, and how they end.

Notable choices
- Standard output holds results and nothing else: while a model runs, file descriptor 1 is redirected to
  standard error, so that no library can write between them (`clean_stdout`).
- Everything else is a line "osum: ..." on standard error.
"""

import contextlib
import io
import os
import shlex
import sys
import time
import unicodedata
import warnings
from collections.abc import Iterator, Sequence

from mindspore_osum.errors import one_line
from mindspore_osum.files import NoSpace
from mindspore_osum.interrupts import steady
from mindspore_osum.quiet import quiet_libraries

# what progress is counted in, and how it is shown
UNITS = {"rec": "recordings", "s": "s of sound", "graph": "graphs"}
EVERY = 10.0  # seconds between lines of progress when the output is no terminal
LONGEST_COMMAND = 500  # characters of a command that is shown in full
GAP = "  "  # between the columns of a table
_CELL = 1 << 20  # characters; a transcript is shown as a whole


def say(text: str) -> None:
    """A line for the person at the terminal."""
    print(f"osum: {one_line(text)}", file=sys.stderr, flush=True)


def loading(args) -> None:
    """Before --model is loaded on --device: silence the libraries and say so, as it may take minutes."""
    quiet_libraries()
    if not sys.warnoptions:  # neither -W nor PYTHONWARNINGS: those of libraries are for programmers
        warnings.simplefilter("ignore")
    say(f"loading {args.model} on {args.device}")


def load_model(args):
    """The `OSUM` of --model and --device."""
    loading(args)
    with steady():
        from mindspore_osum.api import OSUM
    return OSUM.load(args.model, args.device, waiting)


def waiting(what: str, done: int, total: int) -> None:
    """Show what is waited for on the last line of the terminal, in place of a bar; see `Engine`.

    Progress does not count the time of it, so that what it says is left is measured on answers.
    """
    if Progress.present:
        Progress.present.wait(bool(what))
    if not sys.stderr.isatty():
        return
    texts = {
        "weights": f"reading weights, {done / 1e6:.0f} of {total / 1e6:.0f} MB",
        "graph": f"compiling graph {done} of {total} for this length",
    }
    if Progress.present:
        Progress.present.clear()
    print(f"\r\x1b[K{texts.get(what, '')}", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def clean_stdout() -> Iterator:
    """Yields a stream to the real standard output; whatever else is written there goes to standard error.

    The stream is UTF-8; bytes of a file name that are not Unicode become JSON escapes.
    """
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    try:
        kind = {"encoding": "utf-8", "errors": "backslashreplace", "newline": "\n"}
        with io.TextIOWrapper(io.BufferedWriter(_Output(os.dup(real), "w")), **kind) as stream:
            yield stream
    finally:
        sys.stdout.flush()
        os.dup2(real, 1)
        os.close(real)


class _Output(io.FileIO):
    """Standard output; if it is a file on a full disk, that is the user's to know."""

    def write(self, data) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:  # `cli.main` ends quietly
            raise
        except OSError as error:
            raise NoSpace(f"standard output: cannot write there ({error.strerror})") from None


class Interrupted:
    """What an interrupted command says, once: that it was, and how it goes on if it can.

    Attributes
    ----------
    how : how to go on after an interruption or a full disk; "" if there is nothing to go on from.
    """

    def __init__(self):
        self.begin([])

    def begin(self, argv: Sequence[str]) -> None:
        """Another command: the arguments of `osum`."""
        self._argv, self.how, self._told = list(argv), "", False

    def can_go_on(self, options: Sequence[str]) -> None:
        """From now on the same command, with these options, goes on where it is interrupted."""
        added = [option for option in options if option not in self._argv]
        command = shlex.join(["osum", *self._argv, *added])
        short = len(command) <= LONGEST_COMMAND and command.isprintable()
        long = " and ".join(["go on with the same command", *added])
        self.how = f"go on with: {command}" if short else long

    def tell(self) -> None:
        """Say it."""
        if not self._told:
            self._told = True
            start = "\n" if sys.stderr.isatty() else ""  # after ^C, or a line of progress
            text = "; ".join(filter(None, [f"{start}osum: interrupted", self.how]))
            print(text, file=sys.stderr, flush=True)


interrupted = Interrupted()
"""Of the command that this process runs."""


@contextlib.contextmanager
def resumable(*options: str) -> Iterator[None]:
    """If this block is interrupted, the last line says what goes on: the same command, with these options."""
    interrupted.can_go_on(options)
    yield
    interrupted.how = ""


def warn(response) -> None:
    """What is doubtful about the answer to a recording, a line each, and whether nobody speaks."""
    if response.no_speech:
        say(f"{response.audio}: no speech found")
    cut = ["an answer was truncated at its limit (--max-new-tokens, or the model's)"] if response.cut else []
    for line in [*response.warnings, *cut]:
        say(f"{response.audio}: {line}")


def failures(lines: Sequence[str]) -> int:
    """Print what failed, a line each; returns the exit status."""
    if lines:
        say(f"{len(lines)} failed:")
        print("\n".join(f"  {one_line(line)}" for line in lines), file=sys.stderr, flush=True)
    return 1 if lines else 0


class Progress:
    """Progress of a run: a bar with its rate on a terminal, a line every `EVERY` seconds elsewhere.

    Parameters
    ----------
    total : the amount of work.
    unit : of `total`, a key of `UNITS`.
    """

    present: "Progress | None" = None

    def __init__(self, total: float, unit: str = "rec"):
        self.total, self.unit, self.done = total, unit, 0.0
        self._start = self._said = time.monotonic()
        self._bar = self._waits = None
        Progress.present = self
        if sys.stderr.isatty():
            from tqdm import tqdm

            form = f"{{l_bar}}{{bar}}| {{n:.0f}}/{{total_fmt}} {UNITS[unit]} "
            self._bar = tqdm(
                total=round(total),
                unit=unit,
                file=sys.stderr,
                bar_format=form + "[{elapsed}<{remaining}, {rate_fmt}]",
            )

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        Progress.present = None
        if self._bar is not None:
            self._bar.close()

    def __call__(self, amount: float = 1) -> None:
        """Advance by this amount."""
        self.done += amount
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(min(amount, self._bar.total - self._bar.n))  # its total is a whole number
        elif now - self._said >= EVERY:
            spent = now - self._start
            so_far = f"{self.done:.0f} of {self.total:.0f} {UNITS[self.unit]}, {spent:.0f} s"
            left = max(0.0, spent / self.done * (self.total - self.done)) if self.done else None
            say(so_far if left is None else f"{so_far}, about {left:.0f} s to go")
            self._said = now

    def wait(self, begins: bool) -> None:
        """What is no progress, such as compiling, begins or ends: its time is not counted."""
        now = time.monotonic()
        if begins:
            self._waits = self._waits or now
        elif self._waits is not None:
            self._start += now - self._waits
            if self._bar is not None:
                self._bar.start_t += now - self._waits
                self._bar.last_print_t += now - self._waits
            self._waits = None

    def clear(self) -> None:
        """Remove the bar so that a line can be printed; the bar is drawn again below it."""
        if self._bar is not None:
            self._bar.clear()


def align(rows: Sequence[tuple[str, ...]], right: str = "") -> str:
    """A table: columns of equal width, the first row their titles; the column titled `right` to the right."""
    rows = [tuple(one_line(text, _CELL) for text in row) for row in rows]
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for title, text, wide in zip(rows[0], row, widths, strict=True):
            space = " " * (wide - width(text))
            cells.append(space + text if title == right else text + space)
        lines.append(GAP.join(cells).rstrip())
    return "\n".join(lines)


def width(text: str) -> int:
    """Columns a text takes on a terminal: CJK and other wide characters take two, combining ones none."""

    def columns(char: str) -> int:
        return 0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1

    return sum(map(columns, text))
