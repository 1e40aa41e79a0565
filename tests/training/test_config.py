import re
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from mindspore_osum.cli import main
from mindspore_osum.config import parse_overrides
from mindspore_osum.errors import UserError
from mindspore_osum.systems import registry
from mindspore_osum.systems.base import System
from mindspore_osum.systems.job import JobRules
from mindspore_osum.training.config import (
    TrainConfig,
    job_from,
    own_sections,
    read_job,
    read_stages,
    to_dict,
)

JOB = {
    "output_dir": "out",
    "model": {"start": "tiny"},
    "tokenizer": "t.model",
    "steps": 5,
    "data": {"train": [{"name": "a", "path": "a.jsonl"}]},
}


def job(**over) -> TrainConfig:
    return job_from({**JOB, **over}, "job")


def test_published_defaults():
    cfg = job()
    assert (cfg.optimizer.lr, cfg.optimizer.betas, cfg.optimizer.eps) == (5e-4, [0.9, 0.99], 1e-6)
    assert (cfg.optimizer.weight_decay, cfg.clip_norm, cfg.seed) == (0.01, 5.0, 777)
    assert cfg.schedule.warmup_steps == 2000 and cfg.schedule.kind == "inverse_sqrt"
    assert vars(cfg.spec_augment) == {
        "time_masks": 2,
        "time_max": 50,
        "freq_masks": 2,
        "freq_max": 10,
        "subs": 3,
        "sub_max": 30,
    }
    assert cfg.learn == ["encoder", "adapter", "lora"] and cfg.ctc.weight == 0
    assert job(**to_dict(cfg)) == cfg


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ({"stpes": 3}, "unknown key 'stpes'; did you mean 'steps'"),
        ({"optimizer": {"lr": "fast"}}, "optimizer.lr: expected a number"),
        ({"learn": ["encodr"]}, "learn: 'encodr' is unknown; did you mean 'encoder'"),
        ({"learn": []}, "learn: names no part"),
        ({"steps": 0}, "steps, epochs: give exactly one"),
        ({"epochs": 1.0}, "steps, epochs: give exactly one"),
        (
            {"schedule": {"kind": "inverse"}},
            "schedule.kind: 'inverse' is unknown; did you mean 'inverse_sqrt'",
        ),
        ({"schedule": {"warmup_steps": 0}}, "schedule.warmup_steps: 0 must be at least 1"),
        ({"batch": {"seconds": [3.0, 2.0]}}, "batch.seconds"),
        ({"batch": {"seconds": [0.0]}}, "batch.seconds"),
        ({"batch": {"size": 0}}, "batch.size: 0"),
        ({"max_bad_steps": 0}, "max_bad_steps: 0 must be at least 1"),
        ({"optimizer": {"lr": 0}}, "optimizer.lr: 0.0 must be above 0"),
        ({"optimizer": {"betas": [0.9]}}, "optimizer.betas"),
        ({"optimizer": {"lr_of": {"encoder": "fast"}}}, "optimizer.lr_of.encoder: expected a number"),
        ({"optimizer": {"lr_of": {1: 1e-4}}}, "optimizer.lr_of: expected str, found 1"),
        ({"optimizer": {"lr_of": {"encoder": 0}}}, "optimizer.lr_of.encoder: 0.0 must be above 0"),
        (
            {"optimizer": {"lr_of": {"decoder": 1e-4}}},
            "optimizer.lr_of: 'decoder' is no part that learns; did you mean 'encoder'? (learn), or cells",
        ),
        ({"clip_norm": -1}, "clip_norm"),
        ({"device": "GPU"}, "device: 'GPU'"),
        ({"ctc": {"at": "decoder"}}, "ctc.at"),
        ({"loss": {"intent": -1}}, "loss.intent: -1.0 must not be negative"),
        ({"loss": {"intent": 0, "content": 0}}, "loss, ctc, classify: all weights are 0"),
        ({"loss": {"intend": 1}}, "loss: unknown key 'intend'; did you mean 'intent'"),
        ({"ctc": {"only": True}}, "ctc.only"),
        ({"data": {"train": []}}, "data.train: names no manifest"),
        ({"data": {"train": [{"name": "a", "path": "b", "weight": 0}]}}, "weight 0.0 of 'a'"),
        (
            {"data": {**JOB["data"], "valid": [{"name": "b", "path": "b", "weight": -0.5}]}},
            "data.valid: weight -0.5 of 'b' must be above 0",
        ),
        (
            {"data": {"train": [{"name": "a", "path": "b", "weight": float("inf")}]}},
            "data.train[0].weight: inf must be a finite number",
        ),
        (
            {"data": {**JOB["data"], "other_requests": 1.5}},
            "data.other_requests: 1.5 is a share, from 0 to 1",
        ),
        ({"batch": {"seconds": [2.0, float("inf")]}}, "batch.seconds[1]: inf must be a finite number"),
        ({"optimizer": {"lr": float("nan")}}, "optimizer.lr: nan must be a finite number"),
        ({"steps": 0, "epochs": float("inf")}, "epochs: inf must be a finite number"),
        (
            {"ctc": {"weight": 0.3, "at": "adapter", "aligned": 0.3}, "wave_augment": {"speeds": [0.9, 1.0]}},
            "ctc.aligned: the times of words do not follow wave_augment.speeds",
        ),
        ({"data": {"train": [{"name": "a"}]}}, "missing key 'path'"),
        (
            {"parallel_config": {"data_paralel": 2}},
            "parallel_config: unknown key 'data_paralel'; did you mean 'data_parallel'",
        ),
        (
            {"parallel_config": {"pipeline_stage": "two"}},
            "parallel_config.pipeline_stage: 'two' must be a whole number of at least 1",
        ),
        (
            {"parallel": {"parallel_mode": 1}, "parallel_config": {"pipeline_stage": None}},
            "pipeline_stage: None",
        ),
        ({"parallel_config": {"micro_batch_num": 0}}, "parallel_config.micro_batch_num: 0 must be a whole"),
        ({"parallel_config": {"data_parallel": True}}, "parallel_config.data_parallel: True must be"),
        ({"parallel": {"parallel_mode": 2}}, "parallel.parallel_mode: 2 is not supported"),
        ({"parallel": {"parallel_mode": 1}, "ctc": {"weight": 0.3}}, "ctc.weight: cannot be used with"),
        ({"parallel": {"parallel_mode": 1, "full_batch": False}}, "parallel.full_batch: cannot be used with"),
        (
            {"parallel": {"parallel_mode": 1}, "parallel_config": {"pipeline_stage": 2}},
            "accumulation: 1 micro-batches do not fill 2 stages",
        ),
        (
            {"parallel": {"parallel_mode": 1}, "parallel_config": {"micro_batch_num": 4}, "accumulation": 2},
            "parallel_config.micro_batch_num: leave it out",
        ),
        ({"recompute_config": {"recompute": [1, 2]}}, "recompute_config.recompute: [1, 2] must be true"),
        ({"recompute_config": {"recompute_all": True}}, "recompute_config: unknown key"),
        ({"context": {"device": 1}}, "context: unknown key 'device'; did you mean 'device_id'"),
    ],
)
def test_mistakes_are_named(over, says):
    with pytest.raises(UserError) as caught:
        job(**over)
    text = str(caught.value)
    assert says in text and text.startswith("job: ") and "\n" not in text


def test_word_times_where_no_speed_changes():
    aligned = {"weight": 0.3, "at": "adapter", "aligned": 0.3}
    assert job(ctc=aligned, wave_augment={"volume_db": [-6.0, 3.0]}).ctc.aligned == 0.3
    assert job(ctc={"weight": 0.3}, wave_augment={"speeds": [0.9, 1.0]}).ctc.weight == 0.3


def test_strict_is_laid_on_every_stage(tmp_path, monkeypatch):
    jobs = []
    monkeypatch.setattr("mindspore_osum.training.run.run_job", lambda cfg, **how: jobs.append(cfg) or 0)
    files = [write_stage(tmp_path, number, "tiny") for number in (1, 2)]
    over = ["--set", "data.max_errors=3"]
    assert main(["train", "--config", *files, *over]) == 0 and not any(cfg.data.strict for cfg in jobs)
    assert main(["train", "--strict", "--config", *files, *over]) == 0
    assert [(cfg.data.strict, cfg.data.max_errors) for cfg in jobs[2:]] == [(True, 3)] * 2


def test_a_file_and_overrides(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(
        "output_dir: out\nmodel: {start: tiny}\ntokenizer: t\nsteps: 5\n"
        "data: {train: [{name: a, path: a}]}\noptimizer: {lr: 1e-3}\n"
    )
    cfg = read_job(str(path), parse_overrides(["optimizer.lr=2e-4", "data.cache=true", "steps=7"]))
    assert (cfg.optimizer.lr, cfg.data.cache, cfg.steps) == (2e-4, True, 7)
    with pytest.raises(UserError, match=f"{path}: unknown key 'optimiser'; did you mean 'optimizer'"):
        read_job(str(path), parse_overrides(["optimiser.lr=1"]))


def write_stage(folder, number, start, out=None):
    path = folder / f"{number}.yaml"
    path.write_text(
        f"output_dir: {folder}/{out or number}\nmodel: {{start: {start}}}\ntokenizer: t\n"
        "steps: 5\ndata: {train: [{name: a, path: a}]}\n",
        "utf-8",
    )
    return str(path)


def test_stages_start_from_what_earlier_ones_leave(tmp_path):
    first = write_stage(tmp_path, 1, "tiny")
    second = write_stage(tmp_path, 2, tmp_path / "1/model")
    stages = read_stages([first, second], {"optimizer": {"lr": 2e-4}})
    assert list(stages) == [first, second] and {cfg.optimizer.lr for cfg in stages.values()} == {2e-4}
    with pytest.raises(UserError, match="2.yaml: model.start: '.*/1/model' is no folder, no preset, and no"):
        read_stages([second, first])  # in the wrong order
    (tmp_path / "1/model").mkdir(parents=True)
    assert list(read_stages([second, first])) == [second, first]  # its start is there by now


def test_mistakes_in_later_stages_are_found_before_the_first_runs(tmp_path):
    first = write_stage(tmp_path, 1, "tiny")
    with pytest.raises(UserError, match="2.yaml: model.start: '.*/1/modle' .*; did you mean '.*/1/model'"):
        read_stages([first, write_stage(tmp_path, 2, tmp_path / "1/modle")])
    with pytest.raises(UserError, match=f"3.yaml: output_dir {tmp_path}/1 is that of {first} too"):
        read_stages([first, write_stage(tmp_path, 3, "tiny", out=1)])


@dataclass(frozen=True)
class Noise:
    level: float = 0.5


@dataclass(frozen=True)
class ToySections:
    learn: list[str] = field(default_factory=lambda: ["ear"])
    noise: Noise = field(default_factory=Noise)


class ToyJob(JobRules):
    Sections, parts = ToySections, ("ear", "mouth")

    def check(self, job):
        if job.noise.level > 1:
            raise UserError(f"noise.level: {job.noise.level} is too loud")

    def unsharded(self, job):
        return ["noise.level"]


class Toy(System):
    model_type, job, presets = "toy", ToyJob(), {"toy_1": SimpleNamespace(model_type="toy")}


@pytest.fixture
def toy(monkeypatch):
    """A system with sections of its own beside the published ones."""
    known = registry.all_systems() | {"toy": Toy()}
    monkeypatch.setattr(registry, "all_systems", lambda: known)
    return {**JOB, "model": {"start": "toy_1"}}


def test_a_system_has_sections_of_its_own(toy):
    cfg = job_from({**toy, "noise": {"level": 0.25}}, "job")
    assert (cfg.noise.level, cfg.learn, cfg.system.model_type) == (0.25, ["ear"], "toy")
    assert own_sections(cfg) == {"noise": {"level": 0.25}} and job_from(to_dict(cfg), "job") == cfg
    for over, says in (
        ({"ctc": {"weight": 1.0}}, "unknown key 'ctc'"),
        ({"nois": {}}, "unknown key 'nois'; did you mean 'noise'"),
        ({"noise": {"level": 2.0}}, "job: noise.level: 2.0 is too loud"),
        ({"learn": ["lora"]}, "learn: 'lora' is unknown; known: ear, mouth"),
        ({"parallel": {"parallel_mode": 1}}, "noise.level: cannot be used with parallel.parallel_mode 1"),
    ):
        with pytest.raises(UserError, match=re.escape(says)):
            job_from({**toy, **over}, "job")


def test_a_stage_is_of_the_system_whose_model_it_starts_from(toy, tmp_path):
    first, second = (
        write_stage(tmp_path, n, start) for n, start in ((1, "toy_1"), (2, tmp_path / "1/model"))
    )
    stages = read_stages([first, second], {"noise": {"level": 0.75}})
    assert [cfg.noise.level for cfg in stages.values()] == [0.75, 0.75]
    (tmp_path / "1/model").mkdir(parents=True)
    (tmp_path / "1/model/config.json").write_text('{"model_type": "osum"}')
    with pytest.raises(UserError, match="unknown key 'noise'"):
        read_job(second, {"noise": {"level": 0.75}})
