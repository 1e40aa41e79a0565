"""The `osum` command: one table from verb to module.

Notable choices
- The table is the whole command line. A verb's module offers `add_arguments(parser)` and `run(args) -> int`,
  and EXAMPLES for its help; only the module of the chosen verb is imported, so that help stays instant.
- A user's mistake is one line on stderr: exit 1 for `UserError`, 2 for a wrong command line.
"""

import importlib
import os
import select
import sys
from typing import NamedTuple

from mindspore_osum import __version__
from mindspore_osum.commands.arguments import Parser
from mindspore_osum.config import did_you_mean
from mindspore_osum.errors import UserError

# what a shell reports for a process ended by the signal: 128 + its number
EXIT_INTERRUPTED = 130  # SIGINT
EXIT_BROKEN_PIPE = 141  # SIGPIPE


class Verb(NamedTuple):
    """Where a verb lives, and the line `osum --help` shows for it."""

    module: str
    help: str


VERBS = {
    "infer": Verb("mindspore_osum.commands.infer", "recordings in, tagged and parsed answers out"),
    "transcribe": Verb("mindspore_osum.commands.transcribe", "long recordings to text or subtitles"),
    "annotate": Verb("mindspore_osum.commands.annotate", "what recordings say, in all eight tasks"),
    "chat": Verb("mindspore_osum.commands.chat", "turns with a model, spoken or typed"),
    "train": Verb("mindspore_osum.commands.train", "train or fine-tune a model as a YAML job describes"),
    "plan": Verb("mindspore_osum.commands.plan", "memory and time of a training job, before it is run"),
    "bench": Verb("mindspore_osum.commands.bench", "speed against PyTorch and its promises, on this machine"),
    "eval": Verb("mindspore_osum.commands.eval", "measure a model as the papers do, and compare"),
    "convert": Verb(
        "mindspore_osum.commands.convert", "PyTorch checkpoints to MindSpore model folders, and back"
    ),
    "merge-lora": Verb("mindspore_osum.commands.merge_lora", "add a model's LoRA to its weights"),
    "merge-checkpoint": Verb(
        "mindspore_osum.commands.merge_checkpoint", "a training checkpoint as a model folder"
    ),
    "data": Verb("mindspore_osum.commands.data", "training data: import, check, measure, pack"),
    "export": Verb("mindspore_osum.commands.export", "a model as MindIR graphs for deployment"),
    "serve": Verb("mindspore_osum.commands.serve", "the model behind HTTP, in OpenAI's forms"),
    "demo": Verb("mindspore_osum.commands.demo", "a web page to record, ask and look at the answer"),
    "info": Verb("mindspore_osum.commands.info", "what a model folder is: sizes, types, preset, hashes"),
    "completion": Verb(
        "mindspore_osum.commands.completion", "a script that completes osum's words in bash or zsh"
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Run `osum` with `argv` (default: the process's arguments); returns the exit status."""
    try:
        status = _dispatch(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()  # a closed pipe shows here, not in a traceback while Python shuts down
        return status
    except UserError as error:
        print(f"osum: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("osum: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        if not _stdout_closed():
            raise  # another pipe, a worker's for instance: not to be hidden
        # `osum ... | head`: nobody reads on. What is still buffered goes nowhere instead of failing again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.filename is None:  # not about a place that the user named
            raise
        print(f"osum: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1


def _dispatch(argv: list[str]) -> int:
    word, rest = (argv[0], argv[1:]) if argv else (None, [])
    if word in ("-h", "--help"):
        print(_usage())
        return 0
    if word == "--version":
        print(f"osum {__version__}")
        return 0
    if word is None:
        print(_usage(), file=sys.stderr)
        return 2
    if word not in VERBS:
        print(f"osum: no verb {word!r}{did_you_mean(word, VERBS)} (osum --help lists them)", file=sys.stderr)
        return 2
    parser = parser_of(word)
    try:
        args = parser.parse_args(rest)
    except SystemExit as end:  # argparse has printed: help (0) or what is wrong with the arguments (2)
        return end.code
    return importlib.import_module(VERBS[word].module).run(args)


def parser_of(word: str) -> Parser:
    """The parser of a verb's arguments; its module is imported."""
    verb = VERBS[word]
    module = importlib.import_module(verb.module)
    parser = Parser(prog=f"osum {word}", description=verb.help, epilog=getattr(module, "EXAMPLES", None))
    module.add_arguments(parser)
    return parser


def _stdout_closed() -> bool:
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors and hang-ups are reported without asking
    return bool(poll.poll(0))


def _usage() -> str:
    lines = ["usage: osum VERB ...", "", "verbs (osum VERB --help says more):"]
    width = max(map(len, VERBS))
    lines += [f"  {name:<{width}} {verb.help}" for name, verb in VERBS.items()]
    return "\n".join([*lines, "", "options:", "  -h, --help  this text", "  --version   the version"])
