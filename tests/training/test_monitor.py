"""Runs with LoRA and dropout, and with an utterance that gives NaN: resumed, skipped, stopped, drawn."""

import json
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.training import checkpoint, curves
from mindspore_osum.training.config import job_from
from mindspore_osum.training.run import run_job
from mindspore_osum.weights_io import open_weights
from tests.training.tones import make_world, model_folder, small_job

POISON = "h"  # the word of u2 has it


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"), ["abc", "de", "fg" + POISON, "ab"])


def run(job: dict) -> int:
    return run_job(job_from(job, "job"))


def lines(out) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def state(out, step: int) -> dict[str, np.ndarray]:
    with open_weights(out / "checkpoints" / f"step_{step:06d}" / checkpoint.STATE) as weights:
        return {name: np.array(weights.read(name)) for name in weights.infos}


def events(out) -> list[tuple[str, int, float]]:
    """(tag, step, value) of every scalar in the run's TensorBoard files, read record by record."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted((out / "tensorboard").iterdir()):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (size,) = struct.unpack_from("<Q", data, place)
            event = Event.FromString(data[place + 12 : place + 12 + size])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            place += 16 + size
    return found


def test_lora_alone_is_stored_and_its_dropout_resumed(world, tmp_path):
    """The released LoRA has dropout: its masks must go on where the run was stopped."""
    start = model_folder(world, tmp_path / "start")
    overrides = {"lora": {"rank": 2, "dropout": 0.3}, "encoder": {"dropout": 0.1}}
    job = {"model": {"start": start, "overrides": overrides}, "learn": ["lora"], "save_every": 2}

    def small(out: str, steps: int) -> dict:
        return {**small_job(world, tmp_path / out, steps=steps), **job}

    assert run(small("straight", 4)) == 0
    assert run(small("parts", 2)) == 0 and run(small("parts", 4)) == 0
    a, b = state(tmp_path / "straight", 4), state(tmp_path / "parts", 4)
    assert a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)
    assert [r["loss"] for r in lines(tmp_path / "straight")] == [r["loss"] for r in lines(tmp_path / "parts")]
    kept = {name for name in a if "lora_" not in name}
    assert kept == {"global_step", "scale_sense"}
    about = checkpoint.read_about(tmp_path / "parts" / "checkpoints" / "step_000004")
    assert about["start"] == start
    model_folder(world, tmp_path / "start", POISON)
    with pytest.raises(UserError, match="the job has changed since, start_weights was"):
        run(small("parts", 6))


def poisoned_job(world, out, start: str, **over) -> dict:
    job = small_job(world, out, batch={"size": 1}, learn=["adapter"], save_every=1, keep_last=20, **over)
    job["model"] = {"start": start, "overrides": {}}
    return job


@pytest.fixture
def unchecked(monkeypatch):
    """Weights that are not numbers are loaded: what makes a loss so in a run is found while it runs."""
    monkeypatch.setattr("mindspore_osum.parameters.check_finite", lambda raw, *about: raw)


def test_a_poisoned_utterance_is_skipped_counted_and_shown(world, tmp_path, capfd, unchecked):
    pytest.importorskip("matplotlib", reason="needs matplotlib (extra plots)")
    out = tmp_path / "run"
    start = model_folder(world, tmp_path / "start", POISON)
    assert run(poisoned_job(world, out, start, steps=8)) == 0
    skipped = [r for r in lines(out) if "skipped_steps" in r]
    assert [(r["skipped_steps"], r["reason"], r["utterances"]) for r in skipped] == [
        (1, "the loss is nan", ["u2"]),
        (2, "the loss is nan", ["u2"]),
    ]
    bad = {r["step"] for r in skipped}
    good = {r["step"]: r["loss"] for r in lines(out) if "loss" in r}
    assert bad | good.keys() == set(range(1, 9)) and np.isfinite(list(good.values())).all()
    assert {step for step, _ in checkpoint.found(out / "checkpoints")} == (good.keys() | {8})
    assert state(out, 8)["global_step"].item() == 6  # the optimizer's own count: skipped steps took none
    assert all(np.isfinite(values).all() for values in state(out, 8).values())
    out_, told = capfd.readouterr()
    assert out_ == ""  # of MindSpore and MindFormers, too
    assert f"step {min(bad)}: the loss is nan; nothing of this step was applied, 1 of 3 in a row" in told
    scalars = events(out)
    assert {(step, value) for tag, step, value in scalars if tag == "skipped_steps"} == {
        (r["step"], r["skipped_steps"]) for r in skipped
    }
    assert {step: value for tag, step, value in scalars if tag == "loss"} == pytest.approx(good)
    assert {"lr", "grad_norm", "ce"} <= {tag for tag, _, _ in scalars}
    assert (out / curves.CURVES).read_bytes().startswith(b"\x89PNG")


def test_so_many_bad_steps_in_a_row_stop_the_run(world, tmp_path, unchecked):
    out = tmp_path / "run"
    start = model_folder(world, tmp_path / "start", POISON)
    with pytest.raises(
        UserError, match="the loss is nan; nothing of this step was applied, 1 of 1 in a row.*Utterances: u2$"
    ) as caught:
        run(poisoned_job(world, out, start, steps=8, max_bad_steps=1))
    bad = lines(out)[-1]
    assert "\n" not in str(caught.value) and f"step {bad['step']}:" in str(caught.value)
    kept = [step for step, _ in checkpoint.found(out / "checkpoints")]
    assert kept == list(range(1, bad["step"])) and not (out / "model").exists()


def test_a_report_has_the_numbers_of_the_last_step_that_was_applied(tmp_path, monkeypatch):
    """The step of the report itself may be one that was skipped."""
    from mindspore_osum.training.monitor import RunMonitor

    records = []
    cfg = job_from(small_job(tmp_path, tmp_path, steps=9, log_every=2), "job")
    loader = SimpleNamespace(
        accumulation=1,
        counts=lambda _: {"utterances_B": 1, "targets_B": 2},
        keys=lambda _: ["u"],
        position=lambda step: (0, step),
    )
    run = SimpleNamespace(
        cfg=cfg,
        folder=tmp_path,
        loader=loader,
        valid=None,
        first=0,
        last=9,
        resume=None,
        fingerprint={},
        rank=0,
        ranks=1,
    )
    monitor = RunMonitor(run)
    monitor.metrics = SimpleNamespace(write=records.append, skip=lambda *_: None)
    monitor.network = SimpleNamespace(shown=("a", "b"), over=("targets_B", ""), counted=("b",))
    for loss, bad, rate, norm in ((3.0, False, 0.1, 5.0), (2.0, True, 0.2, np.nan)):
        values = loss, bad, 1.0, rate, norm, np.array([0.5, 6.0]), np.array([4.0])
        outputs = [SimpleNamespace(asnumpy=lambda value=value: np.asarray(value)) for value in values]
        monitor.on_train_step_end(
            SimpleNamespace(original_args=lambda outputs=outputs: SimpleNamespace(net_outputs=outputs))
        )
    (record,) = records
    assert (record["step"], record["loss"], record["lr"], record["grad_norm"]) == (2, 3.0, 0.1, 5.0)
    assert (record["a"], record["b"]) == (0.5, 1.5)  # a mean, and a sum over its count
    json.dumps(record, allow_nan=False)


def validating(tmp_path, rank: int, ranks: int, sum_over_ranks=None):
    """A monitor of a process and the batches that it was asked for: five of validation, with known losses."""
    from mindspore_osum.training.monitor import RunMonitor

    asked, known = [], np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    columns = lambda step, micro: {"x": np.array([step], np.int32)}  # noqa: E731
    counts = lambda step: {"utterances_B": 1, "targets_B": 2 + step}  # noqa: E731
    run = SimpleNamespace(
        cfg=job_from(small_job(tmp_path, tmp_path), "job"),
        folder=tmp_path,
        loader=None,
        valid=SimpleNamespace(steps_per_epoch=5, micro_batch=columns, counts=counts),
        first=0,
        last=9,
        resume=None,
        fingerprint={},
        rank=rank,
        ranks=1,
    )
    monitor = RunMonitor(run)
    monitor.ranks, monitor.sum_over_ranks = ranks, sum_over_ranks

    def evaluate(x):
        step = int(x.asnumpy()[0])
        asked.append(step)
        values = known[step, :3], known[step, 3:]
        return [SimpleNamespace(asnumpy=lambda value=value: value) for value in values]

    evaluate.set_train = lambda on: None
    monitor.evaluation, monitor.records = evaluate, []
    monitor.metrics = SimpleNamespace(write=monitor.records.append)
    monitor.network = SimpleNamespace(
        shown=("a", "b", "c"),
        over=("targets_B", "utterances_B", ""),
        counted=("c",),
        set_train=lambda on: None,
    )
    return monitor, asked


def test_processes_take_turns_at_validation_and_report_what_one_alone_does(tmp_path):
    alone, asked = validating(tmp_path, 0, 1)
    alone._validate()
    assert asked == [0, 1, 2, 3, 4]
    exchanged, turns = [], []

    def total(mine):
        exchanged.append(mine.asnumpy())
        return SimpleNamespace(asnumpy=lambda: np.sum(exchanged, 0))

    for rank in (1, 2, 0):  # the first process is the last: it gets the sum
        monitor, asked = validating(tmp_path, rank, 3, total)
        monitor._validate()
        turns.append(asked)
    assert turns == [[1, 4], [2], [0, 3]] and len(exchanged) == 3
    assert monitor.records == alone.records != []


def test_other_processes_look_for_a_file_while_the_first_one_saves(tmp_path, monkeypatch):
    """And not in a collective, which would end after half an hour; also when the disk is full."""
    problem = UserError("no space")

    def save(*args):
        time.sleep(0.2)
        raise problem

    monkeypatch.setattr(checkpoint, "save", save)
    monitors, met = [validating(tmp_path, rank, 2)[0] for rank in (0, 1)], []
    for monitor in monitors:
        monitor._meet = lambda failed, monitor=monitor: met.append(monitor.rank) or 1
    monitors[0]._saves_file().touch()

    def refused(monitor):
        with pytest.raises(UserError) as caught:
            monitor._save_alone()
        return str(caught.value)

    with ThreadPoolExecutor() as pool:
        said = list(pool.map(refused, monitors))
    assert said[0] == "no space" and "the first process could not write the checkpoint" in said[1]
    assert sorted(met) == [0, 1]
    monitors[0].on_train_end(None)
    assert not list(tmp_path.glob(".saves*"))


def test_curves_take_what_the_file_has(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib (extra plots)")
    metrics = tmp_path / "metrics.jsonl"
    records = [
        {"step": 1, "epoch": 0, "loss": 3.0, "any_new_loss": 2.0, "lr": 1e-3, "seconds": 2.5},
        {"step": 2, "skipped_steps": 1, "reason": "the loss is nan", "utterances": ["u"]},
        {"step": 3, "epoch": 0, "loss": 2.0, "lr": 2e-3, "done": True},
        {"step": 3, "valid_ce": 1.5},
    ]
    metrics.write_text("".join(json.dumps(r) + "\n" for r in records) + '{"step": 4, "lo')
    series, skipped = curves.read(metrics)
    assert skipped == [2] and "done" not in series and "reason" not in series
    assert series["loss"] == [(1, 3.0), (3, 2.0)] and series["any_new_loss"] == [(1, 2.0)]
    path = curves.draw(metrics)
    first = path.read_bytes()
    assert path == tmp_path / "curves.png" and first.startswith(b"\x89PNG")
    metrics.write_text(json.dumps({"step": 1, "lr": 1.0}) + "\n")
    assert curves.draw(metrics).read_bytes() != first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["curves.png", "metrics.jsonl"]
