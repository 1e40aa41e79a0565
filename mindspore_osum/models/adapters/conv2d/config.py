"""What this kind is beside its sizes; loads nothing heavy."""

STRIDES = (2, 2)  # in time and width, of each convolution
# preset -> the preset that it is with this kind of adapter
PRESETS = {"osum_pangu_7b_conv2d": "osum_pangu_7b"}  # the paper's text instead of its code
