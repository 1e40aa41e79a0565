"""Buffers that checkpoints carry and our model computes: positions and rotary frequencies.

They are compared on the way in, so that a checkpoint made with other positions is not converted to a model
that computes the usual ones, and computed on the way back where they are asked for.

Legend: N rows (positions), D width.
"""

from collections.abc import Iterator

import numpy as np

from mindspore_osum.models.positions import interleaved_sinusoids, inverse_frequencies, sinusoids
from mindspore_osum.systems.osum.config import ModelConfig
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
    """The values of a derived buffer in float32, as the model computes them, in blocks of its rows, flat.

    Parameters
    ----------
    key : its key, in any form of checkpoint; tells which kind it is.
    shape : (..., N, D) of a table of positions, (E/2,) of rotary frequencies.
    """
    if key.endswith("inv_freq"):
        yield inverse_frequencies(2 * shape[-1], cfg.decoder.rope_theta)
        return
    n, d = shape[-2:]
    table = interleaved_sinusoids if key.startswith("speech_transformer.") else sinusoids
    for start in range(0, n, _BLOCK):
        yield table(min(_BLOCK, n - start), d, start).reshape(-1)


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
