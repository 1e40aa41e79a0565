"""One of several processes that train a small model cut over them, as msrun starts it.

    msrun ... tests/parallel/worker.py FOLDER     with FOLDER/cases.json

Every case is trained by process 0 alone, and by all in semi-automatic parallel mode; FOLDER/RANK.json has
for each case what came out: losses, the largest difference of a weight's slice, the collectives.
"""

import json
import os
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import cpu_semi_auto
import mindspore as ms
import numpy as np
from mindformers.modules.transformer import TransformerOpParallelConfig, TransformerRecomputeConfig
from mindspore import Tensor, nn
from mindspore.communication import init

from mindspore_osum.data.batches.batching import STEP_COLUMNS, TARGETS, UTTERANCES
from mindspore_osum.models import dropout
from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig
from mindspore_osum.models.ops import use
from mindspore_osum.models.sharding import ParallelConfig
from mindspore_osum.models.whisper.config import EncoderConfig
from mindspore_osum.systems.init import initial_value
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.osum.extractor import COLUMNS
from mindspore_osum.training.adamw import OsumAdamW
from mindspore_osum.training.mindformers_job import plain
from mindspore_osum.training.network import NetworkConfig, TrainingNetwork
from mindspore_osum.training.parallel_step import ParallelTrainStep
from mindspore_osum.training.schedule import WarmupLR
from mindspore_osum.training.step import TrainStep
from tests.models.common import make_item, pack

CFG = ModelConfig(
    encoder=EncoderConfig(n_mels=80, d_model=32, n_layers=1, n_heads=4, d_ff=48),
    adapter=AdapterConfig(n_layers=1, n_heads=4, d_ff=40),
    decoder=DecoderConfig(
        vocab_size=64, d_model=24, n_layers=2, n_heads=8, n_kv_heads=4, head_dim=6, d_ff=56, max_positions=512
    ),
    lora=LoraConfig(rank=3, alpha=5.0, dropout=0.1),
    speech_token_num=7,
)
ROWS, FRAMES, LENGTH, STEPS = 8, 32, 24, 3


def batch(step: int) -> dict[str, np.ndarray]:
    """ROWS utterances of different lengths, as the loader gives them."""
    rng = np.random.default_rng(step)
    items = [
        make_item(CFG, int(rng.integers(9, FRAMES)), 4, int(rng.integers(5, 12)), 100 * step + i)
        for i in range(ROWS)
    ]
    mel, lengths, ids, rows, labels, positions, segments = (
        t.asnumpy() for t in pack(items, [[i] for i in range(ROWS)], FRAMES, LENGTH)
    )
    spans = np.where(labels < 0, 0, np.where(np.cumsum(labels >= 0, 1) <= 2, 1, 2)).astype(np.int32)
    heads = [np.zeros((ROWS, 4), np.int32), np.zeros(ROWS, np.int32)]  # of losses that are not used
    heads += [np.full((ROWS, n), -100, np.int32) for n in (4, 5)]
    counts = [np.arange(step * ROWS, (step + 1) * ROWS, dtype=np.int32)]
    counts += [np.full(ROWS, count, np.float32) for count in (ROWS, (labels >= 0).sum())]
    names = (*(column.name for column in COLUMNS), *STEP_COLUMNS)
    columns = (mel, lengths, ids, rows, labels, positions, segments, spans, *heads, *counts)
    return dict(zip(names, columns, strict=True))


def network(case: dict, path: str = "plain") -> TrainingNetwork:
    """The training network with weights in which nothing is 0 or 1, by the operators of `path`."""
    use(path)
    model = replace(CFG, lora=replace(CFG.lora, dropout=case.get("dropout", CFG.lora.dropout)))
    config = NetworkConfig(
        model=plain(model.to_dict()),
        seed=1,
        sections={"loss": {"intent": 2.0, "content": 0.5}},
        learn=case.get("learn", ["encoder", "adapter", "lora", "decoder"]),
    )
    dropout.form_for = lambda width: dropout.ROWS if case.get("rows") else dropout.HASHED
    recompute = TransformerRecomputeConfig(recompute=case.get("recompute", False))
    config.parallel_config = TransformerOpParallelConfig(recompute=recompute, **case["parallel"])
    net = TrainingNetwork(config)
    for name, param in net.model.parameters_and_names():
        value = initial_value(name, param.shape, 1, 7)
        noise = np.random.default_rng([*name.encode()]).standard_normal(param.shape, np.float32)
        param.set_data(Tensor(value * 30 if "embed" in name.split(".")[-2] else value + 0.2 * noise))
    return net.set_train()


def optimizer(net, case: dict):
    """SGD, or AdamW as in jobs."""
    params = net.trainable_params()
    if case.get("optimizer", "sgd") == "sgd":
        return nn.SGD(params, WarmupLR(0.1, 1, 10**9, "linear"))
    return OsumAdamW(params, WarmupLR(1e-3, 1, 10**9, "linear"), betas=(0.9, 0.99), eps=1e-3)


def alone(case: dict) -> dict:
    """Losses of the steps and the weights after them, by one process."""
    ms.reset_auto_parallel_context()
    net, micros = network(case), case.get("micros", 1)
    cell = TrainStep(
        net, optimizer(net, case), accumulation=micros, use_clip_grad=True, max_grad_norm=1.0
    ).set_train()
    shown = []
    for step in range(STEPS):
        parts = {name: np.split(column, micros) for name, column in batch(step).items()}
        shown.append(0)
        for m in range(micros):
            out = cell(*(Tensor(share(column[m], name, micros)) for name, column in parts.items()))
            shown[-1] = shown[-1] + shown_of(out)
            norm = float(out[4].asnumpy())
        means = [bool(over) for over in ("loss", *net.over)]  # the others are sums and counts
        shown[-1][: len(means)][means] /= micros
    return {"shown": shown, "norm": norm} | {p.name: p.asnumpy() for p in net.trainable_params()}


def shown_of(out) -> np.ndarray:
    """The loss and what is shown beside it, of a step's outputs."""
    return np.concatenate([out[0].asnumpy().reshape(1), *(part.asnumpy() for part in out[5:])])


def share(column: np.ndarray, name: str, micros: int) -> np.ndarray:
    """A column of a micro-batch: speech rows of its own slots, targets of its share of the step."""
    if name == "speech_row_BL":
        tokens = -(-FRAMES // 8)
        first = column[column >= 2].min() - 2
        return np.where(column >= 2, column - first // (tokens * len(column)) * tokens * len(column), column)
    return column / micros if name in (UTTERANCES, TARGETS) else column


def together(case: dict, rank: int, want: dict) -> dict:
    """The same in semi-automatic parallel mode, compared."""
    ms.reset_auto_parallel_context()
    p, micros = ParallelConfig(**case["parallel"]), case.get("micros", 1)
    cpu_semi_auto.set_parallel(**case.get("context", {}), pipeline_stages=p.pipeline_stage)
    before = len(cpu_semi_auto.collectives())
    net, forward = network(case, case.get("ops", "plain")), []
    params = net.trainable_params()
    wrapped = net
    if p.pipeline_stage > 1:
        wrapped = nn.PipelineCell(net, micros)
    elif micros > 1:
        wrapped = nn.GradAccumulationCell(net, micros)
    cell = ParallelTrainStep(
        wrapped,
        optimizer(net, case),
        micro_batch_num=micros,
        stages=p.pipeline_stage,
        use_clip_grad=True,
        max_grad_norm=1.0,
    )
    if case.get("forward"):  # the optimizer has been made: its state is cut like weights that are still whole
        net.set_train(False)(*map(Tensor, batch(0).values()))
        forward, before = collectives(before), len(cpu_semi_auto.collectives())
    cell.set_train()
    shown = []
    for step in range(STEPS):
        out = cell(*map(Tensor, batch(step).values()))
        shown.append(shown_of(out))
    layouts, off, cut = cell.parameter_layout_dict, {}, 0
    for param in params:
        if param.name not in layouts:
            continue
        mine = param.asnumpy()
        full = cpu_semi_auto.local_slice(want[param.name], layouts[param.name], rank)
        cut += full.shape != want[param.name].shape
        off[param.name] = float(np.abs(full - mine).max()) if full.shape == mine.shape else 1e9
    worst = max(off, key=off.get)
    return {
        "shown": np.abs(np.array(shown) - want["shown"]).max(0).tolist(),
        "weight": off[worst],
        "worst": worst,
        "cut": cut,
        "compared": len(off),
        "of": len(params),
        "norm": abs(float(out[4].asnumpy()) - float(want["norm"])),
        "losses": [float(s[0]) for s in shown],
        "forward": forward,
        "operators": operators(),
        "collectives": collectives(before),
    }


def operators() -> list[str]:
    """Ascend's operators that ran, with their types."""
    if "ascend_ops_cpu" not in sys.modules:
        return []
    return sorted(sys.modules["ascend_ops_cpu"].calls(reset=True))


def collectives(first: int) -> list[list]:
    """Operator, processes and shape of the collectives that were compiled, from the `first` on."""
    return [[c["op"], c["ranks"], c["shape"]] for c in cpu_semi_auto.collectives()[first:]]


def run_cases(folder: Path, rank: int) -> None:
    """Run the cases in FOLDER/cases.json."""
    found = {}
    for name, case in json.loads((folder / "cases.json").read_text()).items():
        reference = folder / f"alone_{case['alone']}.npz"
        if rank == 0 and not reference.exists():
            partial = folder / f"partial_{case['alone']}.npz"
            np.savez(partial, **alone(case))
            os.replace(partial, reference)
        while not reference.exists():
            time.sleep(0.2)
        began = time.time()
        try:
            found[name] = together(case, rank, dict(np.load(reference)))
        except Exception as error:
            traceback.print_exc()
            found[name] = {"error": str(error)[:2000]}
        found[name]["seconds"] = round(time.time() - began)
        (folder / f"{rank}.json").write_text(json.dumps(found))


def main(folder: Path) -> None:
    """Join the other processes, run the cases."""
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    init()
    rank = int(os.environ["RANK_ID"])
    if "ASCEND_OPS_CPU_LIB" in os.environ:
        import ascend_ops_cpu

        ascend_ops_cpu.enable()
    cpu_semi_auto.enable(trace=str(folder / f"trace{rank}.jsonl"), timeout=600)
    run_cases(folder, rank)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
