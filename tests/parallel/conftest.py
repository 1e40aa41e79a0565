"""The instrument that makes semi-automatic parallel graphs run on CPU, and how tests start processes with it.

It changes a copy of the environment, which is made once and kept in the user's cache.
"""

import hashlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ascend.conftest import library, tool  # noqa: F401 fixtures

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def environment(instrument) -> Path:
    """A copy of this environment with cpu_semi_auto, for sharded graphs on CPU, in it."""
    source = instrument("cpu_semi_auto")
    prefix = Path(sys.prefix).resolve()  # of a link to an environment the copy would be a link to it, too
    packages = sorted(path.name for path in prefix.glob("lib/python*/site-packages/*.dist-info"))
    sources = [path.read_bytes() for path in sorted(source.iterdir()) if path.is_file()]
    digest = hashlib.sha256(b"".join([*sources, str((prefix, packages)).encode()])).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mindspore_osum_tests"
    copy = cache / f"parallel_{digest}"
    if not copy.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        if os.stat(cache).st_dev != os.stat(prefix).st_dev:
            pytest.skip(f"needs {cache} on the file system of {prefix}, whose files it links to")
        partial = cache / f"partial{os.getpid()}"
        subprocess.run(
            [str(source / "prepare.sh"), str(prefix), str(partial)], check=True, capture_output=True
        )
        os.replace(partial, copy)
    return copy


@pytest.fixture(scope="session")
def launch(environment):
    """launch(processes, *command, cwd=, ok=True): run a Python script in several processes under msrun."""

    def run(
        processes: int, *command, logs: Path, ok: bool = True, more: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        env = os.environ | {
            "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "GLOG_v": "3",
            "PYTHONDONTWRITEBYTECODE": "1",
            **(more or {}),
        }
        done = subprocess.run(
            [
                environment / "bin" / "python",
                environment / "bin" / "msrun",
                f"--worker_num={processes}",
                f"--local_worker_num={processes}",
                f"--master_port={port}",
                f"--log_dir={logs}",
                "--join=True",
                *map(str, command),
            ],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=3600,
        )
        if ok and done.returncode:
            tails = [f"{path.name}: {path.read_text()[-3000:]}" for path in sorted(logs.glob("worker_*.log"))]
            raise AssertionError("\n".join([done.stdout[-1000:], *tails]))
        return done

    return run


@pytest.fixture(scope="session")
def measure(launch, tmp_path_factory):
    """measure(processes, cases): what worker.py found, [{case: result} of each process]."""

    def run(processes: int, cases: dict, **more: str) -> list[dict]:
        folder = tmp_path_factory.mktemp("parallel")
        (folder / "cases.json").write_text(json.dumps(cases))
        launch(processes, "tests/parallel/worker.py", folder, logs=folder / "logs", more=more)
        return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(processes)]

    return run
