"""`osum train` with a model that is sharded: goes on under another layout, ends with a whole model folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mindspore_osum.cli import main
from mindspore_osum.config import merge
from mindspore_osum.training import checkpoint
from mindspore_osum.training.mindformers_job import yaml_text
from mindspore_osum.weights_io import open_weights
from tests.training.tones import make_world, random_words, small_job

ROOT = Path(__file__).resolve().parents[2]
HEADS = {"model": {"overrides": {"decoder": {"n_kv_heads": 2, "n_layers": 2}}}}


def job(world: Path, out: Path, **over) -> dict:
    """Four steps of eight rows; Adam's eps keeps rounding of gradients near 0 small."""
    base = small_job(world, out, steps=4, save_every=2, batch={"size": 8}, optimizer={"lr": 1e-3, "eps": 1.0})
    return merge(merge(base, HEADS), over)


def cut(size: int, accumulation: int, **parts) -> dict:
    return {
        "batch": {"size": size},
        "accumulation": accumulation,
        "parallel": {"parallel_mode": 1},
        "parallel_config": parts,
    }


def write(path: Path, values: dict) -> Path:
    path.write_text(yaml_text(values), "utf-8")
    return path


def alone(path: Path) -> None:
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "scripts/train.py", "--config", str(path)],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def losses(out: Path) -> list[float]:
    return [record["loss"] for record in map(json.loads, (out / "metrics.jsonl").read_text().splitlines())]


def weights(folder: Path) -> dict[str, np.ndarray]:
    with open_weights(folder) as opened:
        return {name: np.array(opened.read(name)) for name in opened.infos}


@pytest.mark.slow  # five processes that import, and compile the whole job
def test_a_run_goes_on_under_another_layout(launch, tmp_path):
    world = make_world(tmp_path / "world", random_words(16))
    alone(write(tmp_path / "one.yaml", job(world, tmp_path / "one")))
    out = tmp_path / "two"
    columns = write(tmp_path / "columns.yaml", job(world, out, steps=2, **cut(4, 2, model_parallel=2)))
    stages = job(world, out, steps=3, **cut(4, 2, pipeline_stage=2))
    stages = write(tmp_path / "stages.yaml", merge(stages, {"data": {"valid": []}}))
    rows = write(tmp_path / "rows.yaml", job(world, out, **cut(4, 1, data_parallel=2)))
    launch(2, "tests/parallel/train.py", "--config", columns, logs=tmp_path / "columns")
    first = checkpoint.found(out / "checkpoints")[-1][1]
    assert sorted(path.name for path in first.glob("shard_*.safetensors")) == [
        "shard_00000.safetensors",
        "shard_00001.safetensors",
    ]
    assert main(["merge-checkpoint", str(out), str(tmp_path / "merged")]) == 0
    assert weights(tmp_path / "merged").keys() == weights(tmp_path / "one" / "model").keys()
    for name, values in weights(out / "model").items():
        np.testing.assert_array_equal(weights(tmp_path / "merged")[name], values, name)
    launch(2, "tests/parallel/train.py", "--config", stages, logs=tmp_path / "stages")
    launch(2, "tests/parallel/train.py", "--config", rows, logs=tmp_path / "rows")
    assert losses(out) == pytest.approx(losses(tmp_path / "one"), abs=1e-4)
    want = weights(tmp_path / "one" / "model")
    for name, values in weights(out / "model").items():
        assert np.abs(values - want[name]).max() < 1e-3, name


def test_a_job_for_other_devices_is_refused(tmp_path, capsys):
    world = make_world(tmp_path / "world", random_words(4))
    path = write(tmp_path / "job.yaml", job(world, tmp_path / "out", **cut(4, 1, data_parallel=2)))
    assert main(["train", "--config", str(path)]) == 1
    assert "data_parallel 2 x model_parallel 1" in capsys.readouterr().err
