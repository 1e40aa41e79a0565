"""What this kind is beside its sizes; loads nothing heavy."""

STRIDES = (1, 2, 2)  # in time, of each convolution
PRESETS: dict[str, str] = {}  # preset -> the preset that it is with this kind of adapter
