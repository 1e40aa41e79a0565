"""The `osum` command, also as ``python -m mindspore_osum``: Ctrl-C while it is imported ends it quietly."""

import os
import signal
import sys


def main() -> int:
    """Run `osum` with the process's arguments; returns the exit status."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # ignored in the background
        from mindspore_osum.cli import main as run

        return run()
    # an exception in the midst of an import may become another error
    signal.signal(signal.SIGINT, _end)
    from mindspore_osum.cli import main as run

    signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()


def _end(number, frame):
    os.write(2, b"\nosum: interrupted\n" if os.isatty(2) else b"osum: interrupted\n")
    os._exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
