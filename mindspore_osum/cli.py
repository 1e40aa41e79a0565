"""The `osum` command: finds a verb's module, runs it, and converts exceptions to an exit status.

Notable choices
- `commands/verbs.py` lists the whole command line. A verb's module has `add_arguments(parser)`,
  `run(args) -> int` and EXAMPLES for its help; only the module of the chosen verb is imported, so that help
  is fast.
- User errors are one line on stderr: exit status 1 for `UserError`, 2 for a wrong command line.
"""

import importlib
import os
import select
import sys

from mindspore_osum import __version__
from mindspore_osum.commands.verbs import VERBS, parser_of
from mindspore_osum.config import did_you_mean
from mindspore_osum.errors import UserError

# exit status of a process ended by a signal, as in shells: 128 + its number
EXIT_INTERRUPTED = 130  # SIGINT
EXIT_BROKEN_PIPE = 141  # SIGPIPE


def main(argv: list[str] | None = None) -> int:
    """Run `osum` with `argv` (default: the process's arguments); returns the exit status."""
    try:
        status = _dispatch(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()  # a closed pipe raises here, not while Python shuts down
        return status
    except UserError as error:
        print(f"osum: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:  # its text says how to resume, if the verb can (`console.resumable`)
        print("; ".join(["osum: interrupted", *map(str, stop.args)]), file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        if not _stdout_closed():
            raise  # another pipe, for example a worker's
        # `osum ... | head` closed the pipe: discard buffered output, which would fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.filename is None:  # not about a path given by the user
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
    except SystemExit as end:  # argparse has printed help (0) or the error in the arguments (2)
        return end.code
    return importlib.import_module(VERBS[word].module).run(args)


def _stdout_closed() -> bool:
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors and hang-ups are always reported
    return bool(poll.poll(0))


def _usage() -> str:
    lines = ["usage: osum VERB ...", "", "verbs (osum VERB --help says more):"]
    width = max(map(len, VERBS))
    lines += [f"  {name:<{width}} {verb.help}" for name, verb in VERBS.items()]
    return "\n".join([*lines, "", "options:", "  -h, --help  this text", "  --version   the version"])
