"""Sizes of the adapter; does not import MindSpore."""

import math
from dataclasses import dataclass

from mindspore_osum.models.adapters.kinds import module_of


@dataclass(frozen=True)
class AdapterConfig:
    """Convolutions (4x shorter in time), Transformer layers, a projection to the decoder's width."""

    kind: str = "conv1d"  # type of the convolutions: a folder of models/adapters/
    n_layers: int = 4  # Transformer layers
    n_heads: int = 4
    d_ff: int = 2560
    norm_eps: float = 1e-5
    conv_channels: int = 32  # channels of 2-D convolutions; other kinds do not use it
    dropout: float = 0.0  # in training only

    def tokens(self, frames):
        """Number of speech tokens for a number of encoder frames (int or array)."""
        for stride in self._strides:
            frames = -(-frames // stride)
        return frames

    @property
    def frames_per_token(self) -> int:
        """Encoder frames per speech token."""
        return math.prod(self._strides)

    @property
    def _strides(self) -> tuple[int, ...]:
        return module_of(self.kind, "config").STRIDES
