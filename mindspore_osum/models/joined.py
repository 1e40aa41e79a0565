"""A loaded model with fewer and larger operators, for answering; training and files have them apart.

Notable choices
- On Ascend the start of an operator takes longer than a token's share of it: queries, keys and values are one
  product, gate and up another, and biases are added in the operator of the product.
- Cells with a gradient of their own are replaced (`for_answers`), as none is needed. MindSpore would not
  see through them, and copy every weight that is read before and after one, at each call: in Whisper's step
  the table of tokens, twice.
- On CPU, oneDNN is faster with weights (d_in, d_out) where few rows or a long inner axis are multiplied.
- Adapters are merged into their weights (Hu et al. 2022, section 4.1): a sum in float32, rounded once.
"""

import mindspore as ms
from mindspore import nn

from mindspore_osum.models import ops
from mindspore_osum.models.layers import Linear
from mindspore_osum.models.llama.network import DecoderAttention, DecoderMLP
from mindspore_osum.models.whisper.decoder import CausalAttention


def prepare(model: nn.Cell, merge_lora: bool = True) -> nn.Cell:
    """Change a model whose weights are loaded; it only answers from now on, and cannot be saved.

    Parameters
    ----------
    model : a cell with `cfg`.
    merge_lora : else adapters stay, and the products of modules that have any are not joined.
    """
    joins = ops.cells(getattr(ms, model.cfg.dtype)).JOINS
    for cell in [cell for _, cell in model.cells_and_names()]:
        if merge_lora and isinstance(cell, Linear):
            cell.merge_lora()
    for cell in [cell for _, cell in model.cells_and_names()] if joins else []:
        adapted = any(isinstance(x, Linear) and x.lora_A is not None for x in cell.cells())
        if isinstance(cell, CausalAttention | DecoderAttention | DecoderMLP) and not adapted:
            cell.join()
    for cell in [cell for _, cell in model.cells_and_names()] if joins else []:
        if isinstance(cell, Linear):
            cell.fuse_bias()
    for cell in [cell for _, cell in model.cells_and_names() if hasattr(cell, "for_answers")]:
        cell.for_answers()
    for name, param in model.parameters_and_names():
        param.name = name  # of the joined ones: names in a graph are unique
    return model
