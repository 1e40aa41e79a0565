"""What all tests share: their tree, the shared folder, what is made once and kept, and where the time goes.

tests/README.md says how the suite is organised, and what each folder may take.
"""

import fcntl
import hashlib
import importlib.metadata
import os
import re
import shutil
import sys
import time
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from tests.real_parts import part

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mindspore_osum_tests"
# they begin first, so that no worker is left alone with one of them at the end
LONGEST = ["inference/test_generate.py", "training/test_stages.py", "training/test_run.py"]
DAY = 86_400  # seconds


def pytest_configure(config):
    """Commands that tests start are of this tree, whatever the environment has installed."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([str(ROOT), *filter(None, paths)]))
    os.environ.setdefault("OSUM_GRAPH_CACHE", str(CACHE / "graphs"))
    if not config.getoption("numprocesses", None):  # this process runs tests, as workers do
        os.environ["GLOG_v"] = "4"  # see read_graphs_after_a_miss; MindSpore reads it when it is imported


def pytest_collection_finish():
    os.environ.pop("GLOG_v", None)  # commands that tests start are as quiet as they are for a user
    if "mindspore" in sys.modules:
        read_graphs_after_a_miss()


def read_graphs_after_a_miss():
    """Lay a file of no graph where one is not known, so that MindSpore goes on reading others.

    It stops at the first that is missing. What it says of such a file is an error, which is not shown here.
    """
    from mindspore_osum.inference import graph_cache

    copied, keep = graph_cache._copied, graph_cache._keep
    script = hashlib.sha256(graph_cache.SCRIPT.read_bytes()).hexdigest()
    nothing = {
        graph_cache.GRAPH: "no graph",
        graph_cache.SCRIPTS: hashlib.sha256(script.encode()).hexdigest(),
    }

    def copied_or_nothing(home, places):
        if copied(home, places):
            return True
        for name, text in nothing.items():
            places[name].unlink(missing_ok=True)
            places[name].write_text(text)
        return False

    def keep_graphs(home, places):
        if places[graph_cache.GRAPH].read_bytes() != nothing[graph_cache.GRAPH].encode():
            keep(home, places)

    graph_cache._copied, graph_cache._keep = copied_or_nothing, keep_graphs


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden data and instruments: ``../shared`` beside the checkout, or $OSUM_SHARED."""
    path = Path(os.environ.get("OSUM_SHARED") or ROOT.parent / "shared")
    if not (path / "golden").is_dir():
        pytest.skip(f"needs the shared folder at {path} (or set OSUM_SHARED)")
    return path


@pytest.fixture(scope="session")
def real_part(shared):
    """real_part(name) -> the folder of real weights or of human recordings (tests/real_parts.py)."""
    return lambda name: part(name, shared, CACHE)


@pytest.fixture(scope="session")
def instrument(shared):
    """instrument(name) -> the folder of an instrument that changes MindSpore, built for 2.7.2."""

    def find(name: str) -> Path:
        folder, version = shared / "tools" / name, importlib.metadata.version("mindspore")
        if not folder.is_dir():
            pytest.skip(f"needs {folder}")
        if version != "2.7.2":
            pytest.skip(f"{name} needs MindSpore 2.7.2, this is {version}")
        if not shutil.which("g++"):
            pytest.skip(f"needs g++ to build {name}")
        return folder

    return find


@cache
def code_digest() -> str:
    """Of all that results follow from: the package, the tests' helpers, and the frameworks."""
    digest = hashlib.sha256(str(ROOT).encode())
    for name in ("mindspore", "mindformers"):
        digest.update(importlib.metadata.version(name).encode())
    tests = [path for path in (ROOT / "tests").rglob("*.py") if not path.name.startswith("test_")]
    package = [path for path in (ROOT / "mindspore_osum").rglob("*") if path.suffix in (".py", ".yaml")]
    for path in sorted([*package, *tests]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@pytest.fixture(scope="session")
def once():
    """once(name, make) -> a folder that `make(folder)` filled, once for this state of the code.

    Other workers wait for it meanwhile. Nobody writes into it: a test that wants to copies it.
    """

    def stored(name: str, make) -> Path:
        home = CACHE / "made" / code_digest()
        folder, made = home / name, home / f"{name}.made"
        home.mkdir(parents=True, exist_ok=True)
        with open(home / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                for old in home.parent.iterdir():  # of other states of the code
                    if old != home and time.time() - old.stat().st_mtime > DAY:
                        shutil.rmtree(old, ignore_errors=True)
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return stored


# where the time goes


def pytest_collection_modifyitems(items):
    """The longest files first."""
    order = {path: number for number, path in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(place(item.nodeid), len(order)))


def place(nodeid: str) -> str:
    """A test's file below tests/."""
    return nodeid.partition("::")[0].removeprefix("tests/")


_spent = defaultdict(float)  # seconds of each folder's tests


def pytest_runtest_logreport(report):
    folder, slash, _ = place(report.nodeid).partition("/")
    _spent[folder if slash else "."] += report.duration


def budgets() -> dict[str, int]:
    """Seconds that each folder may take, of tests/README.md; "." is the files beside it."""
    text = (ROOT / "tests/README.md").read_text("utf-8")
    return {name: int(seconds) for name, seconds in re.findall(r"^\| `([\w.]+)` \| (\d+) \|", text, re.M)}


def pytest_terminal_summary(terminalreporter):
    """Seconds of each folder beside its budget; over it nothing fails, as the machine may be busy."""
    budget = budgets()
    terminalreporter.section("seconds of all workers, by folder, and the budget of tests/README.md")
    for folder, spent in sorted(_spent.items(), key=lambda item: -item[1]):
        most = budget.get(folder, 0)
        terminalreporter.write_line(f"{folder:12} {spent:7.1f} {most:6d}{'  over' if spent > most else ''}")
    terminalreporter.write_line(f"{'sum':12} {sum(_spent.values()):7.1f} {sum(budget.values()):6d}")
