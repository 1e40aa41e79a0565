"""The `osum` command: finds a verb's module, runs it, and converts exceptions to an exit status.

Notable choices
- `commands/verbs.py` lists the whole command line. A verb's module has `add_arguments(parser)`,
  `run(args) -> int` and EXAMPLES for its help; only the module of the chosen verb is imported, so that help
  is fast.
- User errors are one line on stderr: exit status 1 for `UserError` and `Unreachable`, 2 for a wrong command
  line.
"""

import contextlib
import errno
import importlib
import os
import select
import signal
import sys

from mindspore_osum import __version__
from mindspore_osum.commands import console
from mindspore_osum.commands.verbs import OWN_SIGNALS, VERBS, parser_of
from mindspore_osum.config import did_you_mean
from mindspore_osum.errors import Unreachable, UserError, one_line
from mindspore_osum.files import is_full
from mindspore_osum.interrupts import Terminated, delete_unfinished, steady, watched

# exit status of a process ended by a signal, as in shells: 128 + its number
EXIT_INTERRUPTED = 130  # SIGINT
EXIT_TERMINATED = 143  # SIGTERM
EXIT_BROKEN_PIPE = 141  # SIGPIPE
# of disks and limits, which no program prevents
FAULTS = {errno.EIO, errno.EROFS, errno.ESTALE, errno.EMFILE, errno.ENFILE}


def main(argv: list[str] | None = None) -> int:
    """Run `osum` with `argv` (default: the process's arguments); returns the exit status."""
    whole = argv is None  # a process of its own
    argv = sys.argv[1:] if whole else argv
    console.interrupted.begin(argv)
    try:
        status = _dispatch(argv)
        sys.stdout.flush()  # a closed pipe raises here, not while Python shuts down
        return status
    except (UserError, Unreachable) as error:
        print(f"osum: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        for number in (signal.SIGINT, signal.SIGTERM) if whole else ():
            signal.signal(number, signal.SIG_IGN)  # it ends already
        console.interrupted.tell()
        return EXIT_TERMINATED if isinstance(stop, Terminated) else EXIT_INTERRUPTED
    except BrokenPipeError:
        if not _stdout_closed():
            raise  # another pipe, for example a worker's
        _discard_output()  # `osum ... | head` closed the pipe
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if is_full(error) or error.errno in FAULTS:
            _discard_output()  # what standard output still holds would fail again
            what = "cannot write" if is_full(error) else "cannot read or write"
            text = one_line(f"osum: {error.filename or what}: {error.strerror}")
            print("; ".join(filter(None, [text, console.interrupted.how])), file=sys.stderr)
            return 1
        if error.filename is None:  # not about a path given by the user
            raise
        print(one_line(f"osum: {error.filename}: {error.strerror}"), file=sys.stderr)
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
    with contextlib.nullcontext() if word in OWN_SIGNALS else watched(_end):
        with steady():  # libraries with threads of their own are imported here
            parser = parser_of(word)
        try:
            args = parser.parse_args(rest)
        except SystemExit as end:  # argparse has printed help (0) or the error in the arguments (2)
            return end.code
        return importlib.import_module(VERBS[word].module).run(args)


def _end(number: int) -> None:
    """End the process at once, as a signal asked that MindSpore keeps from its turn."""
    delete_unfinished()
    console.interrupted.tell()
    os._exit(128 + number)


def _discard_output() -> None:
    """Send buffered output nowhere: writing it would fail again while Python shuts down."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _stdout_closed() -> bool:
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors and hang-ups are always reported
    return bool(poll.poll(0))


def _usage() -> str:
    lines = ["usage: osum VERB ...", "", "verbs (osum VERB --help says more):"]
    width = max(map(len, VERBS))
    lines += [f"  {name:<{width}} {verb.help}" for name, verb in VERBS.items()]
    return "\n".join([*lines, "", "options:", "  -h, --help  this text", "  --version   the version"])
