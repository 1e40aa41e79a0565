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
from mindspore_osum.commands.console import Progress, say
from mindspore_osum.errors import UserError
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.speech.audio import READABLE
from mindspore_osum.speech.detectors import DETECTORS, check_detector
from mindspore_osum.speech.long import CHANNELS, LONG_FORMS, MAX_SECONDS, check_max_seconds
from mindspore_osum.stores import is_address

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
    add_channels(parser)
    parser.add_argument(
        "--no-gate",
        action="store_true",
        help="ask the model about short recordings of silence and steady sound, too",
    )
    parser.add_argument(
        "--vad",
        choices=DETECTORS,
        default="energy",
        help="finds speech (default energy; silero: a package)",
    )
    parser.add_argument(
        "--long",
        choices=LONG_FORMS,
        default="",
        help="how recordings are read that are too long for the model: split at pauses, or seek, of a "
        "Whisper, as openai-whisper (default: as usual for the model; pauses with --max-seconds)",
    )
    parser.add_argument(
        "--no-condition-on-previous-text",
        action="store_true",
        help="of seek: the model does not read what it wrote before a window",
    )
    add_new_tokens(parser, "longest answer to a chunk, in tokens")
    add_answer_arguments(parser)


def add_channels(parser) -> None:
    """--channels."""
    parser.add_argument(
        "--channels",
        choices=CHANNELS,
        default=CHANNELS[0],
        help="of stereo: the mean (mix, default), left, right, or split: each on its own",
    )


def expand(names: Sequence[str]) -> list:
    """Recordings in the order they are named, each once: paths as text, standard input as a file object.

    A folder is all recordings in and below it, by the endings of their names, without names that begin with a
    dot; how many other files there are is reported. A pattern is what it matches (``**`` goes below).

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
        elif glob.has_magic(name) and not os.path.exists(name) and not is_address(name):
            matches = sorted(path for path in glob.glob(name, recursive=True) if os.path.isfile(path))
            if not matches:
                raise UserError(f"{name}: no file has such a name")
            found |= {path: path for path in matches}
        else:
            found[name] = name
    return list(found.values())


def _of_folder(name: str) -> list[str]:
    root = Path(name)
    files = [p for p in root.rglob("*") if not p.is_dir() and not _hidden(p.relative_to(root))]
    # a link to nothing is kept: its response has the error; a pipe might never end
    paths = sorted(p for p in files if _named_as_audio(p) and (p.is_file() or not p.exists()))
    if not paths:
        raise UserError(
            f"{name}: no recordings in this folder, by their endings ({', '.join(READABLE[:8])}, ...)"
        )
    left = set(files) - set(paths)
    if others := sorted({p.suffix or p.name for p in left}):
        few = ", ".join(others[:5]) + ", ..." * (len(others) > 5)
        say(f"{name}: {len(left)} other {'file is' if len(left) == 1 else 'files are'} left out ({few})")
    return [str(path) for path in paths]


def _named_as_audio(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _hidden(path: Path) -> bool:
    """Whether a name begins with a dot: what systems leave beside files, such as ``._a.wav`` of macOS."""
    return any(part.startswith(".") for part in path.parts)


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
        "gate": not args.no_gate,
        "channels": args.channels,
        "long": args.long,
        "condition_on_previous_text": not args.no_condition_on_previous_text,
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
