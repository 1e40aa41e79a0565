"""A Whisper is fine-tuned: the run, its resuming, and what its model is good for afterwards."""

import json
import math
import shutil

import numpy as np
import pytest

pytest.importorskip("mindformers", reason="needs mindformers")

from ckpt_convert.convert import convert  # noqa: E402
from mindspore_osum.errors import UserError  # noqa: E402
from mindspore_osum.folder import read_config  # noqa: E402
from mindspore_osum.models.positions import sinusoids  # noqa: E402
from mindspore_osum.systems.whisper_asr.system import SYSTEM  # noqa: E402
from mindspore_osum.systems.whisper_asr.tags import LABELS, tags_for  # noqa: E402
from mindspore_osum.training.config import job_from  # noqa: E402
from mindspore_osum.training.run import run_job  # noqa: E402
from mindspore_osum.weights_io import WeightsWriter, info_of, open_weights  # noqa: E402
from tests.conftest import ROOT  # noqa: E402
from tests.systems.whisper_asr.common import small_folder  # noqa: E402
from tests.training.tones import make_world, model_folder, random_words  # noqa: E402


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Tones with a transcript and a gender each, and a small Whisper."""
    home = tmp_path_factory.mktemp("whisper")
    world = make_world(home / "world", random_words(6))
    lines = []
    for number, text in enumerate((world / "words.jsonl").read_text("utf-8").splitlines()):
        line = json.loads(text) | {"extra": {"lang": "en"}}
        label = {"key": f"g{number}", "txt": ("<MALE>", "<FEMALE>")[number % 2], "task": "<GENDER>"}
        lines += [line, line | label]
    (world / "tasks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    small_folder(home / "small")
    with open_weights(home / "small") as weights:
        values = {name: np.array(weights.read(name)) for name in weights.infos}
    values["encoder.embed_positions.weight"] = sinusoids(*values["encoder.embed_positions.weight"].shape)
    with WeightsWriter(home / "small", {name: info_of(value) for name, value in values.items()}) as out:
        for name, value in values.items():
            out.write(name, value)
    return home


def job(home, out, **more):
    values = {
        "output_dir": str(out),
        "seed": 3,
        "device": "CPU",
        "model": {"start": str(home / "small"), "overrides": {"encoder": {"pad_to_seconds": 0.0}}},
        "tokenizer": str(home / "small"),
        "labels": ["gender", "age"],
        "data": {"train": [{"name": "tasks", "path": str(home / "world/tasks.jsonl")}]},
        "batch": {"size": 2, "seconds": [0.64], "text_tokens": 16},
        "spec_augment": {"time_masks": 1, "time_max": 3, "freq_masks": 0, "subs": 0},
        "optimizer": {"lr": 3e-2},
        "schedule": {"kind": "linear", "warmup_steps": 1},
        "accumulation": 2,
        "steps": 4,
        "log_every": 1,
        "save_every": 2,
    }
    return job_from(values | more, "job")


@pytest.fixture(scope="module")
def trained(home, training_graphs):
    assert run_job(job(home, home / "run")) == 0
    return home / "run"


def test_the_run(trained, home):
    cfg = read_config(trained / "model")
    assert cfg.tags == ("<|gender|>", "<MALE>", "<FEMALE>", "<|age|>", "<CHILD>", "<ADULT>", "<OLD>")
    assert cfg.decoder.vocab_size == 1908 + 7 and cfg.encoder.pad_to_seconds == 0
    metrics = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert {"ce", "prefix_loss", "words_loss", "label_loss"} <= metrics[0].keys()
    assert metrics[-1]["ce"] < metrics[0]["ce"]
    with open_weights(trained / "model") as after, open_weights(home / "small") as before:
        moved = {
            n
            for n in before.infos
            if not np.array_equal(after.read(n)[: len(before.read(n))], before.read(n))
        }
        assert moved == set(before.infos) - {"encoder.embed_positions.weight"}


def test_resumed_is_straight(trained, home, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(trained, again)
    shutil.rmtree(again / "model")
    shutil.rmtree(again / "checkpoints/step_000004")
    assert run_job(job(home, again)) == 0
    with open_weights(trained / "model") as straight, open_weights(again / "model") as resumed:
        assert straight.infos == resumed.infos
        for name in straight.infos:
            assert np.array_equal(straight.raw(name), resumed.raw(name)), name


@pytest.mark.slow
def test_recomputed_layers_change_no_loss(trained, home, tmp_path, training_graphs):
    """scripts/test.sh -m slow tests/training/test_whisper.py"""
    assert run_job(job(home, tmp_path / "run", recompute_config={"recompute": True})) == 0

    def losses(folder):
        return [json.loads(line).get("loss") for line in (folder / "metrics.jsonl").read_text().splitlines()]

    assert losses(tmp_path / "run") == pytest.approx(losses(trained), rel=1e-5)


def test_it_answers_words_and_labels(trained, home):
    from mindspore_osum import OSUM

    model = OSUM.load(str(trained / "model"), device="CPU")
    wavs = [str(home / f"world/{n}.wav") for n in range(3)]
    many = model.engine.answer(wavs, task="<GENDER>", batch_size=3)
    alone = [model.engine.answer([wav], task="<GENDER>")[0] for wav in wavs]
    for one, other in zip(many, alone, strict=True):
        assert one.error is None and one.raw == other.raw
        assert one.segments[0].labels == {"gender": one.raw.strip("<>")} and one.raw in ("<MALE>", "<FEMALE>")
        assert one.segments[0].avg_logprob == pytest.approx(other.segments[0].avg_logprob, abs=1e-4)
    (words,) = model.engine.answer(wavs[:1], task="asr")
    assert words.error is None and not any(tag in words.raw for tag in model.engine.cfg.tags)
    (refused,) = model.engine.answer(wavs[:1], task="ser")
    assert "one task a pass" in refused.error


def test_its_encoder_begins_an_osum_model(trained, home, tmp_path):
    decoder = model_folder(home / "world", tmp_path / "osum")
    convert(None, tmp_path / "start", encoder=trained / "model", decoder=decoder)
    cfg = read_config(tmp_path / "start")
    assert cfg.model_type == "osum" and cfg.encoder == read_config(trained / "model").encoder
    with open_weights(tmp_path / "start") as joined, open_weights(trained / "model") as whisper:
        names = [n for n in joined.infos if n.startswith("encoder.")]
        assert len(names) == sum(n.startswith("encoder.") for n in whisper.infos) - 1  # without positions
        assert all(np.array_equal(joined.raw(name), whisper.raw(name)) for name in names)


@pytest.mark.parametrize(
    ("form", "name"), [("hf_whisper", "out"), ("openai_whisper", "a.pt"), ("wenet", "b.pt")]
)
def test_tags_have_no_place_in_published_forms(trained, tmp_path, form, name):
    with pytest.raises(UserError, match="tags: a model with 7 tags of its own has more tokens than"):
        convert(trained / "model", tmp_path / name, form=form)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"labels": ["mood"]}, "labels: 'mood' is unknown"),
        ({"loss": {"smoothing": 1.0}}, "loss.smoothing: 1.0 is a share, from 0 to below 1"),
        ({"learn": ["adapter"]}, "learn: 'adapter' is unknown"),
        (
            {"batch": {"size": 2, "seconds": [0.64], "text_tokens": 16, "pack": 99}},
            "batch.pack: the recordings",
        ),
        (
            {"batch": {"size": 2, "seconds": [40.0], "text_tokens": 16}},
            "batch.seconds: 40 is more than the 4",
        ),
        (
            {"batch": {"size": 2, "seconds": [0.64], "text_tokens": 999}},
            "batch.text_tokens: 999, but the decoder",
        ),
        (
            {"model": {"start": "START", "overrides": {"dtype": "float16"}}},
            "it is in float16; train in float32 on",
        ),
        ({"parallel": {"parallel_mode": 1}}, "parallel.parallel_mode: 1 shards OSUM models only"),
    ],
)
def test_jobs_that_are_refused(home, tmp_path, more, said):
    if "model" in more:
        more = {"model": more["model"] | {"start": str(home / "small")}}
    with pytest.raises(UserError, match=said):
        run_job(job(home, tmp_path / "run", **more))
    assert not (tmp_path / "run" / "model").exists()


def test_padding_that_does_not_fit_is_refused(home, tmp_path):
    with pytest.raises(UserError, match="but the model pads recordings to 4"):
        run_job(job(home, tmp_path / "run", model={"start": str(home / "small")}))


def test_a_plan_of_such_a_job(capsys):
    """A Whisper is whole on every device; the tags' rows are counted, and recomputed layers keep less."""
    from mindspore_osum.cli import main

    path = str(ROOT / "configs/whisper/medium.yaml")
    assert main(["plan", "--config", path, "--model", "whisper_medium", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    whole, again = plan["choices"]
    assert (whole["layout"], again["layout"]) == ("dp 8 mp 1 pp 1", "dp 8 mp 1 pp 1 recompute")
    assert 5 * again["memory"]["activations"] < whole["memory"]["activations"]
    tags = len(tags_for(LABELS))
    published = SYSTEM.presets["whisper_medium"]
    sizes = (math.prod(shape) for shape in SYSTEM.shapes(published).values())
    assert sum(plan["parameters"].values()) == sum(sizes) + tags * published.decoder.d_model


def test_a_job_names_its_system(home):
    """As long as its folder is not there; afterwards the folder says it."""
    values = {"model": {"start": "nowhere", "system": "whisper_asr"}, "labels": ["age"]}
    values |= {"output_dir": "x", "tokenizer": "x", "steps": 1}
    values["data"] = {"train": [{"name": "a", "path": "a"}]}
    assert job_from(values, "job").labels == ["age"]
    values["model"] = {"start": str(home / "small"), "system": "osum"}
    with pytest.raises(UserError, match="model.system: 'osum', but .* is of the system whisper_asr"):
        job_from(values, "job")
