"""Errors of the disk and kills at calls that read or change files; `python -m tests.faults` makes all."""

import subprocess
import sys
import types

import pytest

from tests import faults

# errors are spread over the calls of a fast test; the slow one makes each error at each call
EVERY = {"osum convert to a folder": 20, "osum convert to a .pt": 60, "osum convert to a .safetensors": 20}


@pytest.fixture(autouse=True)
def without_mindspore(monkeypatch):
    """Saving asks it for a type alone."""
    if "mindspore" not in sys.modules:
        monkeypatch.setitem(sys.modules, "mindspore", types.SimpleNamespace(float32="float32"))


@pytest.mark.parametrize("job", faults.JOBS, ids=lambda job: job.name)
def test_an_error_at_any_call_is_one_line_and_leaves_nothing_half(tmp_path, job):
    ends = faults.errors_of(job, tmp_path, tuple(faults.ERRORS.values()), EVERY.get(job.name, 1))
    assert set(ends) <= {"one line", "nothing"} and ends["one line"] > 2, ends


def sweep(*args: str) -> list[list[str]]:
    """Rows of the table, from a process without threads, as fork wants it."""
    command = [sys.executable, "-m", "tests.faults", *args]
    done = subprocess.run(command, cwd=faults.ROOT, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.strip("| ").split(" | ") for line in done.stdout.splitlines()[2:]]


def test_a_kill_at_any_call_leaves_weights_of_one_writing():
    """Files that replace others are never joined with them: the folder is refused for that moment."""
    ((name, *_, kills, former, newer, refused),) = sweep("--kills-only", "--only", "weights in shards")
    assert name == "weights in shards" and int(kills) == int(former) + int(newer) + int(refused)
    assert min(int(former), int(newer), int(refused)) > 0


@pytest.mark.slow
def test_every_error_and_kill_at_every_call():
    rows = sweep()
    assert [row[0] for row in rows] == [job.name for job in faults.JOBS]
    assert all(row[4] == "0" for row in rows)
    assert all(row[-1] == "0" for row in rows if row[0] != "weights in shards")
