"""Whole runs through mindformers.Trainer on a small model: what they learn, resume, refuse and leave."""

import json
import os
import signal
import threading

import numpy as np
import pytest

from mindspore_osum.config import from_dict
from mindspore_osum.errors import UserError
from mindspore_osum.folder import load_folder
from mindspore_osum.training import checkpoint
from mindspore_osum.training.config import TrainConfig
from mindspore_osum.training.run import run_job
from mindspore_osum.weights_io import open_weights
from tests.training.tones import make_world, random_words, small_job


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"), random_words(8))


def run(job: dict) -> int:
    return run_job(from_dict(TrainConfig, job, "job"))


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


def test_it_learns_eight_words_and_leaves_a_model(world, tmp_path, capfd):
    out = tmp_path / "run"
    valid = {"valid": [{"name": "again", "path": str(world / "words.jsonl")}]}
    assert run(small_job(world, out, steps=120, ctc={"weight": 0.3}, data=valid)) == 0
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
    printed = capfd.readouterr()
    assert "step 120/120  loss" in printed.err and printed.out == ""


def test_resuming_is_exact(world, tmp_path):
    extra = {"ctc": {"weight": 0.3}, "spec_augment": {"time_masks": 1, "time_max": 5, "freq_masks": 1}}
    straight, parts = tmp_path / "straight", tmp_path / "parts"
    assert run(small_job(world, straight, **extra)) == 0
    assert run(small_job(world, parts, steps=4, save_every=2, **extra)) == 0
    assert run(small_job(world, parts, steps=6, **extra)) == 0
    assert losses(straight) == losses(parts)
    assert same(state(straight, 6), state(parts, 6))
    assert same(arrays(straight / "model"), arrays(parts / "model"))


def test_parts_that_do_not_learn_keep_every_bit(world, tmp_path):
    lora = {"model": {"overrides": {"lora": {"rank": 2}}}}
    assert run(small_job(world, tmp_path / "a", steps=1, learn=["decoder"], **lora)) == 0
    start = {"model": {"start": str(tmp_path / "a" / "model"), "overrides": {}}, "seed": 99}
    job = small_job(world, tmp_path / "b", steps=3, learn=["adapter", "lora"])
    job["model"] = start["model"]
    assert run(job) == 0
    before, after = arrays(tmp_path / "a" / "model"), arrays(tmp_path / "b" / "model")
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {n for n in before if "lora_" in n or n.startswith(("adapter.", "speech_token_embed."))}
    assert not any(n.startswith("model.encoder") for n in state(tmp_path / "b", 3))


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
    job = small_job(world, out, steps=100000)

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


def test_a_recording_that_vanishes_is_named(world, tmp_path):
    broken = make_world(tmp_path / "world", ["abc", "de", "fgh", "ab"])
    job = small_job(broken, tmp_path / "run", steps=3, data={"strict": True})
    from mindspore_osum.data.batches import loader

    real = loader.features
    try:
        loader.features = lambda utt, *a: (os.path.exists(utt.wav) and os.remove(utt.wav), real(utt, *a))[1]
        with pytest.raises(UserError, match=r"words.jsonl:\d+: .*\.wav: no such audio file"):
            run(job)
    finally:
        loader.features = real


def test_a_changed_job_is_not_resumed(world, tmp_path):
    out = tmp_path / "run"
    assert run(small_job(world, out, steps=1)) == 0
    with pytest.raises(UserError, match="optimizer.lr was 0.003, is 0.001"):
        run(small_job(world, out, steps=2, optimizer={"lr": 1e-3}))
    with pytest.raises(UserError, match="has checkpoints"):
        run_job(from_dict(TrainConfig, small_job(world, out, steps=2), "job"), fresh=True)
    assert run(small_job(world, out, steps=1, optimizer={"lr": 3e-3})) == 0  # nothing left to do


def test_other_data_and_another_tokenizer_are_not_resumed(tmp_path):
    """As many utterances, but other words; a tokenizer of the same size under the same name."""
    world, out = make_world(tmp_path / "world", ["abc", "de"]), tmp_path / "run"
    job = small_job(world, out, steps=1)
    assert run(job) == 0
    for name, old, new, says in (
        ("words.jsonl", b'"txt": "de"', b'"txt": "df"', "data_digest was"),
        ("tokenizer.model", b"", b"\xc2\x3e\x00", "tokenizer_digest was"),  # an unknown field: ignored
    ):
        before = (world / name).read_bytes()
        (world / name).write_bytes(before.replace(old, new) if old else before + new)
        with pytest.raises(UserError, match=f"the job has changed since, {says} .*; change it back"):
            run(job)
        (world / name).write_bytes(before)
    (path,) = (out / "checkpoints").glob("step_*/state.json")
    about = json.loads(path.read_text())
    assert about["fingerprint"].pop("data_digest") and about["fingerprint"].pop("tokenizer_digest")
    path.write_text(json.dumps(about))  # of an older version
    (world / "words.jsonl").write_bytes((world / "words.jsonl").read_bytes().replace(b"de", b"df"))
    assert run(job) == 0
