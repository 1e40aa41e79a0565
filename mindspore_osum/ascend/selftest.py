"""One layer of each kind on the device of this machine, compared with stored values.

Encoder and adapter, prefill and a decode step, and a loss with its gradients, dropout on. Weights and inputs
are drawn on the host, the same everywhere; the stored values are those of plain operators in float32 on CPU
(scripts/make_selftest.py).

Legend: B batch, T mel frames, F mel bins, V vocabulary.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

import numpy as np

from mindspore_osum.config import from_dict
from mindspore_osum.data.batches.batching import bucket_shapes, padded_batch, step_columns
from mindspore_osum.systems.config import Config
from mindspore_osum.systems.prompt import Prompt
from mindspore_osum.systems.registry import DEFAULT, preset, system_of
from mindspore_osum.text.sequence import Audio, Text, lay_out
from mindspore_osum.training.examples import example

STORED = Path(__file__).resolve().parents[1] / "assets" / "selftest.json"
KEPT = 64  # values of each result that are stored, evenly spaced
# largest difference that rounding explains, over the largest value
ALLOWED = {"float32": 2e-3, "float16": 2e-2, "bfloat16": 5e-2}
FRAMES, TEXT, LABEL = 96, 12, 5
SEED = 7


@dataclass(frozen=True)
class Result:
    """A comparison.

    Attributes
    ----------
    name : what was computed.
    difference : largest one, over the largest stored value; NaN if anything is.
    """

    name: str
    difference: float
    allowed: float

    @property
    def is_fine(self) -> bool:
        """Whether rounding explains it."""
        return self.difference <= self.allowed


def config(dtype: str) -> Config:
    """One layer of each stack, with heads and widths that Ascend's operators take as they are."""
    tiny = preset("tiny")
    heads = {"n_heads": 4, "n_kv_heads": 2, "head_dim": 64}
    return replace(
        tiny,
        encoder=replace(tiny.encoder, d_model=128, n_layers=1, n_heads=2, d_ff=256),
        adapter=replace(tiny.adapter, n_layers=1, d_ff=256),
        decoder=replace(tiny.decoder, vocab_size=512, d_model=256, n_layers=1, d_ff=512, **heads),
        lora=replace(tiny.lora, rank=4, alpha=4.0),
        dtype=dtype,
    )


def run(operators: str, dtype: str) -> Iterator[Result]:
    """Compare each result; `measure` says what the arguments are."""
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    for name, values in measure(operators, dtype):
        want = np.array(stored[name])
        off = np.abs(kept(values) - want).max() / np.abs(want).max()
        yield Result(name, float(off), ALLOWED[dtype])


def kept(values: np.ndarray) -> np.ndarray:
    """The values of a result that are stored."""
    flat = values.astype(np.float64).ravel()
    return flat[np.linspace(0, flat.size - 1, min(KEPT, flat.size)).astype(int)]


def measure(operators: str, dtype: str) -> Iterator[tuple[str, np.ndarray]]:
    """Name and values of each result, float32.

    Parameters
    ----------
    operators : "plain" or "fused" (models/ops).
    dtype : of weights and activations.
    """
    from mindspore_osum.models import ops

    ops.use(operators)
    try:
        yield from _answers(dtype)
        yield from _training(dtype)
    finally:
        ops.use(None)


def _model(dtype: str):
    """The model with its weights."""
    from mindspore import Tensor

    cfg = config(dtype)
    model = system_of(DEFAULT).build(cfg)
    for name, param in model.parameters_and_names():
        values = np.random.default_rng([SEED, crc32(name.encode())]).standard_normal(param.shape, np.float32)
        if len(param.shape) == 1:
            values = 0.1 * values + (1 if name.endswith("weight") else 0)
        elif "embed" not in name.split(".")[-2]:
            values *= np.prod(param.shape[1:]) ** -0.5
        param.set_data(Tensor(values.astype(np.float32)).astype(param.dtype))
    return model


def _answers(dtype: str) -> Iterator[tuple[str, np.ndarray]]:
    """Encoder and adapter; scores of prefill and of the step after it."""
    import mindspore as ms
    from mindspore import Tensor

    from mindspore_osum.inference.generate import Generator
    from mindspore_osum.models.joined import prepare

    def values(x) -> np.ndarray:
        return x.astype(ms.float32).asnumpy()

    model = prepare(_model(dtype))
    generator, rng, cfg = Generator(model), np.random.default_rng(SEED), model.cfg
    mel_TF = rng.standard_normal((FRAMES, cfg.features.n_mels), np.float32)
    before, after = np.split(rng.integers(5, cfg.decoder.vocab_size, TEXT), 2)
    sequence = lay_out(None, [Text(before), Audio(cfg.tokens(FRAMES)), Text(after)])
    encoded = generator.compute(generator.parts.encode, [mel_TF[None], np.array([FRAMES], np.int32)])
    yield "encoder layer", encoded[0].astype(np.float32)
    yield "adapter", encoded[2].astype(np.float32)
    prefill, step, rows = generator._graphs(2, 64)
    inputs = generator._inputs([Prompt(sequence, mel_TF)] * 2, rows, 64)
    _, position_B, scores_BV = generator._run(prefill, *inputs)
    yield "decoder layer, prefill", values(scores_BV)
    token_B, penalty_B = np.array([9, 17], np.int32), np.ones(rows, np.float32)
    stepped = generator._run(step, Tensor(token_B), position_B, Tensor(penalty_B))
    yield "decoder layer, decode", values(stepped[2])


def _training(dtype: str) -> Iterator[tuple[str, np.ndarray]]:
    """The loss of a batch with dropout, and its gradients."""
    import mindspore as ms
    from mindspore import Tensor, ops

    from mindspore_osum.models import dropout

    model = _model(dtype).set_train(True)
    system, cfg = system_of(DEFAULT), model.cfg
    for cell in dropout.cells_in(model):  # masks of the form that Ascend has
        cell.form = dropout.ROWS if cell.form == dropout.HASHED else cell.form
    draws = dropout.count_dropout(model, SEED, 0)
    objective = system.objective(model, from_dict(system.job.Sections, {}, "job"), 16, SEED, True)
    rng = np.random.default_rng(SEED)
    examples = [example(rng, cfg, FRAMES, TEXT, LABEL) for _ in range(2)]
    (shape,) = bucket_shapes(cfg, 2, [FRAMES], TEXT)
    batch = padded_batch(system.columns, {"mels": cfg.features.n_mels}, shape, examples)
    batch |= step_columns(2, 3, 2.0, 2.0 * LABEL)
    draws.begin(3)
    names = list(batch)

    def loss(*columns):
        return objective({name: column for name, column in zip(names, columns)})[0]  # noqa: C416

    learned = [p for p in model.get_parameters() if "lora" in p.name or "norm" in p.name]
    graph = ms.jit(ops.value_and_grad(loss, None, ms.ParameterTuple(learned)))
    value, gradients = graph(*(Tensor(column) for column in batch.values()))
    yield "training, loss with dropout", value.astype(ms.float32).asnumpy()
    # norms, in which the rounding of 16 bits averages out
    norms = [np.linalg.norm(gradient.astype(ms.float32).asnumpy()) for gradient in gradients]
    yield "training, norms of gradients", np.array(norms)
