"""Two data-parallel processes under msrun against one process with the same global batch."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mindspore_osum.training import checkpoint
from mindspore_osum.training.mindformers_job import yaml_text
from mindspore_osum.weights_io import open_weights
from tests.training.tones import make_world, random_words, small_job

ROOT = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start(folder: Path, jobs: list[dict], workers: int) -> subprocess.Popen:
    """scripts/train.py at work on stages, alone or by the launcher; what it says is in the file `said`."""
    files = [folder / f"stage{i}.yaml" for i in range(len(jobs))]
    for file, job in zip(files, jobs, strict=True):
        file.write_text(yaml_text(job), "utf-8")
    train = ["scripts/train.py", "--config", *map(str, files)]
    command = [sys.executable, *train]
    if workers > 1:
        command = ["bash", "scripts/msrun_launcher.sh", " ".join(train), str(workers), str(free_port())]
        command += [str(folder / "msrun")]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with open(folder / "said", "w") as said:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
            stdout=said,
            stderr=subprocess.STDOUT,
        )


def finish(process: subprocess.Popen, folder: Path, status: int = 0) -> None:
    """Wait for it, and see that it ended so."""
    try:
        assert process.wait(1800) == status, (folder / "said").read_text()[-4000:]
    finally:
        while process.poll() is None:  # the second time kills
            process.terminate()
            time.sleep(5)


def weights(out: Path) -> dict[str, np.ndarray]:
    with open_weights(out / "model") as opened:
        return {name: np.array(opened.read(name)) for name in opened.infos}


@pytest.mark.slow  # three processes that each import and compile: over a minute
def test_two_processes_equal_one_with_the_same_global_batch_in_every_stage(tmp_path):
    world = make_world(tmp_path / "world", random_words(13))
    for name, workers, size in (("one", 1, 8), ("two", 2, 4)):
        (tmp_path / name).mkdir()
        job = small_job(
            world,
            tmp_path / name / "run",
            steps=4,
            batch={"size": size},
            ctc={"weight": 0.3},
            data={"valid": [{"name": "words", "path": str(world / "words.jsonl")}]},
            optimizer={"lr": 1e-3, "eps": 1.0},
        )  # Adam would magnify rounding of gradients near 0
        after = {**job, "output_dir": str(tmp_path / name / "next"), "steps": 2, "learn": ["adapter"]}
        jobs = [job, {**after, "model": {"start": f"{job['output_dir']}/model"}}]
        finish(start(tmp_path / name, jobs, workers), tmp_path / name)
    for stage, steps in (("run", 4), ("next", 2)):
        one, two = tmp_path / "one" / stage, tmp_path / "two" / stage
        lines = [(out / "metrics.jsonl").read_text().splitlines() for out in (one, two)]
        records = [list(map(json.loads, found)) for found in lines]
        checked = [[r for r in found if "valid_ce" in r] for found in records]
        assert checked[1][0] == pytest.approx(checked[0][0], rel=1e-5) and len(checked[1]) == 1
        records = [[r for r in found if "loss" in r] for found in records]
        assert [r["step"] for r in records[1]] == list(range(1, steps + 1))
        for a, b in zip(*records, strict=True):
            for key in ("loss", "intent_loss", "content_loss"):
                assert b[key] == pytest.approx(a[key], rel=1e-5)
            assert b["grad_norm"] == pytest.approx(a["grad_norm"], rel=1e-4)
        a, b = weights(one), weights(two)
        for name in a:
            assert np.abs(a[name] - b[name]).max() < 1e-6, name
    logs = [(tmp_path / f"two/msrun/worker_{rank}.log").read_text() for rank in (0, 1)]
    digests = [line.split()[-1] for log in logs for line in log.splitlines() if "weights digest" in line]
    assert len(digests) == 4 and digests[:2] == digests[2:], logs[1][-2000:]  # two stages of each process


@pytest.mark.slow  # two processes that import and compile, twice, and MindSpore's scheduler takes time to end
def test_sigterm_leaves_a_checkpoint_of_two_processes_and_the_same_command_goes_on(tmp_path):
    job = small_job(make_world(tmp_path / "world", random_words(8)), tmp_path / "run", steps=100_000)
    process = start(tmp_path, [job], 2)
    until = time.monotonic() + 600
    while not (tmp_path / "run" / "metrics.jsonl").is_file() and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.5)
    process.terminate()
    finish(process, tmp_path, 143)
    ((step, path),) = checkpoint.found(tmp_path / "run" / "checkpoints")
    assert checkpoint.read_about(path)["step"] == step > 0 and not (tmp_path / "run" / "model").exists()
    finish(start(tmp_path, [{**job, "steps": step}], 2), tmp_path)  # nothing to train: the model alone
    assert "trained to step" in (tmp_path / "said").read_text() and weights(tmp_path / "run")
