"""Compiled graphs kept on disk, so that the next process answers at once.

MindSpore can store a graph after its front end, which is most of the compilation ("compile cache"). But it
finds a stored graph by the number of graphs compiled before, and checks only the script that was started.
So here a graph's file is kept in a folder named by a digest of everything the graph depends on. When that
graph is to be compiled, the file is copied to where MindSpore looks, under the number it will look for.

Notable choices
- Weights are not in it: MindSpore binds the parameters of the compiled cell by their names. A function that
  belongs to no cell would get no parameters at all.
- MindSpore reads and writes in a folder of this process alone; a new graph's folder is filled and then
  renamed, so that no process reads an incomplete one.
- After the first graph whose file is missing MindSpore reads no more files in this process. A dummy file
  would prevent that, but MindSpore reports it to the user as an error: only tests use one.
- By default on CPU only, where it was measured. MindSpore documents its cache of the front end for every
  device, so on Ascend it is used where `FOLDER` names a folder; what follows the front end is compiled there
  in any case. Without a writable folder graphs are compiled.
"""

import atexit
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import mindspore as ms
from mindspore import nn

from mindspore_osum.interrupts import unfinished
from mindspore_osum.models import ops
from mindspore_osum.models.target import target

FOLDER = "OSUM_GRAPH_CACHE"  # environment variable: where, or "off"
LARGEST = 256 << 20  # bytes of all graphs; those used longest ago are deleted
GRAPH, SCRIPTS = "graph.mindir", "scripts.hash"
# what MindSpore compares as the script that was started: always the same, and not empty. MindSpore creates
# anew every module that it imports, and a new sys would have other streams: so it imports nothing
SCRIPT = Path(__file__).resolve().with_name("__init__.py")
_PACKAGE = SCRIPT.parents[1]
api = sys.modules[ms.jit.__module__]  # mindspore.common.api, in 2.9 mindspore.graph.api
_number = 0  # of graphs that this process passed through the cache


@contextmanager
def kept(cell: nn.Cell, about: dict) -> Iterator[None]:
    """The graph of `cell` that is compiled inside is read from its folder, or stored there.

    Parameters
    ----------
    about : all that the graph depends on besides code, parameters' shapes and machine; JSON values.
    """
    global _number
    folder = _folder()
    if folder is None or (target() == "CPU" and _has_device_operators(cell)):
        yield
        return
    home, work = folder / _digest(cell, about), _work() / "rank_0" / "graph_cache"
    graph, scripts = work / f"compile_cache_{_number}.mindir", work / "compile_dependency.hash"
    known = _copied(home, {GRAPH: graph, SCRIPTS: scripts})
    script = api.entry_script_path
    try:
        os.environ |= {"MS_COMPILER_CACHE_ENABLE": "1", "MS_COMPILER_CACHE_PATH": str(_work())}
        api.entry_script_path = str(SCRIPT)
        yield
    finally:
        _number += 1
        api.entry_script_path = script
        del os.environ["MS_COMPILER_CACHE_ENABLE"], os.environ["MS_COMPILER_CACHE_PATH"]
    if not known and graph.is_file():
        _keep(home, {GRAPH: graph, SCRIPTS: scripts})
        _prune(folder)
    graph.unlink(missing_ok=True)


def _copied(home: Path, places: dict[str, Path]) -> bool:
    """Copy a graph's files to where MindSpore looks; False if there are none, or they vanish."""
    try:
        for name, place in places.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.unlink(missing_ok=True)  # MindSpore's are read-only
            shutil.copyfile(home / name, place)
        os.utime(home)  # in use
    except OSError:
        return False
    return True


def _keep(home: Path, places: dict[str, Path]) -> None:
    """Store a graph in a folder of its own."""
    part = home.with_name(f".part-{os.getpid()}-{home.name}")
    try:
        part.mkdir()
        for name, place in places.items():
            shutil.copyfile(place, part / name)
        os.rename(part, home)
    except OSError:  # the disk is full, or another process was first: the graph is compiled next time, too
        shutil.rmtree(part, ignore_errors=True)


@cache
def _work() -> Path:
    """The folder that MindSpore uses, one in a process: it reads the variable once."""
    folder = tempfile.mkdtemp(prefix="osum-graphs-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    unfinished.add(Path(folder))
    return Path(folder)


def _folder() -> Path | None:
    """The folder of all graphs; None if there is none, or if MindSpore's own variables are set."""
    name = os.environ.get(FOLDER, "")
    own = {"MS_COMPILER_CACHE_ENABLE", "MS_COMPILER_CACHE_PATH"} & os.environ.keys()
    if name == "off" or own or (not name and target() != "CPU"):
        return None
    caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(name or os.path.join(caches, "mindspore_osum", "graphs"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def _has_device_operators(cell: nn.Cell) -> bool:
    """Whether some of its operators are not MindSpore's own for CPU."""
    return any(type(part).__module__ == f"{ops.__name__}.fused" for _, part in cell.cells_and_names())


def _digest(cell: nn.Cell, about: dict) -> str:
    """Digest of everything that the graph depends on."""
    names = [(name, p.shape, str(p.dtype)) for name, p in cell.parameters_dict().items()]
    where = [ms.__version__, platform.machine(), target()]
    source = [*where, _code(), _foreign(cell), type(cell).__name__, names, about]
    return hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:32]


@cache
def _code() -> str:
    """Digest of the code that graphs are made of, and of its path, which MindSpore compares too."""
    digest = hashlib.sha256(str(_PACKAGE).encode())
    for part in ("models", "systems", "inference"):
        for path in sorted((_PACKAGE / part).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _foreign(cell: nn.Cell) -> str:
    """Digest of the packages of its cells other than this one and MindSpore: systems of other packages."""
    digest = hashlib.sha256()
    names = {type(part).__module__.partition(".")[0] for _, part in cell.cells_and_names()}
    for name in sorted(names - {_PACKAGE.name, ms.__name__}):
        file = Path(sys.modules[name].__file__)
        for path in sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _prune(folder: Path) -> None:
    """Delete the least recently used graphs until the rest is small enough, and incomplete ones."""
    sizes = {}
    for entry in folder.iterdir():
        try:
            age = time.time() - entry.stat().st_mtime
            sizes[entry] = age, sum(f.stat().st_size for f in entry.rglob("*") if f.is_file())
        except OSError:
            continue  # another process deletes it
    total = 0
    for entry, (age, size) in sorted(sizes.items(), key=lambda item: item[1][0]):
        total += size
        if total > LARGEST or (entry.name.startswith(".part-") and age > 3600):
            shutil.rmtree(entry, ignore_errors=True)
