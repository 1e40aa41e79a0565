"""The recordings a command line names, and the arguments shared by all verbs that take recordings."""

import glob
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mindspore_osum.commands.arguments import (
    add_answer_arguments,
    add_model_arguments,
    add_new_tokens,
    answer_settings,
)
from mindspore_osum.commands.console import Progress
from mindspore_osum.errors import UserError
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.speech.audio import READABLE
from mindspore_osum.speech.detectors import DETECTORS, check_detector
from mindspore_osum.speech.long import MAX_SECONDS, check_max_seconds

STDIN = "-"
MAX_STDIN_BYTES = 2**30  # standard input is held in memory, a file is not
SUFFIXES = {f".{ending}" for ending in READABLE}


def add_listening_arguments(parser, nargs: str = "+") -> None:
    """Arguments for recordings, model, and how long recordings are split."""
    parser.add_argument(
        "audio",
        nargs=nargs,
        help="recordings of any length, folders, 'patterns*.wav', or - for standard input",
    )
    add_model_arguments(parser)
    parser.add_argument(
        "--max-seconds",
        type=float,
        default=MAX_SECONDS,
        metavar="S",
        help=f"longer recordings are split at pauses into chunks up to this length (default {MAX_SECONDS:g})",
    )
    parser.add_argument(
        "--vad",
        choices=DETECTORS,
        default="energy",
        help="finds the speech of long recordings and streams (default energy; silero: a package)",
    )
    add_new_tokens(parser, "longest answer to a chunk, in tokens")
    add_answer_arguments(parser)


def expand(names: Sequence[str]) -> list:
    """Recordings in the order they are named, each once: paths as text, standard input as a file object.

    A folder is all recordings in and below it, by name; a pattern what it matches (``**`` goes below).

    Raises
    ------
    UserError : a folder without recordings, a pattern that matches nothing, or two streams of standard input.
        A path that does not exist is kept: its response has the error.
    """
    found: dict[str, object] = {}
    for name in names:
        if name == STDIN:
            found[name] = found.get(name) or _standard_input()
        elif os.path.isdir(name):
            found |= {path: path for path in _of_folder(name)}
        elif glob.has_magic(name) and not os.path.exists(name):
            matches = sorted(path for path in glob.glob(name, recursive=True) if os.path.isfile(path))
            if not matches:
                raise UserError(f"{name}: no file has such a name")
            found |= {path: path for path in matches}
        else:
            found[name] = name
    return list(found.values())


def _of_folder(name: str) -> list[str]:
    paths = sorted(p for p in Path(name).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise UserError(f"{name}: no recordings in this folder ({' '.join(sorted(SUFFIXES))})")
    return [str(path) for path in paths]


def _standard_input() -> io.BytesIO:
    """All of it, with the name that responses show; decoding needs to seek."""
    data = sys.stdin.buffer.read(MAX_STDIN_BYTES + 1)
    if len(data) > MAX_STDIN_BYTES:
        raise UserError(f"standard input: over {MAX_STDIN_BYTES >> 20} MiB; give the recording as a file")
    stream = io.BytesIO(data)
    stream.name = STDIN
    return stream


def settings(args) -> dict:
    """The settings of `api.OSUM.each` that the command line gives; refused before the model is loaded."""
    check_max_seconds(args.max_seconds)
    check_detector(args.vad)
    sampling = Sampling(max_new_tokens=args.max_new_tokens, **answer_settings(args))
    return {
        "sampling": sampling,
        "batch_size": args.batch_size,
        "max_seconds": args.max_seconds,
        "vad": args.vad,
    }


def name_of(source) -> str:
    """The name of a source of `expand` in responses."""
    return source if isinstance(source, str) else source.name


def progress(sources: Sequence) -> Progress:
    """Progress in seconds of recordings, as far as their headers give them."""
    return Progress(_seconds(sources), "s")


def _seconds(sources: Sequence) -> float:
    """Seconds according to the headers; unreadable recordings count as 0, their responses have the reason."""
    from mindspore_osum.speech.audio import duration_seconds

    total = 0.0
    for source in sources:
        try:
            total += duration_seconds(source)
        except UserError:
            continue
    return total
