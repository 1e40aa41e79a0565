"""Random weights for training from scratch, drawn by numpy from a seed: the same on every device and machine.

Linear and convolution weights are normal with std 1/sqrt(fan_in) (LeCun 1998), scaled down by
1/sqrt(2 * layers) where they write to the residual stream (Radford et al. 2019); embeddings normal 0.02
(openPangu's config); norms 1, biases 0; LoRA A Kaiming uniform with a = sqrt(5), B zero (Hu et al. 2022):
training starts from the base model.

Notable choices
- Scale up the convolutions; otherwise positions (rms 0.7) dominate features: log-mel frames have rms 0.4, and
  a GELU more than halves it.
- The adapter scales its input by the root of its width, so its norm starts with the inverse of that;
  otherwise the residual branches of its layers would be negligible.
"""

import numpy as np

from mindspore_osum.systems.config import Config

_STEM_GAIN, _CONV_GAIN = 2.5, 1.7
_SCALED_NORM = "adapter.transformer.embed.1.weight"
_WRITES_RESIDUAL = ("linear_out.weight", "w_2.weight", "o_proj.weight", "down_proj.weight")


def depth_of(cfg: Config, name: str) -> int:
    """Number of layers of the stack that a parameter belongs to; 1 outside of stacks."""
    return getattr(getattr(cfg, name.partition(".")[0], None), "n_layers", 1)


def initial_value(name: str, shape: tuple, depth: int, seed: int) -> np.ndarray:
    """The float32 start value of one parameter; `depth` is the number of layers of its stack."""
    rng = np.random.default_rng([seed, *name.encode()])
    if name.endswith("bias") or "lora_B" in name:
        return np.zeros(shape, np.float32)
    if len(shape) == 1:
        return np.full(shape, shape[0] ** -0.5 if name == _SCALED_NORM else 1.0, np.float32)
    if "embed_tokens" in name or "speech_token_embed" in name:
        return rng.standard_normal(shape, np.float32) * np.float32(0.02)
    fan_in = int(np.prod(shape[1:]))
    if "lora_A" in name:
        return rng.uniform(-1, 1, shape).astype(np.float32) / np.float32(np.sqrt(fan_in))
    std = fan_in**-0.5 * ((2 * depth) ** -0.5 if name.endswith(_WRITES_RESIDUAL) else 1.0)
    if ".conv." in name:
        std *= _STEM_GAIN if name.startswith("encoder.") else _CONV_GAIN
    return rng.standard_normal(shape, np.float32) * np.float32(std)
