"""The released adapter: three causal Conv1d, kernel 3, strides 1, 2, 2 (Geng et al. 2025, 2.1)."""
