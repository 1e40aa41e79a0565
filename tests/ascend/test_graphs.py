"""No graph of ours asks Ascend for what its documentation refuses: compiled in real widths, not run.

scripts/test.sh tests/ascend/test_graphs.py -m slow    # all graphs of the 7B's jobs and answers: minutes
"""

from dataclasses import replace
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.ops.auto_generate import RotaryPositionEmbedding

from mindspore_osum.ascend import graphs, rules
from mindspore_osum.config import merge, parse_overrides
from mindspore_osum.models.graph_nodes import nodes
from mindspore_osum.systems.registry import preset, system_of
from mindspore_osum.training.config import read_job

ROOT = Path(__file__).resolve().parents[2]
MODEL = "osum_pangu_7b"
LORA = {"rank": 64, "alpha": 32.0, "dropout": 0.1}  # of stage 1, which later stages start from
HEADS = "ctc.weight=0.3", "ctc.at=adapter", "ctc.aligned=1", "classify.weight=1"
PACKED = "batch.pack=2048", "batch.seconds=[40.0]"
JOBS = {
    "stage 1": ("stage1",),
    "stage 2": ("stage2",),
    "stage 3": ("stage3",),
    "stage 3, packed": ("stage3", *PACKED),
    "stage 1, all losses": ("stage1", "batch.seconds=[10.0]", *HEADS),
    "stage 1, all losses, packed": ("stage1", *PACKED, *HEADS),
}


def model(dtype: str):
    """The 7B model's description."""
    found = preset(MODEL)
    return replace(found, dtype=dtype, lora=replace(found.lora, **LORA))


def training(stage: str, *overrides: str, dtype: str = "bfloat16", **kwargs):
    """The graphs of a stage of the 7B model."""
    changed = merge(parse_overrides(list(overrides)), {"model": {"start": MODEL}})
    job = read_job(str(ROOT / f"configs/{MODEL}/{stage}.yaml"), changed)
    return graphs.training(job, model(dtype), **kwargs)


def check(found) -> dict[str, int]:
    """Fail for every finding; the operators of each graph."""
    found = list(found)
    problems = [str(line) for graph in found for line in rules.check(graph.name, graph.nodes)]
    assert not problems, "\n".join(problems)
    return {graph.name: len(graph.nodes) for graph in found}


class Hash(nn.Cell):
    """What dropout once did with its seed."""

    def construct(self, x):
        return x * Tensor(0x7FEB352D, ms.uint32)


class HeadsFirst(nn.Cell):
    """Rotation of one position, heads before positions."""

    def __init__(self):
        super().__init__()
        self.rotate = RotaryPositionEmbedding()

    def construct(self, x_BH1E, cos_B11E):
        return self.rotate(x_BH1E, ops.cos(cos_B11E), ops.sin(cos_B11E), 0)


@pytest.mark.parametrize(
    "cell, shapes, problem",
    [
        (Hash, [((4,), np.uint32)], "Mul: input 0 is uint32"),
        (
            HeadsFirst,
            [((8, 32, 1, 128), np.float32), ((8, 1, 1, 128), np.float32)],
            "batch * heads is 256, allowed is 8 * positions = 8",
        ),
    ],
)
def test_graphs_that_are_refused(cell, shapes, problem):
    with graphs.on_ascend():
        found = nodes(cell(), *(Tensor(np.ones(shape, dtype)) for shape, dtype in shapes))
    assert any(problem in str(line) for line in rules.check("graph", found))


def test_a_training_step_with_dropout_keeps_to_the_rules(monkeypatch):
    """The cheapest one that has nearly all operators: one layer of each stack, two projections adapted."""
    monkeypatch.setitem(LORA, "targets", ("q_proj", "down_proj"))
    step = next(training("stage1", "batch.seconds=[10.0]", layers=1))
    check([step])
    names = {node.name for node in step.nodes}
    assert {"FlashAttentionScore", "FlashAttentionScoreGrad", "RmsNormGrad", "AllFinite"} <= names
    assert "DropoutDoMaskExt" in names


def test_answers_of_one_layer_keep_to_the_rules():
    answers = graphs.inference(model("float16"), 8, layers=1)
    check([next(answers), next(answers)])


def test_answers_of_a_whisper_of_one_layer_keep_to_the_rules():
    answers = graphs.inference(replace(preset("whisper_base"), dtype="bfloat16"), 8, layers=1)
    counts = check([next(answers) for _ in range(4)])
    assert [name.split()[0] for name in counts] == ["prefill", "decode", "log-probability", "draws"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype", "rows"),
    [("large_v3", "float16", 32), ("large_v3_turbo", "bfloat16", 8), ("tiny_en", "float16", 1)],
)
def test_all_graphs_of_a_whisper_keep_to_the_rules(name, dtype, rows):
    names = " ".join(check(graphs.inference(replace(preset(f"whisper_{name}"), dtype=dtype), rows)))
    assert all(word in names for word in ("prefill", "decode", "draws", "alignment", "exported speech"))


@pytest.mark.slow
def test_training_of_a_whisper_keeps_to_the_rules():
    """OSUM's first stage, with the tags of its labels."""
    job = read_job(str(ROOT / "configs/whisper/medium.yaml"), {"model": {"start": "whisper_medium"}})
    trained = job.system.job.model(job, replace(preset("whisper_medium"), dtype="bfloat16"))
    assert len(check(graphs.training(job, trained))) == 4


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("job", JOBS)
def test_training_keeps_to_the_rules(job, dtype):
    assert len(check(training(*JOBS[job], dtype=dtype))) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 8, 32])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_answers_and_exports_keep_to_the_rules(dtype, rows):
    names = " ".join(check(graphs.inference(model(dtype), rows)))
    assert all(word in names for word in ("prefill", "decode", "scores", "exported"))


def test_a_model_is_made_shallow_and_keeps_its_widths():
    whole = model("bfloat16")
    small = system_of(whole.model_type).shallow(whole, 2)
    assert (small.encoder.n_layers, small.decoder.n_layers) == (2, 2)
    assert small.decoder.d_model == whole.decoder.d_model
