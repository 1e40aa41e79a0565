"""A small model trained in one process and cut over several: the same losses and weights, and the collectives
that the strategy needs. See worker.py."""

import os
from collections import Counter

import pytest

from tests.parallel.conftest import ROOT

LOSS, WEIGHT = 1e-4, 1e-3
# widths in worker.py: encoder and adapter, decoder, LoRA's rank; rows of a half of the batch
ENCODER, ADAPTER, DECODER, LOW = [64, 32], [16, 32], [96, 24], [96, 3]
LAYERS = 2  # of the decoder; encoder and adapter have one
# micro-batches of a step have the same dropout masks in the one case, their own in the other
MICROS = {"micros": 2, "dropout": 0.0}

FAST = {
    "2x2": {
        "alone": "rows",
        "rows": True,  # dropout as on Ascend
        "parallel": {"data_parallel": 2, "model_parallel": 2, "vocab_emb_dp": False},
        "forward": True,
    },
}
ALONE = {
    "pipeline": {"alone": "sgd2", **MICROS, "parallel": {"pipeline_stage": 2}},
    "pipeline, dropout": {"alone": "sgd3", "micros": 2, "parallel": {"pipeline_stage": 2}},
    "accumulation, dropout": {"alone": "sgd3", "micros": 2, "parallel": {"data_parallel": 2}},
}
PIPELINE = {
    "pipeline, 2x1": {"alone": "sgd2", **MICROS, "parallel": {"data_parallel": 2, "pipeline_stage": 2}},
    "pipeline, 1x2": {"alone": "sgd2", **MICROS, "parallel": {"model_parallel": 2, "pipeline_stage": 2}},
}
TWO = {
    "2x1": {"alone": "sgd", "parallel": {"data_parallel": 2}, "forward": True},
    "1x2": {"alone": "sgd", "parallel": {"model_parallel": 2}},
    "1x2, vocabulary": {"alone": "sgd", "parallel": {"model_parallel": 2, "vocab_emb_dp": False}},
    "1x2, positions of norms": {"alone": "sgd", "parallel": {"model_parallel": 2, "use_seq_parallel": True}},
    "1x2, recompute": {"alone": "sgd", "recompute": True, "parallel": {"model_parallel": 2}},
    "context": {"alone": "sgd", "parallel": {"context_parallel": 2}},
    "2x1, optimizer": {
        "alone": "sgd",
        "parallel": {"data_parallel": 2},
        "context": {
            "enable_parallel_optimizer": True,
            "parallel_optimizer_config": {"parallel_optimizer_threshold": 0},
        },
    },
    "2x1, accumulation": {"alone": "sgd2", **MICROS, "parallel": {"data_parallel": 2}},
    "2x1, LoRA alone": {"alone": "lora", "learn": ["lora"], "parallel": {"data_parallel": 2}},
    "2x1, Adam": {"alone": "adam", "optimizer": "adam", "parallel": {"data_parallel": 2}},
}
FOUR = {
    "4x1": {"alone": "sgd", "parallel": {"data_parallel": 4}},
    "1x4": {"alone": "sgd", "parallel": {"model_parallel": 4, "vocab_emb_dp": False}},
    "2x2, optimizer, accumulation": {
        "alone": "sgd2",
        **MICROS,
        "parallel": {"data_parallel": 2, "model_parallel": 2},
        "context": TWO["2x1, optimizer"]["context"],
    },
    "2x2, positions of norms, Adam": {
        "alone": "adam",
        "optimizer": "adam",
        "parallel": {"data_parallel": 2, "model_parallel": 2, "use_seq_parallel": True},
    },
}
FUSED = {
    "2x2, fused": {"alone": "rows", "rows": True, "ops": "fused", "parallel": FAST["2x2"]["parallel"]},
    "2x2, fused, positions of norms": {
        "alone": "rows",
        "rows": True,
        "ops": "fused",
        "parallel": {"data_parallel": 2, "model_parallel": 2, "use_seq_parallel": True},
    },
}


def check(case: dict, found: list[dict]) -> None:
    """Losses, norms and weights of all processes against one process."""
    for rank, result in enumerate(found):
        assert "error" not in result, f"process {rank}: {result['error']}"
        assert max(result["shown"]) <= LOSS * 100 and result["shown"][0] <= LOSS, result["shown"]
        assert result["norm"] <= 1e-3, result["norm"]
        if case.get("optimizer") != "adam":  # it magnifies rounding of gradients near 0
            assert result["weight"] <= WEIGHT, (result["worst"], result["weight"])
    stages = case["parallel"].get("pipeline_stage", 1)
    assert sum(result["compared"] for result in found) >= found[0]["of"] * len(found) / stages
    if case["parallel"].get("model_parallel", 1) > 1:
        assert all(result["cut"] for result in found)


def count(collectives: list, op: str, ranks: list[int], shape: list[int]) -> int:
    """How often an operator with this group and shape is in the compiled graph."""
    return Counter(map(str, collectives))[str([op, ranks, shape])]


@pytest.fixture(scope="module")
def fast(measure):
    return measure(4, FAST)


@pytest.mark.parametrize("name", FAST)
def test_cut_models_learn_the_same(fast, name):
    check(FAST[name], [result[name] for result in fast])


def test_model_parallel_exchanges_two_sums_a_layer(fast):
    """In the forward pass, over the devices with the same rows; LoRA on a row-cut layer adds its rank's."""
    forward = fast[0]["2x2"]["forward"]
    assert count(forward, "AllReduce", [0, 1], DECODER) == 2 * LAYERS
    assert count(forward, "AllReduce", [0, 1], LOW) == 2 * LAYERS
    assert count(forward, "AllReduce", [0, 1], ENCODER) == 2
    assert count(forward, "AllReduce", [0, 1], ADAPTER) == 2
    assert not [c for c in forward if c[0] in ("AllGather", "ReduceScatter", "AlltoAll")], forward


def test_the_batch_is_summed_once(fast):
    """Over the devices with the same weights: the sums of the losses, nothing else in the forward pass."""
    forward = [c for c in fast[0]["2x2"]["forward"] if c[1] == [0, 2]]
    assert forward == [["AllReduce", [0, 2], [2, 4]]]


@pytest.mark.slow  # the matrix for two processes
def test_two_processes(measure):
    found = measure(2, TWO)
    for name, case in TWO.items():
        check(case, [result[name] for result in found])
    assert found[0]["2x1"]["forward"] == [["AllReduce", [0, 1], [2, 4]]]
    lora = found[0]["2x1, LoRA alone"]
    # nothing of the frozen encoder is exchanged: a gradient for each weight that learns, the losses' sums
    # forward and backward, and the gradients' norm
    assert len(lora["collectives"]) == lora["of"] + 3
    again, once = (Counter(map(str, found[0][name]["collectives"])) for name in ("1x2, recompute", "1x2"))
    assert again[str(["AllReduce", [0, 1], [192, 24]])] > once[str(["AllReduce", [0, 1], [192, 24]])]


@pytest.mark.slow  # the matrix for four processes
def test_four_processes(measure):
    found = measure(4, FOUR)
    for name, case in FOUR.items():
        check(case, [result[name] for result in found])


@pytest.mark.slow
def test_fused_operators_are_cut(measure, tool, library):
    """Ascend's operators over devices, learn what plain ones do in one process."""
    path = os.pathsep.join([str(ROOT), str(tool)])
    found = measure(4, FUSED, ASCEND_OPS_CPU_LIB=str(library), PYTHONPATH=path)
    for name, case in FUSED.items():
        check(case, [result[name] for result in found])
        ran = {operator.split()[0] for operator in found[0][name]["operators"]}
        assert ran >= {"FlashAttentionScore", "FlashAttentionScoreGrad", "RmsNorm", "RotaryPositionEmbedding"}


@pytest.mark.slow
def test_pipelines(measure):
    alone = measure(2, ALONE)
    check(ALONE["pipeline"], [result["pipeline"] for result in alone])
    dropped = [alone[0][f"{way}, dropout"]["losses"] for way in ("pipeline", "accumulation")]
    assert dropped[0] == pytest.approx(dropped[1], abs=LOSS) and dropped[0] != pytest.approx(
        alone[0]["pipeline"]["losses"], abs=0.01
    )
    found = measure(4, PIPELINE)
    for name, case in PIPELINE.items():
        check(case, [result[name] for result in found])
