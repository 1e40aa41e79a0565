"""WEST's projector: a convolution that joins encoder frames, and two linear layers."""
