"""Fixed properties of this kind; imports neither MindSpore nor PyTorch."""

STRIDES = (2, 2)  # in time and width, of each convolution
# new preset -> base preset, which gets this kind of adapter
PRESETS = {"osum_pangu_7b_conv2d": "osum_pangu_7b"}  # as in the paper's text, not its code
