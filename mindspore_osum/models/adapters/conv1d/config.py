"""Fixed properties of this kind; imports neither MindSpore nor PyTorch."""

STRIDES = (1, 2, 2)  # in time, of each convolution
PRESETS: dict[str, str] = {}  # new preset -> base preset, which gets this kind of adapter
