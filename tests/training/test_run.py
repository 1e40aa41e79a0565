"""Whole runs through mindformers.Trainer on a small model: what they learn, resume, refuse and leave."""

import json
import os
import shutil
import signal
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from mindspore_osum.cli import main
from mindspore_osum.config import merge
from mindspore_osum.data.formats.store import Utterances
from mindspore_osum.errors import UserError
from mindspore_osum.folder import load_folder
from mindspore_osum.systems.registry import preset
from mindspore_osum.training import checkpoint
from mindspore_osum.training.config import job_from
from mindspore_osum.training.run import check_fingerprint, job_fingerprint, run_job
from mindspore_osum.weights_io import open_weights
from tests.training.tones import STORED_STEPS, make_world, model_folder, small_job, stored_job


@pytest.fixture
def world(stored_run):
    return stored_run / "world"


def run(job: dict) -> int:
    return run_job(job_from(job, "job"))


def losses(out) -> list[float]:
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if "loss" in line]


def arrays(folder) -> dict[str, np.ndarray]:
    with open_weights(folder) as weights:
        return {name: np.array(weights.read(name)) for name in weights.infos}


def state(out, step: int) -> dict[str, np.ndarray]:
    return arrays(out / "checkpoints" / f"step_{step:06d}" / "state.safetensors")


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)


def test_it_learns_eight_words_and_leaves_a_model(stored_run):
    world, out = stored_run / "world", stored_run / "run"
    curve = losses(out)
    assert len(curve) == 120 and curve[0] > 5
    ce = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert np.mean([r["ce"] for r in ce if "ce" in r][-5:]) < 0.15 * ce[0]["ce"]
    assert np.mean([r["ctc"] for r in ce if "ctc" in r][-5:]) < 0.5 * ce[0]["ctc"]
    assert ce[-1]["valid_ce"] == pytest.approx(np.mean([r["ce"] for r in ce if "ce" in r][-2:]), rel=0.5)
    model = load_folder(out / "model")
    trained = state(out, 120)
    for name, param in model.parameters_and_names():
        assert np.array_equal(param.asnumpy(), trained[f"model.{name}"]), name
    assert not any(name.startswith("ctc") for name in arrays(out / "model"))
    assert (out / "model" / "tokenizer.model").read_bytes() == (world / "tokenizer.model").read_bytes()
    assert (out / "config.yaml").is_file() and (out / "mindformers.yaml").is_file()


def test_resuming_is_exact(stored_run, tmp_path, capfd):
    """With augmentation: from the last checkpoint but one, as after a crash, to the same end."""
    straight, parts = stored_run / "run", tmp_path / "parts"
    shutil.copytree(straight / "checkpoints/step_000080", parts / "checkpoints/step_000080")
    shutil.copy(straight / "metrics.jsonl", parts)
    assert run(stored_job(stored_run / "world", parts)) == 0
    assert f"step {STORED_STEPS}/{STORED_STEPS}  loss" in capfd.readouterr().err
    assert losses(straight) == losses(parts) and len(losses(parts)) == STORED_STEPS
    assert same(state(straight, STORED_STEPS), state(parts, STORED_STEPS))
    assert same(arrays(straight / "model"), arrays(parts / "model"))


def test_a_named_step_goes_on(stored_run, tmp_path, capfd):
    """`osum train --from-step`: to the end of the straight run; later checkpoints are kept by other names."""
    straight, out = stored_run / "run", tmp_path / "again"
    shutil.copytree(straight, out)
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps(stored_job(stored_run / "world", out), default=str))  # JSON is YAML
    assert main(["train", "--config", str(job), "--from-step", "7"]) == 1
    assert f"no checkpoint of step 7; there are: 40, 80, {STORED_STEPS}" in capfd.readouterr().err
    assert main(["train", "--config", str(job), "--from-step", "40"]) == 0
    assert same(state(straight, STORED_STEPS), state(out, STORED_STEPS)) and losses(straight) == losses(out)
    assert (out / "checkpoints" / f"step_{STORED_STEPS:06d}.unused").is_dir()


def test_parts_learn_at_their_own_rate_and_others_keep_every_bit(world, tmp_path, capfd):
    start = model_folder(world, tmp_path / "start", lora={"rank": 2})
    rates = {"optimizer": {"lr": 3e-3, "lr_of": {"adapter": "3e-5", "decoder.model.layers.0.mlp": 3e-4}}}
    job = small_job(world, tmp_path / "run", steps=3, learn=["adapter", "lora"], **rates)
    assert run({**job, "model": {"start": start}}) == 0
    before, after = arrays(start), arrays(tmp_path / "run" / "model")
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {n for n in before if "lora_" in n or n.startswith(("adapter.", "speech_token_embed."))}
    assert not any(n.startswith("model.encoder") for n in state(tmp_path / "run", 3))
    peaks = {"adapter": 3e-5, "speech_token_embed": 3e-5, "decoder.model.layers.0.mlp": 3e-4, "decoder": 3e-3}
    moved = dict.fromkeys(peaks, 0.0)
    for name in changed:
        key = next(key for key in peaks if name.startswith(f"{key}."))
        moved[key] = max(moved[key], np.abs(before[name] - after[name]).max())
    # warm-up of 10 steps: 0.1, 0.2 and 0.3 of the peak, and a step of Adam moves by about its rate
    assert all(0.3 * peak < moved[key] < 0.7 * peak for key, peak in peaks.items()), moved
    said = capfd.readouterr().err
    assert "peaks of the learning rate: adapter 3e-05 (" in said and "all others 0.003 (" in said


def test_accumulated_micro_batches_equal_the_whole_batch(world, tmp_path):
    sgd_like = {"optimizer": {"lr": 1e-3, "eps": 1.0}, "ctc": {"weight": 0.3}, "steps": 3}
    whole = small_job(world, tmp_path / "whole", batch={"size": 8}, **sgd_like)
    parts = small_job(world, tmp_path / "parts", batch={"size": 2}, accumulation=4, **sgd_like)
    assert run(whole) == 0 and run(parts) == 0
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    a, b = arrays(tmp_path / "whole" / "model"), arrays(tmp_path / "parts" / "model")
    for name in a:
        assert np.abs(a[name] - b[name]).max() < 1e-6, name


# while a graph runs MindSpore turns SIGINT into SIGTERM
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, {143}), (signal.SIGINT, {130, 143})])
def test_a_signal_leaves_a_checkpoint(world, tmp_path, number, status):
    out = tmp_path / "run"
    job = small_job(world, out, steps=100000, ctc={"weight": 0.3})  # the graph of the stored run

    def send_when_running():
        while not (out / "metrics.jsonl").is_file() and not stop.wait(0.1):
            pass
        os.kill(os.getpid(), number)

    stop = threading.Event()
    before = signal.getsignal(number)
    thread = threading.Thread(target=send_when_running)
    thread.start()
    try:
        assert run(job) in status
    finally:
        stop.set()
        thread.join()
    assert signal.getsignal(number) is before
    ((step, path),) = checkpoint.found(out / "checkpoints")
    assert checkpoint.read_about(path)["step"] == step == len(losses(out))
    assert not (out / "model").exists()


def test_a_loss_that_is_not_finite_stops_and_names_the_utterances(world, tmp_path):
    out = tmp_path / "run"
    job = small_job(
        world,
        out,
        steps=50,
        optimizer={"lr": 1e18},
        schedule={"warmup_steps": 1},
        save_every=1,
        max_bad_steps=1,
    )
    with pytest.raises(UserError, match=r"step \d+: the (loss|gradient norm) is (nan|inf).*u\d") as caught:
        run(job)
    assert "\n" not in str(caught.value)
    ((step, path),) = checkpoint.found(out / "checkpoints")[-1:]
    assert f"step {step + 1}:" in str(caught.value)
    assert all(np.isfinite(v).all() for v in arrays(path / "state.safetensors").values())


def test_a_recording_that_vanishes_is_named(tmp_path, monkeypatch):
    from mindspore_osum.data.batches import batching

    broken = make_world(tmp_path / "world", ["abc", "de", "fgh", "ab"])
    job = small_job(broken, tmp_path / "run", steps=3, data={"strict": True})
    real = batching.features
    monkeypatch.setattr(
        batching,
        "features",
        lambda utt, *a: (os.path.exists(utt.wav) and os.remove(utt.wav), real(utt, *a))[1],
    )
    with pytest.raises(UserError, match=r"words.jsonl:\d+: .*\.wav: no such audio file"):
        run(job)


@pytest.fixture
def finished(stored_run, tmp_path):
    """A copy of the stored run: (its words, its job)."""
    shutil.copytree(stored_run / "world", tmp_path / "world")
    shutil.copytree(stored_run / "run", tmp_path / "run")
    return tmp_path / "world", stored_job(tmp_path / "world", tmp_path / "run")


def test_a_changed_job_is_not_resumed(finished):
    _, job = finished
    with pytest.raises(UserError, match="optimizer.lr was 0.003, is 0.001"):
        run(merge(job, {"steps": STORED_STEPS + 1, "optimizer": {"lr": 1e-3}}))
    with pytest.raises(UserError, match=r"lr_of was \[\], is \[\['encoder', 0.001\]\]"):
        run(merge(job, {"steps": STORED_STEPS + 1, "optimizer": {"lr_of": {"encoder": 1e-3}}}))
    with pytest.raises(UserError, match="no parameter that learns is in 'encoder.layer'"):
        run(merge(job, {"steps": STORED_STEPS + 1, "optimizer": {"lr_of": {"encoder.layer": 1e-3}}}))
    with pytest.raises(UserError, match="has checkpoints"):
        run_job(job_from(merge(job, {"steps": STORED_STEPS + 1}), "job"), fresh=True)
    assert run(merge(job, {"optimizer": {"lr": 3e-3}})) == 0  # nothing left to do


@pytest.mark.parametrize("kind", ["linear", "cosine", "inverse_sqrt"])
def test_another_length_is_another_schedule_where_it_ends_with_the_job(kind, tmp_path):
    """By the settings that a checkpoint keeps: the right length goes on, as do those of older versions."""

    (tmp_path / "tokenizer.model").write_bytes(b"pieces")
    loader = SimpleNamespace(ranks=1, corpus=SimpleNamespace(utterances=Utterances()))

    def settings(steps):
        job = merge(stored_job(tmp_path, tmp_path / "run"), {"schedule": {"kind": kind}, "steps": steps})
        return job_fingerprint(job_from(job, "job"), preset("tiny"), "", loader, 1, steps)

    before = settings(4)
    about = {"format": checkpoint.WITHOUT_DIGESTS, "step": 4, "fingerprint": before}
    (tmp_path / checkpoint.MARKER).write_text(json.dumps(about))
    check_fingerprint(tmp_path, settings(4))
    if kind == "inverse_sqrt":
        return check_fingerprint(tmp_path, settings(8))
    says = f"schedule.total_steps was 4, is 8: a {kind} schedule .* make it 4 steps again"
    with pytest.raises(UserError, match=says):
        check_fingerprint(tmp_path, settings(8))
    del before["schedule"]["total_steps"]
    (tmp_path / checkpoint.MARKER).write_text(json.dumps(about))
    check_fingerprint(tmp_path, settings(8))


def test_other_data_and_another_tokenizer_are_not_resumed(finished):
    """As many utterances, but other words; a tokenizer of the same size under the same name."""
    world, job = finished
    word = json.loads((world / "words.jsonl").read_text().splitlines()[0])["txt"].encode()
    other = (b"b" if word[:1] == b"a" else b"a") + word[1:]
    old, new = b'"txt": "%s"' % word, b'"txt": "%s"' % other
    for name, change, says in (
        ("words.jsonl", lambda data: data.replace(old, new, 1), "data_digest was"),
        ("tokenizer.model", lambda data: data + b"\xc2\x3e\x00", "tokenizer_digest was"),  # an unknown field
    ):
        before = (world / name).read_bytes()
        (world / name).write_bytes(change(before))
        with pytest.raises(UserError, match=f"the job has changed since, {says} .*; change it back"):
            run(job)
        (world / name).write_bytes(before)
    path = checkpoint.found(world.parent / "run/checkpoints")[-1][1] / checkpoint.MARKER
    about = json.loads(path.read_text())
    for name in ("data_digest", "data_lines", "tokenizer_digest"):
        assert about["fingerprint"].pop(name)
    del about["digest"], about["digests"]
    about["format"] = checkpoint.WITHOUT_DIGESTS
    path.write_text(json.dumps(about))  # of an older version
    (world / "words.jsonl").write_bytes((world / "words.jsonl").read_bytes().replace(old, new, 1))
    assert run(job) == 0
