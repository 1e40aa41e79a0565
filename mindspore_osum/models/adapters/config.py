"""Sizes of the adapter; loads nothing heavy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AdapterConfig:
    """Convolutions (4x shorter in time), Transformer layers, a projection to the decoder's width."""

    kind: str = "conv1d"  # "conv1d": the released 3 x Conv1d; "conv2d": the paper's 2 x Conv2d
    n_layers: int = 4  # Transformer layers
    n_heads: int = 4
    d_ff: int = 2560
    norm_eps: float = 1e-5
    conv_channels: int = 32  # channels of the 2-D convolutions; not used by "conv1d"
    dropout: float = 0.0  # in training only
