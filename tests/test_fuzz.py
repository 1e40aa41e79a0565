"""Some seconds of scripts/fuzz.py, and that it sees what it looks for."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import child, run
from tests.fuzz.readers import READERS, Reader

pytest.importorskip("starlette", reason="needs fastapi (extra serve)")


@pytest.mark.parametrize("name", READERS)
def test_changed_files_are_read_or_refused_by_one_line(name, tmp_path):
    outcome = run.fuzz(name, seed=1, count=60, seconds=60, keep=tmp_path, warm=15)
    assert not outcome.found and outcome.tried > 0 and outcome.counts["refused"]
    assert outcome.peak < 1 << 30


def _two_lines(folder: Path):
    raise child.Broken("two lines")


FAULTS = {
    "executed": lambda folder: subprocess.run([sys.executable, "--version"], capture_output=True),
    "error": lambda folder: {}["a"],
    "memory": lambda folder: bytearray(1 << 62),
    "lines": _two_lines,
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_are_seen(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sys.addaudithook(child._hook)
    broken = Reader("pt", "", 1, lambda folder, rng, n: (folder / "x").touch(), FAULTS[kind])
    monkeypatch.setitem(READERS, "pt", broken)
    found = child.feed("pt", 0, 0)
    assert found["kind"] == kind and found["n"] == 0
    assert Path("0").exists()  # kept


@pytest.mark.parametrize(("signal", "kind"), [("PROF", "hang"), ("SEGV", "crash")])
def test_processes_that_end_are_faults(signal, kind, tmp_path, monkeypatch):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{{\"base\": 0}}'\nkill -{signal} $$\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    outcome = run.fuzz("pt", seed=0, count=2, seconds=60)
    assert [found[:2] for found in outcome.found] == [(0, kind), (1, kind)] and outcome.faults == 2
    assert "| 2 | 0 | 0 |" in run.table([outcome])[-1]
