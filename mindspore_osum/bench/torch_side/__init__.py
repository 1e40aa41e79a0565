"""The PyTorch side of the benchmark; the only part of it that imports torch."""
