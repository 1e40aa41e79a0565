"""A training step outside a run: the real network, optimizer and step cell on made-up examples."""

import time
from collections.abc import Callable

import numpy as np

from mindspore_osum.bench import models
from mindspore_osum.systems.config import Config
from mindspore_osum.systems.registry import to_values

LEARN = ["adapter", "lora"]
LEARNING_RATE, BETAS, EPS, DECAY, CLIP = 1e-4, [0.9, 0.99], 1e-6, 0.01, 5.0


class Training:
    """Network, optimizer and step of a model; every batch shape compiles once."""

    def __init__(self, cfg: Config, learn: list[str] = LEARN):
        models.use_cpu()
        from mindspore_osum.training.assembled import assemble
        from mindspore_osum.training.network import NetworkConfig, TrainingNetwork
        from mindspore_osum.training.schedule import WarmupLR

        self.cfg = cfg
        self.network = TrainingNetwork(NetworkConfig(to_values(cfg), learn=learn))
        rate = WarmupLR(LEARNING_RATE, 1, 10**6)
        self.step = assemble(self.network, rate, DECAY, CLIP, betas=BETAS, eps=EPS)

    def work(self, batch: dict[str, np.ndarray]) -> Callable[[], float]:
        """A function that takes one step on a batch and returns its loss."""
        from mindspore import Tensor

        inputs = [Tensor(column) for column in batch.values()]
        return lambda: float(self.step(*inputs)[0].asnumpy())

    def first(self, batch) -> float:
        """Seconds of the first step of a batch's shape, compiling included."""
        start = time.perf_counter()
        self.work(batch)()
        return time.perf_counter() - start
