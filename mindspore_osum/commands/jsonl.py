"""A JSON lines file that appears when it is complete, and that --resume continues.

Notable choices
- Lines are written at once, to a file beside --output that is renamed when all are written: after an
  interruption the same command with --resume continues after the last complete line.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from mindspore_osum.commands.console import interrupted, resumable
from mindspore_osum.errors import UserError
from mindspore_osum.files import json_object, replacing
from mindspore_osum.interrupts import unfinished


def kept_lines(output: str | None, name: Callable[[dict], object], verb: str) -> dict[object, str]:
    """Recording -> line, of an earlier run; without failures and an incomplete last line.

    Parameters
    ----------
    output : --output.
    name : what distinguishes the recording of a line from others.
    verb : whose file it is, for errors.

    Raises
    ------
    UserError : no --output, or a file of something else.
    """
    if not output:
        raise UserError("--resume continues the file of --output; give it")
    path = next((path for path in reversed(output_files(output)) if path.exists()), None)
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path else []
    except OSError as error:
        raise UserError(f"{path}: cannot read what is there ({error.strerror})") from None
    kept = {}
    for number, line in enumerate(lines, start=1):
        try:
            values = json_object(line, f"{path}:{number}")
            if "error" not in values and line.endswith(b"\n"):
                kept[name(values)] = line.decode("utf-8")
        except (UserError, TypeError, KeyError):
            if number < len(lines):
                raise UserError(
                    f"{path}:{number}: not a line of `osum {verb}`; take another --output"
                ) from None
    return kept


@contextlib.contextmanager
def writing(output: str, kept: dict[object, str]) -> Iterator[Callable[[str], None]]:
    """A function that appends a line to the file, after the kept ones.

    Raises
    ------
    UserError : the file cannot be written, also from that function; complete lines stay beside it.
    """
    with _one_line(Path(output)):
        target, partial = output_files(output)
        with replacing(partial) as start:
            start.write("".join(kept.values()).encode("utf-8"))
        file = open(partial, "ab", buffering=0)
    if not kept:  # nothing yet that --resume could continue
        unfinished.add(partial)

    def append(line: str) -> None:
        left = memoryview(f"{line}\n".encode("utf-8", "backslashreplace"))
        try:
            while left:
                left = left[file.write(left) :]
        except OSError as error:
            raise UserError(
                f"{target}: cannot write there ({error.strerror}); what is done is kept, {interrupted.how}"
            ) from None
        unfinished.discard(partial)

    try:
        with file, resumable("--resume"):
            yield append
            with _one_line(target):
                os.fsync(file.fileno())
    except BaseException:
        if partial in unfinished:
            partial.unlink()
        raise
    finally:
        unfinished.discard(partial)
    with _one_line(target):
        os.replace(partial, target)


@contextlib.contextmanager
def _one_line(target: Path) -> Iterator[None]:
    """Make an error of writing a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{target}: cannot write there ({error.strerror})") from None


def output_files(output: str) -> tuple[Path, Path]:
    """--output, and the temporary file that holds it until it is complete; UserError if it is a folder."""
    target = Path(output)
    if not target.name or target.is_dir():
        raise UserError(f"{output}: is a folder; give --output the name of a file")
    return target, target.with_name(target.name + ".partial")
