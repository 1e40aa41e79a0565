"""The matrix products and convolutions of a graph, forward and backward, by what MindSpore compiles."""

import math

import mindspore as ms
from mindspore import ParameterTuple, Tensor, nn, ops
from mindspore.nn.utils import no_init_parameters

from mindspore_osum.data.batches.batching import bucket_shapes, padded_batch, step_columns
from mindspore_osum.models import graph_nodes
from mindspore_osum.systems.registry import system_of
from tests.planning.measure import random_batch

KINDS = ("MatMul", "BatchMatMul", "Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter")


class Gradients(nn.Cell):
    """The loss's gradients of parameters."""

    def __init__(self, model: nn.Cell, learning):
        super().__init__()
        self.model, self.weights = model, ParameterTuple(learning)
        self.gradient = ops.GradOperation(get_by_list=True)

    def construct(self, *columns):
        return self.gradient(self.model, self.weights)(*columns)


def _flops(node: graph_nodes.Node) -> float:
    """2 m k n of an operator; 0 of a product that stands for a sum (models/ops/plain.py)."""
    first, second, *_ = (tensor.shape for value in node.inputs for tensor in value.tensors)
    (out,) = (tensor.shape for value in node.outputs for tensor in value.tensors)
    if node.name == "Conv2D" or node.name == "Conv2DBackpropInput":
        return 2.0 * math.prod(out if node.name == "Conv2D" else first) * math.prod(second[1:])
    if node.name == "Conv2DBackpropFilter":
        return 2.0 * math.prod(first) * math.prod(out[1:])
    inner = math.isqrt(math.prod(first[-2:]) * math.prod(second[-2:]) // math.prod(out[-2:]))
    return 0.0 if node.name == "MatMul" and min(inner, *out) == 1 else 2.0 * math.prod(out) * inner


def products(cfg, learn: list[str], shape: list[int]) -> list[float]:
    """FLOP of every matrix product and convolution in the compiled graph of the loss and its gradients.

    Parameters
    ----------
    shape : of a batch: rows, frames, text tokens.
    """
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    size, frames, text = shape
    (shape,) = bucket_shapes(cfg, size, [frames], text)
    system = system_of(cfg.model_type)
    with no_init_parameters():
        model = system.build(cfg)
    named = model.parameters_and_names()
    learning = [param for name, param in named if system.job.part_of(name) in learn]
    columns = [Tensor(column) for column in random_batch(cfg, shape)]
    return _products(Gradients(model, learning), columns[:7])


class Loss(nn.Cell):
    """The loss of an objective, of columns in the order of `names`."""

    def __init__(self, objective: nn.Cell, names: list[str]):
        super().__init__()
        self.objective, self.names = objective, names

    def construct(self, *columns):
        # a graph loses types with `dict(zip(...))`
        return self.objective({name: values for name, values in zip(self.names, columns)})[0]  # noqa: C416


def objective_products(cfg, learn: list[str], shape: list[int], sections) -> list[float]:
    """As `products`, of the loss that a job with these sections trains with."""
    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    size, frames, text = shape
    (shape,) = bucket_shapes(cfg, size, [frames], text)
    system = system_of(cfg.model_type)
    with no_init_parameters():
        objective = system.objective(system.build(cfg), sections, cfg.decoder.vocab_size, 0, True)
    named = objective.model.parameters_and_names()
    learning = [param for name, param in named if system.job.part_of(name) in learn]
    sizes = {"mels": cfg.features.n_mels}
    columns = padded_batch(system.columns, sizes, shape, []) | step_columns(size, 0, size, size * text)
    inputs = [Tensor(values) for values in columns.values()]
    return _products(Gradients(Loss(objective, list(columns)), learning), inputs)


def _products(cell: nn.Cell, inputs) -> list[float]:
    found = graph_nodes.nodes(cell, *inputs)
    return [flops for node in found if node.name in KINDS and (flops := _flops(node))]


def answering(cfg, rows: int, length: int, slots: int) -> dict[str, list[float]]:
    """As `products`, of the graphs of answers: "prefill" of prompts of `length`, and "step"."""
    from mindspore_osum.inference.generate import Generator

    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    system = system_of(cfg.model_type)
    with no_init_parameters():
        generator = Generator(system.build(cfg))
        prefill, step, _ = generator._graphs(rows, slots)
    prompts = [system.example(cfg, cfg.most_frames, 0)] * rows
    inputs = {"prefill": generator._inputs(prompts, rows, length), "step": generator.step_inputs(rows)}
    cells = {"prefill": prefill.cell, "step": step.cell}
    return {name: _products(cell, inputs[name]) for name, cell in cells.items()}
