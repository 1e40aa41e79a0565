"""`osum data speak MANIFEST... --synthesizer PROGRAM`: spoken questions from written ones."""

import shlex
from pathlib import Path

from mindspore_osum.commands.arguments import add_made, add_sources, errors_of
from mindspore_osum.commands.console import resumable
from mindspore_osum.data.pipeline.making import MANIFEST
from mindspore_osum.data.pipeline.reading import Usable
from mindspore_osum.data.pipeline.speak import SPOKEN_TASKS, read_voices, speak
from mindspore_osum.errors import UserError


def add_arguments(parser) -> None:
    """The arguments of `osum data speak`."""
    add_sources(parser)
    parser.add_argument(
        "--synthesizer",
        metavar="COMMAND",
        required=True,
        help="a program with its arguments, quoted; it gets --batch FILE, a line {text, out} and the voice",
    )
    parser.add_argument(
        "--voices",
        metavar="FILE.jsonl",
        type=Path,
        help="a voice a line, as {engine, voice, speed}: one is drawn for each question",
    )
    parser.add_argument(
        "--task",
        choices=SPOKEN_TASKS,
        default=SPOKEN_TASKS[0],
        metavar="KEY",
        help=f"{SPOKEN_TASKS[0]} (default), or {SPOKEN_TASKS[1]!r}: the question is written before the reply",
    )
    add_made(parser, seed=True)


def run(args) -> int:
    """Have the questions spoken and print how many; 0."""
    try:
        command = shlex.split(args.synthesizer)
    except ValueError as error:
        raise UserError(f"--synthesizer {args.synthesizer}: not a command ({error})") from None
    if not command:
        raise UserError("--synthesizer: it is empty; give a program")
    voices = read_voices(args.voices) if args.voices else [{}]
    usable = Usable(args.manifests, errors_of(args), speech=False)
    settings = {"verb": "speak", "sources": args.manifests, "synthesizer": args.synthesizer}
    settings |= {"voices": voices, "task": args.task, "seed": args.seed}
    with resumable():
        count = speak(
            args.output,
            settings,
            usable,
            command,
            voices,
            args.seed,
            args.task,
            usable.leave_out,
        )
    print(f"{args.output / MANIFEST}: {count} spoken questions, {usable.errors.count} errors left out")
    return 0
