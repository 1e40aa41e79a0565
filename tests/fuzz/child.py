"""A process that feeds one reader, and tells its parent about each input: `python -m tests.fuzz.child`.

Notable choices
- Nothing may run: an audit hook counts processes, connections, unpickling, `exec`, and files that are written
  or removed while a reader works; payloads would make a file, which is looked for, too.
- Memory is bounded by the address space: what the process has once it is warm, and `MEMORY`.
- An input has `SECONDS` of processor time, after which the system ends the process, whatever it is doing.
"""

import json
import os
import random
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

from mindspore_osum.errors import UserError, one_line
from tests.fuzz.readers import READERS, Broken
from tests.fuzz.seeds import CANARY

SECONDS = 5.0
MEMORY = 1 << 30  # bytes beside those of the file
WARM = 60  # inputs before the limits hold, so that all libraries are loaded
_HARM = {
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.forkpty",
    "subprocess.Popen",
    "pickle.find_class",
}
_HARM |= {
    "socket.connect",
    "socket.bind",
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
}
_HARM |= {"shutil.rmtree", "os.chmod", "os.truncate"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

_seen: list[str] | None = None  # harmful events while a reader works


def _hook(event: str, args: tuple) -> None:
    if _seen is None:
        return
    written = event == "open" and isinstance(args[2], int) and args[2] & _WRITES
    text = event == "exec" and args[0].co_filename.startswith("<")  # a module that is imported has a file
    if event in _HARM or written or text:
        _seen.append(f"{event} {args!r}"[:200])


def feed(name: str, seed: int, n: int, warm: bool = False) -> dict:
    """One input to one reader; what came of it."""
    global _seen
    reader, folder = READERS[name], Path(f"{n}")
    folder.mkdir()
    reader.write(folder, random.Random(f"{seed} {name} {n}"), n)
    size = sum(path.stat().st_size for path in folder.iterdir() if not path.is_symlink())
    kind, what = "read", ""
    _seen = []
    signal.setitimer(signal.ITIMER_PROF, 0 if warm else SECONDS)
    start = time.process_time()
    try:
        reader.read(folder)
    except UserError as error:
        kind, what = "refused", str(error)
        if what != one_line(what):
            kind = "lines"
    except MemoryError:
        kind = "memory"
    except Broken as error:
        kind, what = "lines", str(error)
    except BaseException as error:
        kind, what = "error", f"{type(error).__name__}: {one_line(str(error))[:300]}"
    seconds = time.process_time() - start
    signal.setitimer(signal.ITIMER_PROF, 0)
    harm, _seen = _seen, None
    if os.path.exists(CANARY) or harm and not warm:
        kind, what = "executed", "; ".join(harm[:3]) or "the canary was made"
    if kind in ("read", "refused"):
        shutil.rmtree(folder)
    return {"n": n, "kind": kind, "what": what, "seconds": seconds, "bytes": size, "peak": _peak()}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main(name: str, seed: int, start: int, end: int, warm: int) -> None:
    """Feed inputs start to end - 1; a line of JSON for each on standard output."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_hook)
    tell = os.fdopen(os.dup(1), "w", buffering=1)
    for n in range(-warm, 0):
        feed(name, seed, n, warm=True)
    limit = _address_space() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    print(json.dumps({"base": _peak()}), file=tell)
    for n in range(start, end):
        print(json.dumps(feed(name, seed, n)), file=tell)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:6]))
