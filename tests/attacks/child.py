"""Carries out every attack through the verb that reads its file: one process of bounded memory and time."""

import contextlib
import io
import json
import resource
import signal
import sys
import time
from pathlib import Path

from mindspore_osum.cli import main
from tests.attacks.attacks import ATTACKS, CANARY

SECONDS, MEMORY = 5, 1 << 30


def carry_out(name: str, folder: Path) -> dict:
    """What the verb says to an attack."""
    folder.mkdir()
    argv, started = ATTACKS[name].make(folder), time.process_time()
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(argv)
        except BaseException as error:
            status = f"{type(error).__name__}: {error}"[:500]
    seconds = time.process_time() - started
    lines = [*out.getvalue().splitlines(), *err.getvalue().splitlines()]
    return {"status": status, "lines": [line[:3000] for line in lines], "seconds": seconds}


class Waits(BaseException):
    """A verb that goes on for too long."""


def ended(signum, frame):
    """A verb that waits, for instance for a pipe."""
    raise Waits(f"nothing after {4 * SECONDS} s")


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, ended)
    have = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (have + 3 * MEMORY, have + 3 * MEMORY))  # libraries, too
    for n, name in enumerate(ATTACKS):
        signal.alarm(4 * SECONDS)
        found = carry_out(name, Path(f"{n}"))
        signal.alarm(0)
        found |= {"name": name, "ran": Path(CANARY).exists()}
        print(json.dumps(found), flush=True)
    sys.exit(0)
