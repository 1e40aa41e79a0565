"""A training step outside a run: the real network, optimizer and step cell on made-up examples.

Legend: T mel frames, F mel bins, L positions.
"""

import time
from collections.abc import Callable

import numpy as np

from mindspore_osum.bench import models
from mindspore_osum.data.batches.extractor import Example
from mindspore_osum.systems.base import Config
from mindspore_osum.systems.registry import system_of, to_values
from mindspore_osum.text.sequence import Audio, Text, lay_out

LEARN = ["adapter", "lora"]
LEARNING_RATE, BETAS, EPS, DECAY, CLIP = 1e-4, [0.9, 0.99], 1e-6, 0.01, 5.0


def example(rng: np.random.Generator, cfg: Config, frames: int, text: int, label: int) -> Example:
    """Noise of this many mel frames between `text` random tokens, the last `label` of which are learned."""
    ids = rng.integers(5, cfg.decoder.vocab_size, text)
    before, after, learned = np.split(ids, [(text - label) // 2, text - label])
    spans = [Text(before), Audio(cfg.tokens(frames)), Text(after), Text(learned, loss="content")]
    mel_TF = rng.standard_normal((frames, cfg.features.n_mels), np.float32)
    sequence = lay_out(None, spans, system_of(cfg.model_type).template(cfg).losses)
    return {"mel_BTF": mel_TF, "mel_len_B": np.array(frames), **sequence.columns}


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
