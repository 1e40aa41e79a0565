"""Every job in configs/ is read, and run for a step: its own settings, a small model, data of ours."""

from pathlib import Path

import pytest

from mindspore_osum.config import merge
from mindspore_osum.training.config import read_job, to_dict
from tests.training.tones import SMALL_MODEL, make_world, random_words

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
JOBS = sorted(CONFIGS.glob("*/*.yaml"))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"), random_words(6))


@pytest.mark.parametrize("path", JOBS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_job_trains_a_step(path, world, tmp_path):
    from mindspore_osum.training.run import run_job

    cfg = read_job(str(path))
    lora = {"lora": {"rank": 2 if "lora" in cfg.learn else 0}}
    here = [{"name": "words", "path": str(world / "words.jsonl")}]
    small = {
        "output_dir": str(tmp_path / "run"), "device": "CPU", "context": {}, "steps": 1, "epochs": 0,
        "model": {"start": "tiny"}, "tokenizer": str(world / "tokenizer.model"),
        "data": {"train": here, "valid": here}, "batch": {"size": 2, "seconds": [0.64], "text_tokens": 200},
    }
    job = merge(to_dict(cfg), small)
    job["model"]["overrides"] = {**SMALL_MODEL, **lora}
    assert run_job(read_job(str(path), job)) == 0
    assert (tmp_path / "run" / "model" / "config.json").is_file()


def test_there_is_a_job_for_each_model():
    assert {p.parent.name for p in JOBS} >= {"tiny", "osum_pangu_7b"}
