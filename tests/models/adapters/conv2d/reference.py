"""The convolutions of the paper in PyTorch.

Legend: U encoder frames, Z speech tokens, C channels, D width.
"""

from torch.nn import functional


def convolutions(weights: dict, x_UD):
    """(Z, D) of one recording."""
    x_1CUD = x_UD[None, None]
    for i in range(2):
        w, b = weights[f"conv.{i}.weight"], weights[f"conv.{i}.bias"]
        x_1CUD = functional.gelu(functional.conv2d(x_1CUD, w, b, stride=2, padding=1))
    x_ZCD = x_1CUD[0].transpose(0, 1)
    return functional.linear(x_ZCD.flatten(1), weights["conv_out.weight"], weights["conv_out.bias"])
