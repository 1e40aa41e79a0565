"""Bulk work on Ray: each item once, whatever ends; errors in one line; the answers of the plain command."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

from mindspore_osum.cluster.bulk import answered, in_parts
from mindspore_osum.cluster.ray import joined
from mindspore_osum.errors import UserError
from scripts.ray_bulk import lines_of, make
from tests.cluster.work import ITEMS, Doubling, doubled
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("ray"), reason="needs the extra `ray`"),
]


@pytest.fixture(scope="module")
def cluster():
    with joined() as ray:
        yield ray


def test_a_killed_replica(cluster, tmp_path):
    lost, mark = [], str(tmp_path / "mark")
    found = answered(Doubling(mark), in_parts(ITEMS, 3), 1, "CPU", lost=lambda: lost.append(1))
    assert doubled(found) == [2 * n for n in ITEMS]
    assert os.path.exists(mark) and len(lost) == 1


def test_a_part_that_ends_every_replica_is_an_error(cluster, tmp_path):
    found = answered(Doubling(str(tmp_path / "mark"), always=True), in_parts(ITEMS, 10), 1, "CPU")
    with pytest.raises(UserError, match="part 0, 10 recordings, ended its replica 4 times"):
        list(found)


def test_what_a_replica_refuses_is_the_error(cluster):
    with pytest.raises(UserError, match="^no such model$"):
        list(answered(Doubling(refused="no such model"), in_parts(ITEMS, 10), 1, "CPU"))


def osum(*words, **how) -> subprocess.Popen:
    command = [sys.executable, "-m", "mindspore_osum", *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **how)


def test_a_killed_driver_and_a_killed_replica(tmp_path):
    """The command is killed when a part is done and goes on; then, anew, a replica is killed."""
    manifest = make(tmp_path, 48)
    words = ["infer", "--manifest", manifest, "--output"]
    assert osum(*words, tmp_path / "plain.jsonl").wait() == 0
    out, parts = tmp_path / "ray.jsonl", tmp_path / "ray.jsonl.parts"
    ray = ["--engine", "ray", "--replicas", 1]
    first = osum(*words, out, *ray)
    while first.poll() is None and not list(parts.glob("[0-9]*.jsonl")):
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    done = {path.name: path.stat().st_mtime_ns for path in parts.glob("[0-9]*.jsonl")}
    assert done and not out.exists()
    refused = osum(*words, out, *ray)
    assert "holds the parts of a job that was stopped" in refused.communicate()[1] and refused.returncode == 1
    again = osum(*words, out, *ray, "--resume")
    said = again.communicate()[1]
    assert again.returncode == 0 and "of 6 parts are there already" in said and "Traceback" not in said
    assert lines_of(out) == lines_of(tmp_path / "plain.jsonl") and not parts.exists()


def test_a_killed_replica_of_the_model(tmp_path):
    command = [ROOT / "scripts" / "ray_bulk.py", "--count", "60", "--kill", "--output", tmp_path]
    done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["equal"] and "a replica was lost" in done.stderr


RAY = ["--engine", "ray", "--replicas", 1, "--batch-size", 2]


def measured_apart(value):
    """Values without what is measured anew."""
    if isinstance(value, dict):
        clocks = ("rtf", "compute_seconds", "speed")
        return {name: measured_apart(one) for name, one in value.items() if name not in clocks}
    return [measured_apart(one) for one in value] if isinstance(value, list) else value


def read(path):
    """A file of JSON lines in the order of their text, one of JSON, or any other."""
    text = path.read_text("utf-8")
    if path.suffix == ".jsonl":
        return sorted((measured_apart(json.loads(line)) for line in text.splitlines()), key=str)
    return measured_apart(json.loads(text)) if path.suffix == ".json" else text


@pytest.mark.parametrize(
    ("verb", "names"),
    [
        (["annotate", "--tasks", "asr,gender", "--output", "{}.jsonl"], ["{}.jsonl"]),
        (["transcribe", "--format", "srt,json", "--output", "{}"], ["{}/*.srt", "{}/*.json"]),
        (["eval", "--no-plots", "--output", "{}"], ["{}/predictions.jsonl", "{}/metrics.json"]),
    ],
)
def test_other_verbs_write_what_they_write_without_ray(verb, names, tmp_path):
    manifest = make(tmp_path, 6)
    heard = ["--manifest", manifest] if verb[0] == "eval" else [tmp_path / "recordings"]
    found = []
    for name, options in (("plain", ["--batch-size", 2]), ("ray", RAY)):
        words = [word.format(tmp_path / name) for word in verb]
        assert osum(*words, *heard, *options, stdout=subprocess.DEVNULL).wait() == 0
        files = sorted(path for pattern in names for path in tmp_path.glob(pattern.format(name)))
        found.append([read(path) for path in files])
    assert found[0] == found[1] and all(found[0])
