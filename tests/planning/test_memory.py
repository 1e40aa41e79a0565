"""The memory model against the measured peaks of real steps on CPU."""

import importlib.metadata

import pytest

pytest.importorskip("mindspore")

from mindspore_osum.config import from_dict, merge  # noqa: E402
from mindspore_osum.data.batches.batching import bucket_shapes
from mindspore_osum.models.adapters.kinds import kinds  # noqa: E402
from mindspore_osum.planning.job import Batch, Job, padded  # noqa: E402
from mindspore_osum.planning.memory import MARGIN, inference_memory, training_memory  # noqa: E402
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.registry import preset  # noqa: E402
from tests.planning.measure import measured  # noqa: E402

SMALL = {
    "encoder": {"d_model": 128, "n_layers": 2, "n_heads": 4, "d_ff": 512},
    "adapter": {"n_layers": 1, "n_heads": 4, "d_ff": 256},
    "decoder": {
        "d_model": 128,
        "n_layers": 2,
        "n_heads": 4,
        "n_kv_heads": 2,
        "head_dim": 32,
        "d_ff": 384,
        "vocab_size": 1024,
    },
}
SMALLEST = merge(SMALL, {"encoder": {"n_layers": 1}, "decoder": {"n_layers": 1}})
ALL = ["encoder", "adapter", "decoder"]
TWINS = {"train": [1, 16, 8], "infer": [1, 128, 64, 128]}
# parts that are parameters; the others are held while a step runs
STATE = ("KV cache", "penalties")
KEPT = ("weights", "LoRA", "moments", "summed gradients", *STATE)


def case(mode: str, shape: list[int], model: dict, **over) -> dict:
    model = merge(preset("tiny").to_dict(), model)
    return {"mode": mode, "shape": shape, "model": model, "learn": ALL, **over}


def planned(case: dict) -> dict[str, int]:
    """Bytes by part, by the model."""
    cfg, ctc = from_dict(ModelConfig, case["model"], "case"), case.get("ctc")
    if case["mode"] == "infer":
        rows, frames, length, places = case["shape"]
        return inference_memory(Job(cfg, frozenset(), False), Batch(rows, rows, frames, length, 1), places)[0]
    job = Job(
        cfg,
        frozenset(case["learn"]),
        False,
        ctc_at=ctc["at"] if ctc else "",
        ctc_vocab=cfg.decoder.vocab_size if ctc else 0,
    )
    size, frames, text = case["shape"]
    batch = padded(bucket_shapes(cfg, size, [frames], text)[0], frames > 2, bool(ctc))
    return training_memory(job, batch, case.get("accumulation", 1))[0]


def check(case: dict, twin_shape: list[int] | None = None) -> None:
    """Parameters to 1 %, and what a step holds beside them within the margin."""
    twin = {**case, "shape": twin_shape or TWINS[case["mode"]]}
    real, least = measured(case, twin)
    plan, plan_least = planned(case), planned(twin)
    assert sum(plan.get(part, 0) for part in KEPT) == pytest.approx(real["kept"], rel=0.01)
    # the state of answers is made in the measured step, so it is in its peak
    parts = [part for part in plan if part not in KEPT or part in STATE]
    want = sum(plan[part] - plan_least[part] for part in parts)
    got = real["peak"] - least["peak"]
    print(
        f"\n{case['mode']} {case['shape']}: measured {got / 1e6:.1f} MB, planned {want / 1e6:.1f} MB "
        f"({want / got - 1:+.1%})"
    )
    assert want == pytest.approx(got, rel=MARGIN)


@pytest.mark.xfail(
    importlib.metadata.version("mindspore") != "2.7.2",
    reason="the kernels' tables were measured on MindSpore 2.7.2; 2.9.0 holds 17 % more than is planned",
    strict=False,
)
def test_the_smallest_training_step():
    check(case("train", [4, 400, 48], SMALLEST))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "twin"),
    [
        (case("train", [8, 400, 48], SMALL), None),
        (
            case("train", [8, 200, 100], merge(SMALL, {"lora": {"rank": 8, "dropout": 0.0}}), learn=["lora"]),
            None,
        ),
        (case("train", [8, 2, 200], merge(SMALL, {"decoder": {"vocab_size": 4096}})), [1, 2, 8]),
        (
            case(
                "train",
                [8, 300, 40],
                merge(SMALL, {"adapter": {"kind": kinds()[-1]}}),
                accumulation=2,
                ctc={"weight": 0.3, "at": "adapter"},
            ),
            [1, 64, 4],
        ),
        (case("infer", [8, 512, 128, 192], SMALL), None),
        # four blocks of causal attention are another graph than one
        (case("infer", [4, 1024, 512, 1024], SMALL), [1, 128, 512, 1024]),
    ],
    ids=["all", "lora", "text", "ctc", "answers", "long"],
)
def test_peaks(one, twin):
    check(one, twin)
