"""The released convolutions in PyTorch. Legend: U encoder frames, Z speech tokens, D encoder width."""

from torch.nn import functional


def convolutions(weights: dict, x_UD):
    """(Z, D) of one recording."""
    x_1DU = x_UD.T[None]
    for i, stride in enumerate((1, 2, 2)):
        w, b = weights[f"conv.{i}.weight"], weights[f"conv.{i}.bias"]
        x_1DU = functional.gelu(functional.conv1d(functional.pad(x_1DU, (2, 0)), w, b, stride=stride))
    return x_1DU[0].T
