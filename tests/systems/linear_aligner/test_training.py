"""A tiny linear aligner learns tones: the linear layer alone, then LoRA; what it leaves answers."""

import json

import numpy as np
import pytest
import yaml

pytest.importorskip("mindformers", reason="needs mindformers")

from mindspore_osum import OSUM  # noqa: E402
from mindspore_osum.cli import main  # noqa: E402
from mindspore_osum.errors import UserError  # noqa: E402
from mindspore_osum.training.config import job_from  # noqa: E402
from mindspore_osum.weights_io import open_weights  # noqa: E402
from tests.systems.test_speech_export import tiny  # noqa: E402
from tests.training.tones import add_texts, make_world, random_words  # noqa: E402


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Spoken words of one letter each as asr, translation and question, and written questions."""
    folder = make_world(tmp_path_factory.mktemp("world"), random_words(8))
    add_texts(folder)
    lines = [json.loads(line) for line in (folder / "words.jsonl").read_text("utf-8").splitlines()]
    for line, task in zip(lines, ("<TRANSCRIBE>", "<TRANSLATE>", "<S2TCHAT>", "asr") * 2, strict=True):
        line["task"] = task
    (folder / "tasks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return folder


def values(world, out, **over) -> dict:
    """A job of some steps."""
    sources = [{"name": name, "path": str(world / f"{name}.jsonl")} for name in ("tasks", "qa")]
    job = {
        "output_dir": str(out),
        "device": "CPU",
        "seed": 1,
        "model": {"start": "tiny_aligner"},
        "tokenizer": str(world / "tokenizer.model"),
        "data": {"train": sources},
        "batch": {"size": 4, "seconds": [1.0], "text_tokens": 90},
        "spec_augment": {"time_masks": 0, "freq_masks": 0, "subs": 0},
        "optimizer": {"lr": 1e-2},
        "schedule": {"kind": "linear", "warmup_steps": 1},
        "steps": 12,
        "log_every": 1,
    }
    return job | over


def trained(world, out, **over):
    path = out.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(values(world, out, **over)))
    assert main(["train", "--config", str(path)]) == 0
    return out


@pytest.fixture(scope="module")
def aligned(world, tmp_path_factory):
    """The linear layer was trained."""
    return trained(world, tmp_path_factory.mktemp("runs") / "align")


@pytest.fixture(scope="module")
def tuned(world, aligned, tmp_path_factory):
    """LoRA was trained, on packs."""
    start = {"start": str(aligned / "model"), "overrides": {"lora": {"rank": 4}}}
    batch = {"size": 1, "seconds": [1.0], "text_tokens": 90, "pack": 260}
    out = tmp_path_factory.mktemp("runs") / "lora"
    return trained(world, out, model=start, learn=["lora"], batch=batch)


def losses(run) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [line["ce"] for line in lines if "ce" in line]


def parts_that_differ(before, after) -> set[str]:
    with open_weights(before / "model") as a, open_weights(after / "model") as b:
        names = a.infos.keys() & b.infos.keys()
        return {name for name in names if not np.array_equal(a.read(name), b.read(name))}


def test_the_linear_layer_learns(aligned):
    found = losses(aligned)
    assert len(found) == 12 and np.mean(found[-3:]) < np.mean(found[:3]) - 0.1


def test_translations_are_evaluated(world, tmp_path):
    """`osum eval` asks for them with the words of the task and scores them; random weights."""
    model = tiny("tiny_aligner", tmp_path)
    asked = ["--model", str(model), "--manifest", str(world / "tasks.jsonl"), "--no-plots"]
    assert main(["eval", *asked, "--output", str(tmp_path / "eval"), "--max-new-tokens", "8"]) == 0
    found = json.loads((tmp_path / "eval" / "metrics.json").read_text("utf-8"))["fixed"]
    assert found.keys() == {"asr", "st", "sttc"} and found["st"]["items"] == 2
    assert 0 <= found["st"]["bleu"] <= 1 and found["st"]["keys"].keys() == {"<TRANSLATE>"}
    assert main(["data", "validate", str(world / "tasks.jsonl")]) == 0


def test_then_lora_alone(aligned, tuned):
    assert np.mean(losses(tuned)[-3:]) < np.mean(losses(aligned)[-3:])
    assert not parts_that_differ(aligned, tuned)
    with open_weights(tuned / "model") as weights:
        lora = [name for name in weights.infos if name.endswith("lora_B.weight")]
        assert len(lora) == 7 * 2 and all(weights.read(name).any() for name in lora)


@pytest.mark.parametrize("pack", [260, pytest.param(0, marks=pytest.mark.slow)])
def test_frames_of_a_frozen_encoder_are_kept(aligned, world, tmp_path, pack):
    """The same losses as with the encoder in the graph, but for float16; nothing is encoded twice."""
    more = {"model": {"start": str(aligned / "model")}, "steps": 3}
    more["batch"] = {"size": 1 if pack else 4, "seconds": [1.0], "text_tokens": 90, "pack": pack}
    data = values(world, tmp_path)["data"] | {"encoded": str(tmp_path / "frames")}
    plain = losses(trained(world, tmp_path / "plain", **more))
    kept = trained(world, tmp_path / "kept", data=data, **more)
    assert losses(kept) == pytest.approx(plain, rel=1e-3) and len(plain) == 3
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "frames").rglob("*.npy")}
    assert len(files) == 8
    assert {name for name in parts_that_differ(aligned, kept)} == {"adapter.proj.weight", "adapter.proj.bias"}
    if not pack:
        again = trained(world, tmp_path / "again", data=data, **more)
        assert losses(again) == losses(kept)
        assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "frames").rglob("*.npy")}


def test_encoder_and_decoder_stay(aligned, world, tmp_path):
    from mindspore_osum.systems.registry import preset, system_of

    cfg = preset("tiny_aligner")
    with open_weights(aligned / "model") as weights:
        for name in weights.infos:
            start = system_of("linear_aligner").initial_value(cfg, name, weights.infos[name].shape, 1)
            assert np.array_equal(weights.read(name), start) != name.startswith("adapter."), name


def test_answers(tuned, world, tmp_path, capsys):
    asked = ["infer", str(world / "0.wav"), str(world / "1.wav"), "--model", str(tuned / "model")]
    for task, field in (("asr", "text"), ("sttc", "answer")):
        out = tmp_path / f"{task}.jsonl"
        assert main([*asked, "--task", task, "--max-new-tokens", "3", "--output", str(out)]) == 0
        answers = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
        assert len(answers) == 2 and all(one[field] == one["raw"].strip() for one in answers)
        alone = OSUM.load(str(tuned / "model"))(str(world / "1.wav"), task=task, max_new_tokens=3)
        assert alone.raw == answers[1]["raw"]  # whatever it shares a batch with
    assert main([*asked, "--task", "sgc"]) == 1
    assert "a linear aligner has the tasks asr, sttc" in capsys.readouterr().err


@pytest.mark.parametrize(
    "over, message",
    [
        ({"learn": ["aligner"]}, "learn: 'aligner' is unknown"),
        ({"data": {"train": [{"name": "a", "path": "a"}], "other_requests": 0.5}}, "data.other_requests"),
        ({"parallel": {"parallel_mode": 1}}, "parallel.parallel_mode: 1 shards OSUM models only"),
        ({"ctc": {"weight": 1.0}}, "unknown key 'ctc'"),
        ({"learn": ["encoder"]}, "learn: data.encoded keeps what a frozen encoder makes of recordings"),
        ({"spec_augment": {"time_masks": 1}}, "spec_augment: data.encoded keeps"),
    ],
)
def test_jobs_that_are_refused(over, message, world, tmp_path):
    with pytest.raises(UserError, match=message):
        job = values(world, tmp_path / "run")
        if "data.encoded" in message:
            job["data"]["encoded"] = "frames"
        job_from(job | over, "job.yaml")


@pytest.mark.parametrize(
    "model, learn, message",
    [
        (
            {"start": "tiny_aligner", "overrides": {"dtype": "float16"}},
            ["adapter"],
            "model.start: it is in float16; train in float32 on CPU: model.overrides.dtype=float32",
        ),
        ({"start": "tiny_aligner"}, ["lora"], "learn: names lora, but the model's lora.rank is 0"),
        (
            {"start": "tiny_aligner", "overrides": {"encoder": {"pad_to_seconds": 30.0}}},
            ["adapter"],
            r"batch.seconds: 1, but the model pads recordings to 30; .*pad_to_seconds=0",
        ),
        (
            {"start": "tiny_aligner", "overrides": {"decoder": {"eos_id": 2}}},
            ["adapter"],
            "eos_id is 4, the model's decoder.eos_id is 2",
        ),
    ],
)
def test_models_that_are_refused(model, learn, message, world, tmp_path):
    from mindspore_osum.training.run import run_job

    with pytest.raises(UserError, match=message):
        run_job(job_from(values(world, tmp_path / "run", model=model, learn=learn), "job.yaml"))


def test_a_spoken_question_is_not_read(world):
    """extra.question is the words of a recording of <S2TCHAT>, and the request of every other, as
    extra.request is of all."""
    from mindspore_osum.data.formats.manifest import Utterance
    from mindspore_osum.systems.registry import preset, system_of
    from mindspore_osum.text.tokenizer import open_tokenizer

    tokenizer = open_tokenizer(world / "tokenizer.model")
    extractor = system_of("linear_aligner").extractor(preset("tiny_aligner"), tokenizer)
    cases = [(task, "request", True) for task in ("<S2TCHAT>", "<TRANSCRIBE>", "<TRANSLATE>")]
    cases += [("<S2TCHAT>", "question", False), ("<TRANSCRIBE>", "question", True)]
    for task, name, read in cases:
        ids_L = extractor.sequence(Utterance("k", "a.wav", "ab", task, {name: "hhgg"}), 1).ids_L
        assert ("hhgg" in tokenizer.decode([i for i in ids_L.tolist() if i >= 0])) == read


def test_lines_that_are_refused(world):
    from mindspore_osum.data.formats.manifest import Utterance
    from mindspore_osum.systems.registry import preset, system_of
    from mindspore_osum.text.tokenizer import open_tokenizer

    tokenizer = open_tokenizer(world / "tokenizer.model")
    extractor = system_of("linear_aligner").extractor(preset("tiny_aligner"), tokenizer)
    cases = {
        "task <GENDER>: a linear aligner learns <TRANSCRIBE>, <TRANSLATE>": ("a.wav", "ab", "<GENDER>", {}),
        "task <TEXT2TEXT> has a recording": ("a.wav", "ab", "<TEXT2TEXT>", {"question": "c"}),
        "needs the user's words in extra.question": (None, "ab", "<TEXT2TEXT>", {}),
        "the answer is empty": ("a.wav", " ", "<TRANSCRIBE>", {}),
    }
    for message, line in cases.items():
        (flaw,) = extractor.flaws(Utterance("k", *line, where="m.jsonl:3"), 1.0)
        assert message in flaw and flaw.startswith("m.jsonl:3: ")
