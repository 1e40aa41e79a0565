"""An adapter on the planner's tape: the convolutions of its kind, then the layers of all kinds."""

from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.adapters.kinds import module_of
from mindspore_osum.models.cost import transformer_layers


def adapter(ops, x, cfg: AdapterConfig, d: int, d_out: int, rows: int, frames: int, learns: bool):
    """Speech tokens of width `d_out`; `ops` as in models/cost.py.

    Parameters
    ----------
    x : the value of `rows` times `frames` encoder frames of width `d`.
    """
    tokens = cfg.tokens(frames)
    x = module_of(cfg.kind, "cost").convolutions(ops, x, cfg, d, rows, frames, learns)
    x = ops.norm(ops.linear(x, d, d, learns), d, learns, centred=True)
    ops.table(x.bytes)
    x = ops.same("add", ops.copy(x))  # scale by the root of the width; add positions
    sizes = (rows, tokens, d, cfg.n_heads, cfg.d_ff)
    x = transformer_layers(ops, x, sizes, cfg.n_layers, learns, gelu=False, dropout=cfg.dropout)
    return ops.linear(ops.norm(x, d, learns, centred=True), d, d_out, learns)
