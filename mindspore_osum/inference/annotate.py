"""`osum annotate`: all that the model hears in a recording, one JSON object a line.

Notable choices
- Lines are written as they come, to a file beside --output that takes its name when all are there: after an
  interruption the same command with --resume goes on behind the last whole line.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from mindspore_osum.errors import UserError
from mindspore_osum.inference.command import clean_stdout
from mindspore_osum.inference.inputs import (
    Progress,
    add_listening_arguments,
    expand,
    load,
    name_of,
    report,
    settings,
)
from mindspore_osum.results import Response
from mindspore_osum.tasks import TASKS
from mindspore_osum.weights_io import write_text

EXAMPLES = """\
examples:
  osum annotate calls/ --output annotations.jsonl                # transcript, word times, labels, a reply
  osum annotate calls/ --output annotations.jsonl --resume       # go on after an interruption
  osum annotate a.wav --tasks asr,gender,age --probabilities     # only these, in one pass
"""


def add_arguments(parser) -> None:
    """The arguments of `osum annotate`."""
    add_listening_arguments(parser)
    parser.add_argument(
        "--tasks", metavar="T[,T...]",
        help=f"tasks ({', '.join(TASKS)}) or tag names, divided by commas (default: all eight tasks)",
    )  # fmt: skip
    parser.add_argument("--single", action="store_true", help="ask for each task on its own, in more passes")
    parser.add_argument("--probabilities", action="store_true", help="also the probability of each label")
    parser.add_argument("--output", metavar="FILE.jsonl", help="write the JSON lines there")
    parser.add_argument("--resume", action="store_true", help="leave out recordings that are in --output")


def run(args) -> int:
    """Annotate; 0, or 1 if a recording failed."""
    from mindspore_osum.inference.passes import plan

    tasks = [name.strip() for name in args.tasks.split(",")] if args.tasks else list(TASKS)
    requests = plan(tasks, combine=not args.single)
    how = settings(args) | {"probabilities": args.probabilities}
    if args.resume and not args.output:
        raise UserError("--resume continues the file of --output; give it")
    sources, kept, failed = expand(args.audio), _kept(args), []
    if args.resume:
        print(f"osum: {len(kept)} recordings are there already", file=sys.stderr)
    sources = [source for source in sources if name_of(source) not in kept]
    with clean_stdout() as stdout:
        model = load(args) if sources else None
        with _lines(args, kept, stdout) as write, Progress(sources) as progress:
            for response in model.each(sources, requests, progress=progress, **how) if model else ():
                progress.clear()
                write(response)
                if response.error:
                    failed.append(response.error)
    return report(failed)


@contextlib.contextmanager
def _lines(args, kept: dict[str, str], stdout) -> Iterator[Callable[[Response], None]]:
    """What writes a response: to the file, behind what is kept; else to standard output as a reader wants."""
    if not args.output:
        person = stdout.isatty()
        yield lambda response: print(response if person else _line(response), file=stdout, flush=True)
        return
    target, partial = _files(args)
    try:
        write_text(partial, "".join(kept.values()))
        file = open(partial, "a", encoding="utf-8", errors="backslashreplace", newline="\n")
    except OSError as error:
        raise UserError(f"{target}: cannot write there ({error.strerror})") from None
    with file:
        yield lambda response: print(_line(response), file=file, flush=True)
        os.fsync(file.fileno())
    os.replace(partial, target)


def _files(args) -> tuple[Path, Path]:
    """--output, and the file it is until it is complete."""
    target = Path(args.output)
    return target, target.with_name(target.name + ".partial")


def _kept(args) -> dict[str, str]:
    """Recording -> line, of an earlier run; without failures, and without a last line that is not whole."""
    if not args.resume:
        return {}
    path = next((path for path in reversed(_files(args)) if path.exists()), None)
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path else []
    except OSError as error:
        raise UserError(f"{path}: cannot read what is there ({error.strerror})") from None
    kept = {}
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line)
            if "error" not in values and line.endswith(b"\n"):
                kept[values["audio"]] = line.decode("utf-8")
        except (ValueError, TypeError, KeyError):
            if number < len(lines):
                raise UserError(
                    f"{path}:{number}: not a line of `osum annotate`; take another --output"
                ) from None
    return kept


def _line(response: Response) -> str:
    return json.dumps(response.to_dict(), ensure_ascii=False)
