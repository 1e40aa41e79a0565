"""Every job in configs/ is read, and run for a step: its own settings, a small model, data of ours."""

import json
from pathlib import Path

import pytest

from mindspore_osum.config import merge
from mindspore_osum.training.config import read_job, read_stages, to_dict
from tests.systems.touch_asu.common import make_world as make_messages
from tests.systems.whisper_asr.common import small_folder, write_tokenizer
from tests.training.tones import SMALL_MODEL, add_texts, make_world, random_words

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
JOBS = sorted(CONFIGS.glob("*/*.yaml"))
# model_type -> preset and overrides of a small model
SMALL = {
    "osum": ("tiny", SMALL_MODEL),
    "linear_aligner": ("tiny_aligner", {"dtype": "float32", "encoder": {"pad_to_seconds": 0.0}}),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = make_world(tmp_path_factory.mktemp("world"), random_words(6))
    add_texts(world)
    return world


def job_params() -> list:
    """Every job; but for one of each kind (all losses, text alone, LoRA with accumulation) it is slow."""
    fast = {
        "tiny/stage3",
        "tiny/stage2",
        "osum_pangu_7b/stage3",
        "real/aligner",
        "touch_asu/qwen2_1.5b",
    }
    names = {path: f"{path.parent.name}/{path.stem}" for path in JOBS}
    assert fast < set(names.values())
    slow = {path: [] if name in fast else [pytest.mark.slow] for path, name in names.items()}
    return [pytest.param(path, id=name, marks=slow[path]) for path, name in names.items()]


@pytest.mark.parametrize("path", job_params())
def test_every_job_trains_a_step(path, world, tmp_path):
    from mindspore_osum.training.run import run_job

    cfg = read_job(str(path))
    if cfg.system.model_type == "whisper_asr":
        return train_a_whisper(path, cfg, world, tmp_path)
    if cfg.system.model_type == "touch_asu":
        return train_a_touch_asu(path, cfg, tmp_path)
    lora = {"lora": {"rank": 2 if "lora" in cfg.learn else 0}}
    qwen2 = path.parent.name == "osum_qwen2_7b"
    names = ["words", "qa"] if cfg.batch.seconds else ["intent", "qa"]  # as the job's data
    names = ["words"] if qwen2 else names
    here = [{"name": n, "path": str(world / f"{n}.jsonl")} for n in names]
    seconds = [0.64] if cfg.batch.seconds else []
    small = {
        "output_dir": str(tmp_path / "run"),
        "device": "CPU",
        "context": {},
        "steps": 1,
        "epochs": 0,
        "model": {"start": "osum_qwen2_tiny" if qwen2 else SMALL[cfg.system.model_type][0]},
        "tokenizer": str(write_tokenizer(tmp_path, 256) if qwen2 else world / "tokenizer.model"),
        "data": {"train": here, "valid": here, "encoded": ""},
        "batch": {
            "size": 2,
            "seconds": seconds,
            "text_tokens": 250,
            "max_tokens": 0,
            "pack": 512 * bool(cfg.batch.pack),
        },
    }
    job = merge(to_dict(cfg), small)
    job["model"]["overrides"] = {**SMALL[cfg.system.model_type][1], **lora}
    assert run_job(read_job(str(path), job)) == 0
    assert (tmp_path / "run" / "model" / "config.json").is_file()


def train_a_whisper(path, cfg, world, tmp_path):
    """A step of a job that fine-tunes a Whisper, in float32."""
    from mindspore_osum.training.run import run_job

    lines = (world / "words.jsonl").read_text("utf-8").splitlines()
    spoken = [json.dumps(json.loads(line) | {"extra": {"lang": "en"}}) for line in lines]
    (world / "spoken.jsonl").write_text("\n".join(spoken), "utf-8")
    here = [{"name": "words", "path": str(world / "spoken.jsonl")}]
    job = to_dict(cfg)
    job["model"]["overrides"] |= {"dtype": "float32", "encoder": {"pad_to_seconds": 0.0}}
    small = {
        "output_dir": str(tmp_path / "run"),
        "device": "CPU",
        "context": {},
        "steps": 1,
        "model": {"start": str(small_folder(tmp_path / "small"))},
        "tokenizer": str(tmp_path / "small"),
        "data": {"train": here, "valid": here},
        "batch": {"size": 2, "seconds": [0.64], "text_tokens": 40},
    }
    assert run_job(read_job(str(path), merge(job, small))) == 0
    assert (tmp_path / "run" / "model" / "config.json").is_file()


def train_a_touch_asu(path, cfg, tmp_path):
    """A step of a job for messages, in packs, or with a FireRed encoder in padded rows."""
    from mindspore_osum.training.run import run_job

    world = make_messages(tmp_path / "world")
    here = [{"name": "all", "path": str(world / "data.jsonl")}]
    small = {
        "output_dir": str(tmp_path / "run"),
        "device": "CPU",
        "context": {},
        "steps": 1,
        "model": {"start": "touch_asu_tiny" if cfg.batch.pack else "touch_asu_firered_tiny"},
        "tokenizer": str(world),
        "data": {"train": here, "valid": here, "encoded": ""},
        "batch": {"seconds": [0.64], "text_tokens": 130}
        | ({"pack": 300} if cfg.batch.pack else {"max_tokens": 300}),
    }
    job = merge(to_dict(cfg), small)
    job["model"]["overrides"] = {"dtype": "float32"}
    assert run_job(read_job(str(path), job)) == 0
    assert (tmp_path / "run" / "model" / "config.json").is_file()


def test_published_hyper_parameters_of_west():
    """WEST's run.sh of aishell/asr and belle_1.4M_qa; positions of a pack or, with FireRed, of a batch."""
    for name, expected in (
        ("qwen2_1.5b", (3e-4, 2500, 5000, 4, 8192)),
        ("qwen3_1.7b_firered", (3e-4, 3000, 6000, 4, 18000)),
        ("qwen3_1.7b_qa", (5e-5, 1000, 20000, 1, 25000)),
    ):
        cfg = read_job(str(CONFIGS / "touch_asu" / f"{name}.yaml"))
        positions = cfg.batch.pack or cfg.batch.max_tokens
        o, told = cfg.optimizer, (cfg.schedule.warmup_steps, cfg.steps, cfg.accumulation, positions)
        assert (o.lr, *told) == expected and (cfg.schedule.kind, cfg.clip_norm) == ("cosine", 1.0)
        assert (o.betas, o.weight_decay, cfg.loss.prompt) == ([0.9, 0.95], 0.01, True)
        assert set(cfg.learn) == {"adapter", "lora"}


@pytest.mark.parametrize("model", ["tiny", "osum_pangu_7b"])
def test_the_stages_follow_each_other(model, monkeypatch, tmp_path):
    """Each starts from what the one before leaves; stage 2 alone has no speech."""
    monkeypatch.chdir(tmp_path)  # no model is there yet
    (tmp_path / "models/osum_pangu_7b").mkdir(parents=True)  # but the converted one
    paths = [str(CONFIGS / model / f"{name}.yaml") for name in ("warm_up", "stage1", "stage2", "stage3")]
    stages = list(read_stages([p for p in paths if p in map(str, JOBS)]).values())
    for before, after in zip(stages, stages[1:], strict=False):
        assert after.model.start == f"{before.output_dir}/model"
    assert [bool(s.batch.seconds) for s in stages[-3:]] == [True, False, True]
    assert [s.data.requests for s in stages[-3::2]] in (["tag", "both"], ["tag", "natural"])


def test_published_hyper_parameters():
    """OSUM-Pangu's ct_config_open_pangu.yaml and ds_stage2.json."""
    for name in ("stage1", "stage2", "stage3"):
        cfg = read_job(str(CONFIGS / "osum_pangu_7b" / f"{name}.yaml"))
        o = cfg.optimizer
        assert (o.lr, o.betas, o.eps, o.weight_decay) == (5e-4, [0.9, 0.99], 1e-6, 0.01)
        assert vars(cfg.schedule) == {"kind": "inverse_sqrt", "warmup_steps": 2000}
        assert (cfg.clip_norm, cfg.accumulation, cfg.seed, cfg.save_every) == (5.0, 4, 777, 2500)
        assert vars(cfg.loss) == {"intent": 1.0, "content": 1.0} and "lora" in cfg.learn


def test_published_hyper_parameters_of_the_linear_aligner():
    """The paper, 2.4.2."""
    align, lora = (read_job(str(CONFIGS / "linear_aligner" / f"{name}.yaml")) for name in ("align", "lora"))
    assert (align.learn, align.optimizer.lr, lora.learn, lora.optimizer.lr) == (
        ["adapter"],
        1e-3,
        ["lora"],
        1e-4,
    )
    assert {cfg.batch.size * cfg.accumulation for cfg in (align, lora)} == {128}
    assert lora.model.overrides["lora"] == {"rank": 16, "alpha": 32.0}
    assert lora.model.start == f"{align.output_dir}/model"


def test_published_hyper_parameters_of_osum_with_qwen2():
    """OSUM's config_llm_huawei_base-version.yaml and ds_stage2.json; steps of its paper, 3.1."""
    cfg = read_job(str(CONFIGS / "osum_qwen2_7b" / "stage2.yaml"))
    o = cfg.optimizer
    assert (o.lr, o.betas, o.eps, o.weight_decay) == (5e-5, [0.9, 0.99], 1e-6, 0.01)
    assert vars(cfg.schedule) == {"kind": "inverse_sqrt", "warmup_steps": 8000}
    assert (cfg.clip_norm, cfg.accumulation, cfg.steps, cfg.save_every) == (5.0, 4, 704_000, 1250)
    assert set(cfg.learn) == {"encoder", "adapter", "lora"} and cfg.batch.seconds[-1] == 29
    assert cfg.model.overrides == {
        "encoder": {"dropout": 0.1},
        "lora": {"rank": 8, "alpha": 32.0, "dropout": 0.1},
    }


def test_published_hyper_parameters_of_the_first_stage():
    """OSUM's paper, 3.1; its ds_stage1.json; label smoothing of its ASR configuration."""
    cfg = read_job(str(CONFIGS / "whisper" / "medium.yaml"))
    assert (cfg.optimizer.lr, cfg.steps, cfg.clip_norm, cfg.accumulation) == (5e-5, 150_000, 5.0, 8)
    assert cfg.loss.smoothing == 0.1 and set(cfg.learn) == {"encoder", "decoder"}
    assert (
        cfg.model.overrides["dtype"] == "bfloat16" and cfg.model.overrides["encoder"]["pad_to_seconds"] == 0
    )
