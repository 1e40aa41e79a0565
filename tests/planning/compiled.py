"""The matrix products and convolutions of a compiled graph, forward and backward, by what MindSpore compiled.

    python -m tests.planning.compiled CASE        see `products`; started by measure.measured

MindSpore writes its graphs down as text when an environment variable says so before it is imported, hence a
process of its own.
"""

import json
import math
import os
import re
import sys
import tempfile
from pathlib import Path

from tests.planning.measure import random_batch

NODE = re.compile(
    r"= (?:PrimFunc_)?(MatMul|BatchMatMul|Conv2D|Conv2DBackpropInput|Conv2DBackpropFilter)\("
    r".*?\n\s*: \((.*?)\) -> \((.*?)\)\n",
    re.DOTALL,
)
SHAPE = re.compile(r"<Tensor\[\w+\], \(([\d, ]*)\)")


def _flops(kind: str, inputs: list[tuple[int, ...]], out: tuple[int, ...]) -> float:
    """2 m k n of an operator; 0 of a product that stands for a sum (models/ops/plain.py)."""
    first, second = inputs[:2]
    if kind == "Conv2D" or kind == "Conv2DBackpropInput":
        return 2.0 * math.prod(out if kind == "Conv2D" else first) * math.prod(second[1:])
    if kind == "Conv2DBackpropFilter":
        return 2.0 * math.prod(first) * math.prod(out[1:])
    inner = math.isqrt(math.prod(first[-2:]) * math.prod(second[-2:]) // math.prod(out[-2:]))
    return 0.0 if kind == "MatMul" and min(inner, *out) == 1 else 2.0 * math.prod(out) * inner


def products(case: dict) -> dict:
    """FLOP of every matrix product and convolution in the compiled graph of the loss and its gradients.

    Parameters
    ----------
    case : the model, `learn`, and the shape of a batch: rows, frames, text tokens.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"MS_DEV_SAVE_GRAPHS": "1", "MS_DEV_SAVE_GRAPHS_PATH": folder}
        import mindspore as ms
        from mindspore import Tensor

        from mindspore_osum.data.batches.batching import bucket_shapes
        from mindspore_osum.systems.registry import from_values, system_of

        ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
        cfg, (size, frames, text) = from_values(case["model"], "case"), case["shape"]
        (shape,) = bucket_shapes(cfg, size, [frames], text)
        system = system_of(cfg.model_type)
        model = system.build(cfg)
        system.init_weights(model, 1)
        named = model.parameters_and_names()
        learning = [param for name, param in named if system.job.part_of(name) in case["learn"]]
        columns = [Tensor(column) for column in random_batch(cfg, shape)]
        loss, _ = ms.value_and_grad(model, None, weights=learning)(*columns[:7])
        (graph,) = Path(folder).glob("*_validate_*.ir")
        found = []
        for kind, *ends in NODE.findall(graph.read_text(encoding="utf-8")):
            inputs, (out,) = (
                [tuple(int(n) for n in sizes.split(",") if n.strip()) for sizes in SHAPE.findall(end)]
                for end in ends
            )
            found.append(_flops(kind, inputs, out))
    return {"loss": float(loss.asnumpy()), "flops": [f for f in found if f]}


if __name__ == "__main__":
    print(json.dumps(products(json.loads(sys.argv[1]))))
