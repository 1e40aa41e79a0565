"""The matrix products and convolutions of a graph, forward and backward, by what MindSpore compiles."""

import math

import mindspore as ms
import numpy as np
from mindspore import ParameterTuple, Tensor, nn, ops
from mindspore.nn.utils import no_init_parameters

from mindspore_osum.data.batches.batching import TARGETS, UTTERANCES, bucket_shapes
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


class WhisperLoss(nn.Cell):
    """The loss of a Whisper, of columns in order."""

    def __init__(self, objective: nn.Cell):
        super().__init__()
        self.objective = objective

    def construct(self, mel_BTF, mel_len_B, ids_BS, labels_BS, spans_BS, targets_B, utterances_B):
        columns = {
            "mel_BTF": mel_BTF,
            "mel_len_B": mel_len_B,
            "token_ids_BS": ids_BS,
            "labels_BS": labels_BS,
            "spans_BS": spans_BS,
            TARGETS: targets_B,
            UTTERANCES: utterances_B,
        }
        return self.objective(columns)[0]


def whisper_products(cfg, learn: list[str], shape: list[int], smoothing: float) -> list[float]:
    """As `products`, of a Whisper that trains."""
    from mindspore_osum.systems.whisper_asr.job import Loss
    from mindspore_osum.systems.whisper_asr.objective import WhisperObjective

    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    rows, frames, tokens = shape
    system = system_of(cfg.model_type)
    with no_init_parameters():
        model = system.build(cfg)
    named = model.parameters_and_names()
    learning = [param for name, param in named if system.job.part_of(name) in learn]
    whole, ids = np.full(rows, frames, np.int32), np.ones((rows, tokens), np.int32)
    mel, ones = np.ones((rows, frames, cfg.encoder.n_mels), np.float32), np.ones(rows, np.float32)
    inputs = map(Tensor, (mel, whole, ids, ids, ids, ones, ones))
    return _products(Gradients(WhisperLoss(WhisperObjective(model, Loss(smoothing))), learning), inputs)


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
