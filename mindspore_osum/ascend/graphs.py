"""The graphs that a job or a model has on Ascend, as lists of operators: compiled, not run, on any machine.

Notable choices
- Widths, heads and shapes are the real ones. Of each stack of layers two are compiled, as all are alike.
- Weights have shapes but no values, so even the 7B model takes little memory here.

Legend: B batch, L positions, T mel frames, F mel bins.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mindspore_osum.data.batches.batching import Shape, packed_batch, padded_batch, step_columns
from mindspore_osum.data.batches.packing import room_for
from mindspore_osum.errors import UserError
from mindspore_osum.models.buckets import SMALLEST_LENGTH, batch_bucket, bucket
from mindspore_osum.systems.config import Config
from mindspore_osum.systems.registry import system_of, to_values
from mindspore_osum.training import part_rates
from mindspore_osum.training.config import TrainConfig, own_sections, shapes_of

LAYERS = 2
SECONDS, REQUEST, ANSWER = 30.0, 64, 400  # of a recording; tokens
LABELS = 8, 6, 2  # label sets: rows, tokens of an answer, tokens that all begin with
LARGEST_CTC = 4096  # tokens of a CTC head whose random weights are drawn for nothing


@dataclass(frozen=True)
class Graph:
    """A graph of a program.

    Attributes
    ----------
    name : what it computes, with its shape, as "decode of 8 rows, 1024 slots".
    nodes : its operators, models/graph_nodes.py.
    """

    name: str
    nodes: list


@contextmanager
def on_ascend() -> Iterator[None]:
    """Cells made inside are those of Ascend, with weights that have no values."""
    import mindspore as ms
    from mindspore.nn.utils import no_init_parameters

    from mindspore_osum.models.target import made_for

    ms.set_context(mode=ms.GRAPH_MODE)
    with made_for("Ascend"), no_init_parameters():
        yield


def _nodes(cell, inputs) -> list:
    """Operators of a cell for arrays or tensors, None for what is absent."""
    from mindspore import Tensor

    from mindspore_osum.models.graph_nodes import nodes

    return nodes(cell, *(Tensor(x) if isinstance(x, np.ndarray) else x for x in inputs))


def training(job: TrainConfig, model: Config, layers: int = LAYERS) -> Iterator[Graph]:
    """The steps of a job on one device, one for each shape of its batches, and its validation.

    Parameters
    ----------
    model : to train, as `Config`.
    layers : compiled of each stack of layers.
    """
    step, evaluation = _step(job, system_of(model.model_type).shallow(model, layers))
    shapes = shapes_of(job.batch, model)
    batches = {_named(job, shape): _batch(job, model, shape) for shape in shapes}
    for name, batch in batches.items():
        yield Graph(f"training step, {name}", _nodes(step.set_train(True), batch))
    yield Graph(f"validation, {name}", _nodes(evaluation.set_train(False), batch))


def _named(job: TrainConfig, shape: Shape) -> str:
    """A shape of a job in words."""
    if job.batch.pack:
        return f"{shape.size} packs of {job.batch.pack} positions"
    frames = f", {shape.frames} frames" if job.batch.seconds else ""
    return f"{shape.size} rows of {shape.length} positions{frames}"


def _step(job: TrainConfig, model: Config):
    """The cells of a job's training step and validation."""
    from mindspore_osum.training import mindformers_job

    with tempfile.TemporaryDirectory() as folder:
        mindformers_job.import_mindformers(Path(folder))
    from mindspore_osum.training.assembled import assemble
    from mindspore_osum.training.network import Evaluation, NetworkConfig, TrainingNetwork
    from mindspore_osum.training.schedule import WarmupLR

    vocab, speech = min(model.decoder.vocab_size, LARGEST_CTC), bool(job.batch.seconds)
    config = NetworkConfig(
        to_values(model),
        learn=job.learn,
        sections=own_sections(job),
        vocab=vocab,
        seed=job.seed,
        speech=speech,
    )
    optimizer = job.optimizer
    with on_ascend():
        network = TrainingNetwork(config)
        for weight in network.trainable_params():  # the optimizer copies them
            weight.init_data()
        rate = WarmupLR(optimizer.lr, job.schedule.warmup_steps, 10**6, job.schedule.kind)
        step = assemble(
            network,
            rate,
            optimizer.weight_decay,
            job.clip_norm,
            job.accumulation,
            betas=optimizer.betas,
            eps=optimizer.eps,
            **part_rates.arguments(optimizer, model.model_type),
        )
        evaluation = Evaluation(network)
    step.ascend_910b_target = True  # MindSpore's own step asks the driver
    return step, evaluation


def _batch(job: TrainConfig, model: Config, shape: Shape) -> list[np.ndarray]:
    """An empty batch of a job: only its shapes and types matter."""
    columns, sizes = system_of(model.model_type).columns, {"mels": model.features.n_mels}
    if job.batch.pack:
        lengths = np.array([shape.length]), np.array([shape.speech if job.batch.seconds else 0])
        room, empty = room_for(model, *lengths, job.batch.pack), [[]] * shape.size
        batch = packed_batch(columns, sizes, room, shape.text_tokens, empty, empty)
    else:
        batch = padded_batch(columns, sizes, shape, [])
    return [*(batch | step_columns(shape.size, 0, 1.0, 1.0)).values()]


def inference(model: Config, rows: int, layers: int = LAYERS) -> Iterator[Graph]:
    """The graphs of answers: prefill of recordings of `SECONDS`, decode, choices, scores of labels, times of
    words; and those of an export.

    Parameters
    ----------
    rows : recordings answered together.
    layers : as in `training`.
    """
    from mindspore_osum.inference.generate import Generator
    from mindspore_osum.inference.sampling import Sampling
    from mindspore_osum.models.joined import prepare

    system = system_of(model.model_type)
    model = system.shallow(model, layers)
    prompt = system.example(model, _frames(model), REQUEST)
    rows, length = batch_bucket(rows), bucket(len(prompt), SMALLEST_LENGTH)
    with on_ascend():
        network = prepare(system.build(model).set_train(False))
        generator = Generator(network)
        new = generator.parts.settings(Sampling(max_new_tokens=ANSWER)).max_new_tokens
        slots = bucket(min(length + new, model.decoder.max_positions), SMALLEST_LENGTH)
        prefill, step, _ = generator._graphs(rows, slots)
        scorer = system.label_scorer(network, None, None)
        aligner = system.aligner(network, None, None)
    inputs = generator._inputs([prompt] * rows, rows, length)
    yield Graph(f"prefill of {rows} rows, {length} positions", _nodes(prefill.cell, inputs))
    yield Graph(f"decode of {rows} rows, {slots} slots", _nodes(step.cell, generator.step_inputs(rows)))
    yield from _choices(model.decoder.vocab_size, rows)
    if scorer is not None:
        count, tokens, shared = LABELS
        answers = [[1] * tokens] * count
        yield Graph(f"scores of {count} labels", _nodes(scorer.cell, scorer.inputs(prompt, answers, shared)))
    if aligner is not None:
        inputs = aligner.inputs([], rows, SMALLEST_LENGTH)
        yield Graph(f"alignment of {rows} rows, {SMALLEST_LENGTH} positions", _nodes(aligner.cell, inputs))
    yield from _exported(model, len(prompt), slots)


def _choices(vocab: int, rows: int) -> Iterator[Graph]:
    """The graphs that look at scores: how likely a token is, and the best ones for a draw."""
    from mindspore_osum.inference.cells import Best, LogProbability
    from mindspore_osum.inference.generate import BEST

    scores_BV, token_B = np.zeros((rows, vocab), np.float32), np.zeros(rows, np.int32)
    with on_ascend():
        yield Graph(f"log-probability of {rows} tokens", _nodes(LogProbability(), [scores_BV, token_B]))
        best, one = Best(min(BEST[0], vocab), vocab), np.ones(1, np.float32)
        yield Graph(f"draws of {rows} tokens", _nodes(best, [scores_BV, one]))


def _frames(model: Config) -> int:
    return min(model.most_frames, model.features.frames_in(SECONDS))


def _exported(model: Config, length: int, slots: int) -> Iterator[Graph]:
    """The graphs of `osum export`, of one recording."""
    from mindspore_osum.models import ops

    system = system_of(model.model_type)
    try:
        exports = system.export()
    except UserError:
        return
    ops.use("carried")
    try:
        with on_ascend():
            network = system.build(model).set_train(False)
            made = exports.graphs_of(network, exports.Sizes(1, _frames(model), length, slots))
    finally:
        ops.use(None)
    for name, (cell, inputs) in made.items():
        yield Graph(f"exported {name}", _nodes(cell.set_train(False), inputs))
