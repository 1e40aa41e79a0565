"""Buffers that checkpoints carry and our model computes: positions and rotary frequencies.

They are compared on the way in, so that a checkpoint made with other positions is not converted to a model
that computes the usual ones, and computed on the way back where they are asked for.

Legend: N rows (positions), D width.
"""

from collections.abc import Iterator

import numpy as np

from mindspore_osum.config import ModelConfig
from mindspore_osum.weights_io import Weights

# tables of positions in the forms of checkpoint -> rows they usually have
POSITIONS = {
    "encoder.embed.pos_enc.pe": 30000,
    "speech_transformer.embed.pos_enc.pe": 5000,
    "encoder.embed_positions.weight": 1500,
    "encoder.positional_embedding": 1500,
}
_BLOCK = 4096  # rows computed at a time
# bfloat16 rounds 1.0 to 0.4 %; float32 angles at row 30000 are off by 0.2 %
_TOLERANCE = 1e-2


def derived_blocks(key: str, shape: tuple[int, ...], cfg: ModelConfig) -> Iterator[np.ndarray]:
    """The values of a derived buffer in float64, in blocks of its rows, flat.

    Parameters
    ----------
    key : its key, in any form of checkpoint; tells which kind it is.
    shape : (..., N, D) of a table of positions, (E/2,) of rotary frequencies.
    """
    if key.endswith("inv_freq"):
        exponents = np.arange(shape[-1]) / shape[-1]
        yield cfg.decoder.rope_theta**-exponents
        return
    n, d = shape[-2:]
    for start in range(0, n, _BLOCK):
        positions_N1 = np.arange(start, min(n, start + _BLOCK), dtype=np.float64)[:, None]
        if key.startswith("speech_transformer."):
            # Vaswani et al. 2017: sin and cos interleaved
            angles_ND = positions_N1 * 10000.0 ** (-np.arange(0, d, 2) / d)
            yield np.stack([np.sin(angles_ND), np.cos(angles_ND)], axis=-1).reshape(-1)
        else:
            # Whisper: all sines, then all cosines
            angles_ND = positions_N1 * 10000.0 ** (-np.arange(d // 2) / (d // 2 - 1))
            yield np.concatenate([np.sin(angles_ND), np.cos(angles_ND)], axis=1).reshape(-1)


def differs(weights: Weights, key: str, plain: str, cfg: ModelConfig) -> bool:
    """Whether the buffer `key` of a checkpoint is not what our model computes."""
    info = weights.infos[key]
    is_table = not plain.endswith("inv_freq")
    width = cfg.encoder.d_model if is_table else cfg.decoder.head_dim // 2
    if len(info.shape) < 1 + is_table or info.shape[-1] != width or np.prod(info.shape[: -1 - is_table]) != 1:
        return True
    found = weights.read(key).reshape(-1)
    start = 0
    for block in derived_blocks(plain, info.shape, cfg):
        error = np.abs(found[start : start + block.size] - block)
        if not np.all(error <= _TOLERANCE * (1.0 if is_table else block)):
            return True
        start += block.size
    return False
