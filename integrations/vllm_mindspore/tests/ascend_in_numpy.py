"""The Ascend operators of vLLM-MindSpore's LlamaModel in NumPy, for one prompt from its beginning on.

Legend: P positions, H heads, E head size.
"""

import numpy as np
from mindspore import Tensor


def replace(model) -> None:
    """Put them into the cells of a LlamaModel; all else stays vLLM-MindSpore's."""
    for _, cell in model.cells_and_names():
        kind = type(cell).__name__
        if kind == "RMSNorm":
            cell.rms_norm = _rms_norm(cell.eps)
        elif kind == "SiluAndMul":
            cell.split = lambda x, sizes, dim: tuple(map(Tensor, np.split(x.asnumpy(), 2, dim)))
        elif kind == "VocabParallelEmbedding":
            cell.quant_method.embedding = lambda layer, ids: Tensor(layer.weight.asnumpy()[ids.asnumpy()])
        elif kind == "InferRotaryEmbedding":
            cell.rotary_embedding_op = _rotary(cell.head_size)
        elif kind == "Attention":
            cell.reshape_and_cache = lambda key, value, *caches: key
            cell.flash_attention = _causal_attention(cell)


def _rms_norm(eps: float):
    def norm(x, weight):
        x = x.asnumpy()
        return (Tensor(x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight.asnumpy()),)

    return norm


def _rotary(size: int):
    """Of halves, ApplyRotaryPosEmb(2): tables have a row for each position of the model."""

    def rotated(x, cos, sin):
        x_PHE = x.asnumpy().reshape(-1, x.shape[-1] // size, size)
        half = np.concatenate((-x_PHE[..., size // 2 :], x_PHE[..., : size // 2]), -1)
        rows = slice(0, len(x_PHE))
        out = x_PHE * cos.asnumpy()[rows, None] + half * sin.asnumpy()[rows, None]
        return Tensor(out.reshape(x.shape).astype(np.float32))

    return lambda query, key, cos, sin, lengths: (rotated(query, cos, sin), rotated(key, cos, sin))


def _causal_attention(cell):
    heads, groups, size = cell.num_heads, cell.num_kv_heads, cell.head_size

    def attention(query, key, value, *others):
        q, k, v = (
            x.asnumpy().reshape(-1, n, size) for x, n in ((query, heads), (key, groups), (value, groups))
        )
        k, v = (np.repeat(x, heads // groups, 1) for x in (k, v))
        scores = np.einsum("phe,she->hps", q, k) / np.sqrt(size)
        scores += np.triu(np.full(scores.shape[1:], -np.inf), 1)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out = np.einsum("hps,she->phe", weights / weights.sum(-1, keepdims=True), v)
        return None, None, None, Tensor(out.reshape(query.shape).astype(np.float32))

    return attention
