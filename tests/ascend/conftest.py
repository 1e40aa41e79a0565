"""The kernels that let Ascend's operators run on CPU, and the worker process that runs the model with them.

They have to be there before MindSpore runs anything, so the work is done in one process of its own, once for
all tests; the tests judge the numbers it brings back.
"""

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = "libascend_ops_cpu.so"


@pytest.fixture(scope="session")
def tool(instrument) -> Path:
    """The folder of ascend_ops_cpu, Ascend's operators as CPU kernels."""
    return instrument("ascend_ops_cpu")


@pytest.fixture(scope="session")
def library(tool) -> Path:
    """The built kernels and those of kernels.cc, in the user's cache under the digest of their sources."""
    more = Path(__file__).with_name("kernels.cc")
    sources = [*sorted([*tool.glob("*.cc"), *tool.glob("*.h"), tool / "build.sh"]), more]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mindspore_osum_tests" / digest
    if not (cache / LIBRARY).is_file():
        partial = cache / f"partial{os.getpid()}"
        shutil.copytree(tool, partial)
        with open(partial / "others.cc", "a", encoding="utf-8") as file:
            file.write(more.read_text(encoding="utf-8"))
        subprocess.run([str(partial / "build.sh"), sys.executable, str(partial)], check=True)
        os.replace(partial / LIBRARY, cache / LIBRARY)
        shutil.rmtree(partial)
    return cache / LIBRARY


@pytest.fixture(scope="session")
def run_worker(tool, library, tmp_path_factory):
    """Runs a module of this folder with the kernels; returns what it measured."""

    def run(name: str, *words: str) -> dict:
        folder = tmp_path_factory.mktemp("ascend")
        env = os.environ | {
            "ASCEND_OPS_CPU_LIB": str(library),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(tool)]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        env.pop("OSUM_OPS", None)
        command = [sys.executable, "-m", f"tests.ascend.{name}", str(folder / "measured.json"), *words]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads((folder / "measured.json").read_text(encoding="utf-8"))

    return run


@pytest.fixture(scope="session")
def measured(run_worker):
    """measured(what) -> what worker.py measured: {case: {quantity: value}}; a process for each set."""
    found = functools.cache(lambda *whats: run_worker("worker", *whats))
    fast = "float32", "bfloat16:answers"
    return lambda what: found(*fast) if what in fast else found("bfloat16", "float16")
