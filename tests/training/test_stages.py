"""Three stages in a row on a small model: what learns, what is measured, skipping and exact resuming."""

import contextlib
import json
import shutil

import numpy as np
import pytest

pytest.importorskip("mindformers", reason="needs mindformers")

from mindspore_osum import cli  # noqa: E402
from mindspore_osum.data.batches.loader import Loader  # noqa: E402
from mindspore_osum.training.config import job_from  # noqa: E402
from mindspore_osum.training.mindformers_job import yaml_text  # noqa: E402
from mindspore_osum.training.run import run_job  # noqa: E402
from mindspore_osum.weights_io import open_weights  # noqa: E402
from tests.training.tones import add_texts, make_world, random_words, small_job  # noqa: E402

STEPS = 5  # two steps make an epoch
LORA = {"rank": 2, "alpha": 4.0, "dropout": 0.2}


def stage_jobs(world, out) -> list[dict]:
    """The jobs of the three stages."""

    def sources(*names):
        return [{"name": n, "path": str(world / f"{n}.jsonl")} for n in names]

    every = {"steps": STEPS, "save_every": 1, "keep_last": 9}
    first = small_job(
        world,
        out / "1",
        **every,
        learn=["adapter", "lora"],
        ctc={"weight": 0.3},
        data={"train": sources("words", "qa"), "requests": "tag"},
        spec_augment={"time_masks": 1, "time_max": 5},
    )
    first["model"]["overrides"] = {**first["model"]["overrides"], "lora": LORA}
    second = small_job(
        world,
        out / "2",
        **every,
        learn=["lora"],
        batch={"seconds": [], "text_tokens": 80},
        data={"train": sources("intent"), "valid": sources("intent")},
        accumulation=2,
    )
    second["batch"]["size"] = 2
    third = small_job(
        world,
        out / "3",
        **every,
        learn=["encoder", "adapter", "lora"],
        data={"train": sources("words", "intent"), "requests": "natural"},
        batch={"text_tokens": 110},
        spec_augment={"freq_masks": 1},
    )
    for job, before in ((second, first), (third, second)):
        job["model"] = {"start": f"{before['output_dir']}/model"}
    return [first, second, third]


class Stages:
    """The jobs, their files, and what the first run of all of them said."""

    def __init__(self, folder):
        self.world = make_world(folder / "world", random_words(6))
        add_texts(self.world)
        self.jobs = stage_jobs(self.world, folder)
        self.files = [str(folder / f"stage{i}.yaml") for i in (1, 2, 3)]
        for file, job in zip(self.files, self.jobs, strict=True):
            with open(file, "w", encoding="utf-8") as f:
                f.write(yaml_text(job))

    def run(self) -> int:
        return cli.main(["train", "--config", *self.files])


@contextlib.contextmanager
def watched():
    """A list that gets (step, utterance keys) of every training batch made meanwhile."""
    seen, real = [], Loader.micro_batch

    def micro_batch(self, step, micro):
        if self.augment:  # validation has none
            seen.append((step, self.keys(step)))
        return real(self, step, micro)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loader, "micro_batch", micro_batch)
        yield seen


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    stages = Stages(tmp_path_factory.mktemp("stages"))
    with watched() as seen:
        assert stages.run() == 0
    lengths = [STEPS * job.get("accumulation", 1) for job in stages.jobs]
    assert len(seen) == sum(lengths)
    stages.seen = [seen[sum(lengths[:i]) : sum(lengths[: i + 1])] for i in range(3)]
    return stages


def arrays(path) -> dict[str, np.ndarray]:
    with open_weights(path) as weights:
        return {name: np.array(weights.read(name)) for name in weights.infos}


def metrics(out) -> list[dict]:
    with open(f"{out}/metrics.jsonl", encoding="utf-8") as file:
        return list(map(json.loads, file))


def state(out, step):
    return arrays(f"{out}/checkpoints/step_{step:06d}/state.safetensors")


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)


def test_each_stage_changes_its_parts_alone(stages):
    models = [arrays(f"{job['output_dir']}/model") for job in stages.jobs]
    second = {n for n in models[0] if not np.array_equal(models[0][n], models[1][n])}
    assert second == {n for n in models[0] if "lora_" in n}
    third = {n for n in models[0] if not np.array_equal(models[1][n], models[2][n])}
    assert any(n.startswith("encoder.") for n in third) and any(n.startswith("adapter.") for n in third)
    assert not any(n.startswith("decoder.") and "lora_" not in n for n in third)


def test_both_spans_are_measured(stages):
    first, second, third = (metrics(job["output_dir"]) for job in stages.jobs)
    assert all(r["intent_loss"] > 0 and r["content_loss"] > 0 for r in first + third)
    steps = [r for r in second if "loss" in r]
    assert all(r["intent_loss"] == pytest.approx(r["loss"], rel=1e-5) for r in steps)  # all of it is intent
    valid = [r for r in second if "valid_ce" in r]
    assert len(valid) == STEPS
    assert all(r["valid_intent_loss"] == pytest.approx(r["valid_ce"], rel=1e-5) for r in valid)
    assert not any("content_loss" in key for r in second for key in r)
    for r in third:  # the token mean lies between the means of the spans
        assert min(r["intent_loss"], r["content_loss"]) <= r["ce"] <= max(r["intent_loss"], r["content_loss"])


def test_finished_stages_are_skipped_and_a_lost_model_comes_back(stages, capfd):
    model = f"{stages.jobs[1]['output_dir']}/model"
    before = arrays(model)
    shutil.rmtree(model)
    assert stages.run() == 0
    said = capfd.readouterr().err
    assert said.count(f"trained to step {STEPS} already") == 3 and said.count("the model: ") == 1
    assert "compiling" not in said and same(arrays(model), before)


@pytest.mark.parametrize(
    ("stage", "k"),
    [
        (0, 1),
        (1, 3),
        (2, 1),
        (2, 3),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((0, 3), (1, 1))),
    ],
)
def test_every_stage_resumes_exactly(stages, tmp_path, stage, k):
    """A run that stopped after step k, in the first or second epoch, goes on as if it had not."""
    job = stages.jobs[stage]
    straight, out = job["output_dir"], tmp_path / "resumed"
    shutil.copytree(f"{straight}/checkpoints/step_{k:06d}", out / f"checkpoints/step_{k:06d}")
    shutil.copy(f"{straight}/metrics.jsonl", out)  # as after a crash: lines beyond the checkpoint
    again = {**job, "output_dir": str(out), "data": {**job["data"], "valid": []}}
    with watched() as seen:
        assert run_job(job_from(again, "job")) == 0
    assert seen == [batch for batch in stages.seen[stage] if batch[0] >= k]
    exact = ("step", "epoch", "loss", "ce", "ctc", "intent_loss", "content_loss", "lr", "grad_norm")
    numbers = [[[r.get(name) for name in exact] for r in metrics(o) if "loss" in r] for o in (straight, out)]
    assert numbers[0] == numbers[1] and len(numbers[1]) == STEPS
    assert same(state(straight, STEPS), state(out, STEPS))
    assert same(arrays(f"{straight}/model"), arrays(out / "model"))


def test_a_stage_is_not_resumed_on_other_weights(stages, tmp_path, capsys):
    first, second = tmp_path / "1", tmp_path / "2"
    shutil.copytree(stages.jobs[0]["output_dir"], first)
    shutil.copytree(stages.jobs[1]["output_dir"], second)
    job = {**stages.jobs[1], "output_dir": str(second), "model": {"start": str(first / "model")}}
    assert run_job(job_from(job, "job")) == 0  # a copy of the start is the same start
    shutil.copytree(f"{stages.jobs[2]['output_dir']}/model", first / "model", dirs_exist_ok=True)
    (tmp_path / "job.yaml").write_text(yaml_text(job), "utf-8")
    assert cli.main(["train", "--config", str(tmp_path / "job.yaml")]) == 1
    assert "the job has changed since, start_weights was" in capsys.readouterr().err
