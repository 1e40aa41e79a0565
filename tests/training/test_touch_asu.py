"""A tiny TouchASU learns its messages, in padded and packed batches, and answers as it was taught."""

import json

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")
pytest.importorskip("mindformers", reason="needs mindformers")

from mindspore import Tensor, nn, ops  # noqa: E402

from mindspore_osum import OSUM  # noqa: E402
from mindspore_osum.cli import main  # noqa: E402
from mindspore_osum.data.batches.batching import bucket_shapes  # noqa: E402
from mindspore_osum.data.batches.corpus import Corpus  # noqa: E402
from mindspore_osum.data.batches.loader import Loader  # noqa: E402
from mindspore_osum.errors import UserError  # noqa: E402
from mindspore_osum.systems.registry import preset, system_of, to_values  # noqa: E402
from mindspore_osum.text.tokenizer import open_tokenizer  # noqa: E402
from mindspore_osum.training.config import job_from  # noqa: E402
from mindspore_osum.training.network import NetworkConfig, TrainingNetwork  # noqa: E402
from mindspore_osum.training.run import run_job  # noqa: E402
from mindspore_osum.weights_io import open_weights  # noqa: E402
from tests.systems.touch_asu.common import make_world  # noqa: E402

SYSTEM, CFG = system_of("touch_asu"), preset("touch_asu_tiny")
TEXT_TOKENS = 130


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


def job(world, out, **more):
    values = {
        "output_dir": str(out),
        "seed": 3,
        "device": "CPU",
        "model": {"start": "touch_asu_tiny"},
        "tokenizer": str(world),
        "data": {"train": [{"name": "all", "path": str(world / "data.jsonl")}]},
        "batch": {"size": 6, "seconds": [0.64], "text_tokens": TEXT_TOKENS},
        "spec_augment": {"time_masks": 0, "freq_masks": 0, "subs": 0},
        "optimizer": {"lr": 1e-2},
        "schedule": {"kind": "linear", "warmup_steps": 5},
        "steps": 2,
        "log_every": 1,
        "save_every": 100,
    }
    return job_from(values | more, "job")


def loader(world, size: int, pack: int) -> Loader:
    extractor = SYSTEM.extractor(CFG, open_tokenizer(world))
    shapes = bucket_shapes(CFG, size, [64], TEXT_TOKENS)
    return Loader(Corpus([("all", world / "data.jsonl", 1.0)], extractor, shapes), 3, pack=pack)


class Gradients(nn.Cell):
    def __init__(self, network):
        super().__init__()
        self.network = network
        weights = ms.ParameterTuple([p for p in network.get_parameters() if p.requires_grad])
        self.run = ops.value_and_grad(network.losses, None, weights, has_aux=True)

    def construct(self, *batch):
        return self.run(*batch)


def test_packed_losses_and_gradients_equal_padded_ones(world):
    """Also of leftover frames: 36 and 60 mel frames have some, 24 and 48 have none."""
    padded, packed = loader(world, 6, 0), loader(world, 3, 240)
    assert padded.steps_per_epoch == packed.steps_per_epoch == 1
    assert max(len(row.items) for row in packed.rows(0)[2]) >= 3
    learn = ["adapter", "lora", "decoder"]
    network = TrainingNetwork(NetworkConfig(to_values(CFG), learn=learn, vocab=600, seed=1))
    rng = np.random.default_rng(0)
    for name, param in network.parameters_and_names():
        if "lora_B" in name or name.endswith("bias"):
            param.set_data(Tensor(rng.standard_normal(param.shape).astype(np.float32) / 4))
    both = Gradients(network)
    (losses, grads), (losses_p, grads_p) = (
        both(*map(Tensor, one.micro_batch(0, 0).values())) for one in (padded, packed)
    )
    for one, other in zip(losses, losses_p, strict=True):
        assert other.asnumpy() == pytest.approx(one.asnumpy(), rel=1e-5)
    largest = max(np.abs(grad.asnumpy()).max() for grad in grads)
    assert len(grads) == 60
    for grad, grad_p in zip(grads, grads_p, strict=True):
        error = np.abs(grad.asnumpy() - grad_p.asnumpy()).max()
        assert error <= 1e-5 * max(np.abs(grad.asnumpy()).max(), 1e-3 * largest)


def losses(run, name: str = "loss") -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line[name] for line in lines if name in line]


@pytest.mark.slow
@pytest.mark.parametrize(
    "batch",
    [{"size": 1, "pack": 300}, {"size": 3}, {"max_tokens": 500}],
    ids=["packed", "static", "dynamic"],
)
def test_adapter_and_lora_learn(world, tmp_path, batch):
    batch = {"seconds": [0.64], "text_tokens": TEXT_TOKENS, **batch}
    assert run_job(job(world, tmp_path / "run", batch=batch, steps=6)) == 0
    found = losses(tmp_path / "run")
    assert found[-1] < found[0] - 0.1
    start = SYSTEM.build(CFG)
    SYSTEM.init_weights(start, 3)
    with open_weights(tmp_path / "run" / "model") as after:
        moved = {
            SYSTEM.job.part_of(name)
            for name, param in start.parameters_and_names()
            if not np.array_equal(after.read(name), param.asnumpy())
        }
    assert moved == {"adapter", "lora"}


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """A run that knows its six examples by heart, answers alone."""
    run = tmp_path_factory.mktemp("runs") / "run"
    more = {"learn": ["adapter", "lora", "decoder"], "loss": {"prompt": False}}
    assert run_job(job(world, run, steps=80, log_every=20, **more)) == 0
    assert losses(run, "answer_loss")[-1] < 0.1
    return run


def test_it_answers_as_it_was_taught(world, trained, tmp_path, capsys):
    """Requests by every way in: a transcript, a request in words, a chat, and whole conversations."""
    model = str(trained / "model")
    written = ["--output", str(tmp_path / "t"), "--format", "txt"]
    assert main(["transcribe", str(world / "0.wav"), "--model", model, *written]) == 0
    assert [path.read_text().strip() for path in (tmp_path / "t").iterdir()] == ["abc"]
    asked = ["infer", str(world / "1.wav"), "--model", model, "--output", str(tmp_path / "a.jsonl")]
    assert main([*asked, "--instruction", "Say it."]) == 0
    assert json.loads((tmp_path / "a.jsonl").read_text())["text"] == "defgh"
    asked = ["infer", str(world / "3.wav"), "--model", model, "--output", str(tmp_path / "b.jsonl")]
    assert main([*asked, "--task", "sttc"]) == 0
    assert json.loads((tmp_path / "b.jsonl").read_text())["answer"] == "a reply"
    manifest = ["--manifest", str(world / "data.jsonl"), "--output", str(tmp_path / "eval")]
    assert main(["eval", "--model", model, *manifest, "--no-plots"]) == 0
    scores = json.loads((tmp_path / "eval/metrics.json").read_text())["fixed"]
    assert scores["asr"]["wer"] == 0
    assert scores["sttc"]["accuracy"] == scores["text2text"]["accuracy"] == 1
    assert scores["sttc"]["contained"] == 1
    capsys.readouterr()
    assert main([*asked[:-1], str(tmp_path / "c.jsonl"), "--task", "ser"]) == 1
    refused = [line for line in capsys.readouterr().err.splitlines() if "asr and sttc" in line]
    assert len(refused) == 1 and not (tmp_path / "c.jsonl").exists()


def test_it_answers_in_python(world, trained):
    """After earlier turns and a system message, as in training; recordings in a batch as one by one."""
    osum = OSUM.load(str(trained / "model"), device="CPU")
    before = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    response = osum(str(world / "2.wav"), "And now?", system="Be brief.", history=before)
    assert response.text == "ca" and not response.error
    wavs = [str(world / f"{n}.wav") for n in range(4)]
    many, alone = osum(wavs, task="asr"), [osum(wav, task="asr") for wav in wavs]
    assert [one.raw for one in many] == [one.raw for one in alone] and many[0].text == "abc"
    heard = [{"role": "user", "content": "<audio>"}, {"role": "assistant", "content": "ho"}]
    with pytest.raises(
        UserError, match="a recording in an earlier turn: this model hears only the one in the"
    ):
        osum(str(world / "2.wav"), "And now?", history=heard)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"data": {"train": [], "other_requests": 0.5}}, "data.other_requests: an utterance of a TouchASU"),
        ({"parallel": {"parallel_mode": 1}}, "parallel.parallel_mode: 1 shards OSUM models only"),
        ({"learn": ["projector"]}, "learn: 'projector' is unknown"),
        ({"loss": {"promt": True}}, "unknown key 'promt'"),
    ],
)
def test_jobs_that_cannot_work(world, tmp_path, more, said):
    if "data" in more:
        more["data"]["train"] = [{"name": "all", "path": str(world / "data.jsonl")}]
    with pytest.raises(UserError, match=said):
        job(world, tmp_path / "run", **more)


@pytest.mark.parametrize(
    ("model", "batch", "said"),
    [
        ({"lora": {"rank": 0}}, {}, "names lora, but the model's lora.rank is 0"),
        ({"max_speech_frames": 40}, {}, "batch.seconds: 0.64 is more than the 0.4"),
        ({"dtype": "bfloat16"}, {}, "bfloat16 cannot be trained on CPU, whose operators lack it"),
        ({"eos_ids": [597]}, {}, r"<\|im_end\|> is \[599\], none of the model's eos_ids"),
    ],
)
def test_models_that_do_not_fit(world, tmp_path, model, batch, said):
    start = {"start": "touch_asu_tiny", "overrides": model}
    with pytest.raises(UserError, match=said):
        run_job(job(world, tmp_path / "run", model=start))
