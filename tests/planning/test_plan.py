"""`osum plan`: what it says of published sizes, what it proposes, what it refuses."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

import mindspore_osum
from mindspore_osum.cli import main
from mindspore_osum.errors import UserError
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig
from mindspore_osum.planning.hardware import DEVICES, device_of, max_device_memory, parse_bytes
from mindspore_osum.planning.job import Batch, Job, Stage
from mindspore_osum.planning.layouts import Choice, Layout, layouts, obstacle, ranked
from mindspore_osum.planning.memory import parameters, training_memory
from mindspore_osum.planning.programs import decoding, training
from mindspore_osum.planning.report import reason, settings
from mindspore_osum.planning.roofline import LIKELY, all_reduce, launches, model_flops, roofline
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.osum.job import Ctc
from mindspore_osum.systems.registry import system_of
from mindspore_osum.training.config import read_job

STAGE1 = str(Path(mindspore_osum.__file__).parents[1] / "configs/osum_pangu_7b/stage1.yaml")
PANGU = replace(ModelConfig(), dtype="bfloat16")
LORA = Job(PANGU, frozenset(["adapter", "lora"]), fused=True)
# OSUM (Geng et al. 2025): Whisper-medium, the same adapter, Qwen2-7B with LoRA of rank 8; all but Qwen learn
QWEN = DecoderConfig(
    vocab_size=152064, d_model=3584, n_layers=28, n_heads=28, n_kv_heads=4, d_ff=18944, o_bias=False
)
OSUM = Job(
    ModelConfig(decoder=QWEN, lora=LoraConfig(rank=8), dtype="bfloat16"),
    frozenset(["encoder", "adapter", "lora"]),
    fused=True,
)
# the most its loader puts in a batch: 3900 mel frames and 1900 sequence positions
OSUM_BATCH = Batch(10, 10, 390, 190, 189)


def plan(capsys, *words) -> dict:
    assert main(["plan", "--model", "osum_pangu_7b", "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def test_published_sizes_on_a_910b4(capsys):
    """32 GiB, of which MindSpore takes 27.3: whole on each device, with the layers recomputed."""
    found = plan(capsys, "--config", STAGE1, "--devices", "8", "--device", "910B4")
    assert found["parameters"]["decoder"] == 8_030_887_936  # openPangu-Embedded-7B-V1.1
    assert found["parameters"]["lora"] == pytest.approx(131.5e6, rel=1e-3)
    device = found["device"]
    assert device["memory"] == 32 * 2**30 == sum(device["reserved"].values()) + device["pool"]
    assert found["limit"] == device["pool"] and 27.3 <= device["pool"] / 2**30 < 27.4
    again, best = found["choices"][0], next(c for c in found["choices"] if c["layout"] == "dp 8 mp 1 pp 1")
    assert found["best"] == again["layout"] == "dp 8 mp 1 pp 1 recompute"
    assert again["fits"] and not best["fits"] and again["needed"] == pytest.approx(23.1e9, rel=0.01)
    assert found["settings"] == {
        "context": {"max_device_memory": "27.3GB"},
        "recompute_config": {"recompute": True},
    }
    assert found["job_max_device_memory"] == "58GB"  # what it replaces
    learned = found["parameters"]["lora"] + found["parameters"]["adapter"]
    assert best["memory"]["moments"] == 8 * learned and best["memory"]["float32 copies"] == 4 * learned
    assert 0 < best["mfu"] < 1
    assert again["memory"]["activations"] < best["memory"]["activations"] / 4
    assert again["step_seconds"] > best["step_seconds"]
    assert all(c["likely_seconds"] > c["step_seconds"] for c in found["choices"])
    cache = found["inference"]
    assert cache["memory"]["KV cache"] == cache["rows"] * cache["places"] * 34 * 2 * 8 * 128 * 2


def test_answering_alone_on_a_310p3(capsys):
    """float16; the exported graphs hold the decoder twice, which a 310P3 does not."""
    found = plan(capsys, "--device", "310P3", "--answers", "1")
    assert found["dtype"] == "float16"
    answer, decoder = found["inference"], found["parameters"]["decoder"] + found["parameters"]["lora"]
    assert answer["fits"] and answer["exported_shared"] < found["limit"] < answer["exported"]
    assert answer["exported"] - answer["exported_shared"] == 2 * decoder
    assert main(["plan", "--model", "tiny", "--device", "310P3", "--set", "model.overrides.lora.rank=4"]) == 0
    out = capsys.readouterr().out
    assert "310P3: 25.8 GB, 19.4 GB of it for the job" in out and " fit: prefill" in out and "lora" in out


def choice(layout: Layout, utterances: float, needed: int = 20) -> Choice:
    memory = {"weights": needed, "activations": 0, "gradients": 0, "workspace": 0}
    return Choice(layout, memory, 1.0, 2.0, 1, utterances, 0.5, "")


@pytest.mark.parametrize("name", ["tiny", "tiny_aligner", "touch_asu_tiny", "touch_asu_firered_tiny"])
def test_models_that_can_be_exported_have_a_line_for_it(capsys, name):
    assert main(["plan", "--model", name]) == 0
    assert "exported" in capsys.readouterr().out


def test_a_whole_model_goes_before_a_faster_sharded_one():
    whole, again, sharded = Layout(8), Layout(8, recompute=True), Layout(4, 2)
    ways = [choice(sharded, 9.0, 10), choice(again, 5.0), choice(whole, 7.0, 30)]
    assert [c.layout for c in ranked(ways, 40)] == [whole, again, sharded]
    best = ranked(ways, 25)
    assert [c.layout for c in best] == [again, sharded, whole]
    assert "dp 4 mp 2 pp 1 would do 1.80 times as much (semi-automatic parallel, which ends" in reason(
        best, 25
    )
    assert settings(again, 20 * 2**30) == {
        "context": {"max_device_memory": "20GB"},
        "recompute_config": {"recompute": True},
    }
    best = ranked(ways, 15)
    assert best[0].layout == sharded and "ends with MindSpore 2.11" in reason(best, 15)
    assert settings(sharded, 2**30)["parallel"] == {"parallel_mode": 1}
    assert settings(sharded, 2**30)["parallel_config"]["model_parallel"] == 2


def test_memory_says_which_device():
    assert device_of(None, "32GB")[0].name == "910B4" and device_of(None, "64GB")[0].name == "910B3"
    assert device_of(None, None) == (DEVICES["910B3"], 64 * 2**30)
    assert device_of("310P3", "48GB")[1] == 48 * 10**9
    with pytest.raises(UserError, match="--memory 64GB: a 910B4 has 32GiB"):
        device_of("910B4", "64GB")
    for device in DEVICES.values():
        assert 0.7 * device.memory < device.pool(device.memory) < 0.92 * device.memory
        assert device.pool(0) == 0
    assert max_device_memory(58 * 2**30 - 1) == "57.9GB"  # never more than there is
    assert parse_bytes("58GB", "x", binary=True) == 58 * 2**30


def test_the_published_run_fits_and_is_slower_than_the_roofline():
    """OSUM: 24 devices, 704,000 steps in 10 days, 1.23 s a step."""
    seconds = 10 * 86400 / 704_000
    memory, tape = training_memory(OSUM, OSUM_BATCH, accumulation=4, groups=1)
    assert sum(memory.values()) < 64e9
    # 2 operations a weight and position forward, 2 back through the frozen decoder; 6 a weight and frame of
    # the encoder, which learns: nearly all of the work
    decoder = 7.07e9 * 1890 * 4
    encoder = 302e6 * 1950 * 6
    work = model_flops(OSUM, OSUM_BATCH)
    assert work == pytest.approx(decoder + encoder, rel=0.06)
    for micro_batches, least, most in ((1, 0.13, 0.17), (4, 0.53, 0.65)):  # published: batches, or steps of 4
        for device in ("910B2", "910B3"):
            assert least < micro_batches * work / seconds / DEVICES[device].half < most
    for device in ("910B2", "910B3"):
        assert 4 * roofline(tape.steps[: tape.update_steps], DEVICES[device], 2) < 1.1 * seconds


def test_likely_times_against_the_published_run():
    """By the assumptions, 1.23 s are four batches of which 71 to 78 % are full (roofline.PUBLISHED), if their
    fused optimizer takes the least time."""
    tape = training(OSUM, OSUM_BATCH)
    parts = (n for name, n in count(OSUM).items() if not name.startswith("decoder.") or "lora" in name)
    learned, update = 2 * sum(parts), tape.steps[tape.update_steps :]
    for name, full in (("910B2", 0.78), ("910B3", 0.71)):
        device = DEVICES[name]
        rest = all_reduce(learned, 24, False, device, LIKELY) + roofline(update, device, 2)
        batch = roofline(tape.steps[: tape.update_steps], device, 2, LIKELY)
        assert (86400 * 10 / 704_000 - rest) / (4 * batch) == pytest.approx(full, abs=0.01)
    # this project's is many operators for each of more than 600 parameters
    assert 0.3 < roofline(update, device, 2, LIKELY) < 0.5


def test_shares_of_a_device_add_up():
    whole = sum(count(LORA).values())
    stages = [count(LORA, Stage(1, 4, i)) for i in range(4)]
    assert sum(sum(s.values()) for s in stages) == whole
    names = [name for stage in stages for name in stage]
    assert len(names) == len(set(names))
    halves = sum(count(LORA, Stage(2)).values())
    assert whole / 2 < halves < whole / 2 * 1.02  # norms, and A of LoRA, are on both


def count(job: Job, stage: Stage = Stage()) -> dict[str, int]:  # noqa: B008
    from math import prod

    return {name: prod(shape) for name, shape in parameters(job, stage).items()}


def test_dropout_tables_are_those_of_training():
    """A bit for each column of each width, a byte where cells are sharded; the sizes of models/dropout.py."""
    pytest.importorskip("mindspore")
    from mindspore_osum.models.dropout import SPAN, TABLE

    batch, decoder, width = Batch(2, 2, 400, 200, 99), PANGU.decoder, PANGU.encoder.d_model

    def planned(stage: Stage, job: Job = LORA) -> int:
        return training_memory(job, batch, stage=stage)[0]["dropout tables"]

    inputs = {decoder.d_model, decoder.n_heads * decoder.head_dim, decoder.d_ff}  # of layers with LoRA
    drops = {(size, PANGU.lora.dropout) for size in inputs}
    drops |= {(width, PANGU.adapter.dropout), (width, PANGU.encoder.dropout)}
    columns = sum(width for width, p in drops if p)
    assert columns and planned(Stage()) == 2 * TABLE * columns // 8 + 4 * SPAN
    assert planned(Stage(stages=2)) > planned(Stage()) * 4
    assert planned(Stage(), replace(LORA, fused=False)) == planned(Stage(), replace(LORA, dropout=False)) == 0


def test_gradients_are_clipped_in_float32():
    tape = training(LORA, Batch(1, 1, 40, 20, 9))
    wide = sum(b.bytes for step, b in zip(tape.steps, tape.blocks, strict=True) if step.name == "scale")
    shapes, part_of = parameters(LORA), system_of(PANGU.model_type).job.part_of
    learned = sum(math.prod(s) for n, s in shapes.items() if part_of(n) in LORA.learn)
    assert wide == pytest.approx(4 * learned, rel=1e-3)  # those of norms are float32 before


def test_work_and_activations_are_divided():
    batch = Batch(1, 0, 0, 512, 511)
    whole, half = (training_memory(LORA, batch, stage=Stage(n))[1] for n in (1, 2))
    assert half.flops == pytest.approx(whole.flops / 2, rel=0.02)
    assert whole.kept / 2 < half.kept < whole.kept
    first, last = (training_memory(LORA, batch, 4, Stage(1, 2, i))[0]["activations"] for i in (0, 1))
    assert first > 1.3 * last  # two micro-batches wait in the first stage


def test_layouts_follow_what_training_accepts():
    cfg = read_job(STAGE1)
    assert obstacle(cfg, Layout(8)) == ""
    for way in (Layout(4, 2), Layout(8, recompute=True)):
        assert obstacle(cfg, way) == ""
    with_ctc = replace(cfg, ctc=Ctc(weight=0.3))
    assert obstacle(with_ctc, Layout(8)) == "" and "ctc.weight" in obstacle(with_ctc, Layout(4, 2))
    assert "5 stages of a pipeline" in obstacle(cfg, Layout(4, 1, 5))  # of 4 micro-batches
    ways = layouts(LORA, 24, micro=4)
    assert all(way.data * way.model * way.stages == 24 for way in ways)
    assert {way.model for way in ways} == {1, 2, 4}  # 8 does not divide the adapter's heads
    assert {way.stages for way in ways} == {1, 2, 4}  # no more than micro-batches


@pytest.mark.slow
def test_what_does_not_fit_whole_is_cut_or_refused_in_a_line(capsys):
    words = ["plan", "--config", STAGE1, "--model", "osum_pangu_7b", "--memory"]
    assert main([*words, "27GB"]) == 0
    assert "best       dp 4 mp 2 pp 1: sharded, " in capsys.readouterr().out
    assert main([*words, "5GB", "--devices", "1"]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert " do not fit 1.8" in err and "; would fit: " in err


def test_mistakes_are_told(capsys):
    assert main(["plan", "--config", STAGE1]) == 1
    assert "models/osum_pangu_7b" in capsys.readouterr().err
    assert main(["plan", "--config", STAGE1, "--model", "osum_pangu_7b", "--devices", "0"]) == 1
    refused = [
        ([], "give --config JOB.yaml to plan a job, or --model NAME"),
        (["--config", STAGE1, "--device", "310P3"], "--device 310P3: does not train; leave --config away"),
        (
            ["--model", "tiny", "--device", "310P1", "--dtype", "bfloat16"],
            "has no bfloat16; give --dtype float16",
        ),
        (["--model", "tiny", "--set", "epochs=2"], "--set epochs: without --config only model.overrides"),
        (["--model", "tinny"], "--model: 'tinny' is no folder and no preset; did you mean 'tiny'"),
    ]
    for words, message in refused:
        assert main(["plan", *words]) == 1
        assert message in capsys.readouterr().err
    for text in ("64 apples", "0GB", "-1GB"):
        with pytest.raises(UserError, match="no size of memory"):
            parse_bytes(text, "--memory")
    for number in ("64", " 60.5", 64):
        with pytest.raises(UserError, match=f"has no unit; write {str(number).strip()}GB or"):
            parse_bytes(number, "--memory")
    sizes = ("64GB", "60 GiB", "1.5T", "100B")
    assert [parse_bytes(t, "x") for t in sizes] == [64 * 10**9, 60 * 2**30, 15 * 10**11, 100]


def test_roofline_is_bound_by_the_slower_side():
    device = DEVICES["910B3"]
    tape = decoding(LORA, 1, 64)
    # a new token reads every weight of the decoder but the embedding once
    read = 2 * (8_030_887_936 + 131.5e6 - 153376 * 4096)
    assert roofline(tape.steps, device, 2) == pytest.approx(read / device.hbm, rel=0.02)
    # ... and takes a launch for each operator, however small
    assert roofline(tape.steps, device, 2, LIKELY) > launches(tape.steps) * device.launch > 0
    many = training(LORA, Batch(8, 0, 0, 1024, 1023))
    assert roofline(many.steps, device, 2) > many.flops / device.half
    assert all_reduce(1e9, 1, True, device) == 0
    assert all_reduce(1e9, 8, True, device) == pytest.approx(2 * 7 / 8 * 1e9 / device.link)
