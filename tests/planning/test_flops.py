"""FLOP counts against the products a real network computes."""

from dataclasses import replace
from math import prod

import numpy as np
import pytest

ms = pytest.importorskip("mindspore")

from mindspore import Tensor, ops  # noqa: E402

from mindspore_osum.models.adapters.config import AdapterConfig  # noqa: E402
from mindspore_osum.models.adapters.kinds import kinds  # noqa: E402
from mindspore_osum.models.llama.config import DecoderConfig, LoraConfig  # noqa: E402
from mindspore_osum.models.whisper.config import EncoderConfig  # noqa: E402
from mindspore_osum.planning.job import Batch, Job  # noqa: E402
from mindspore_osum.planning.programs import training  # noqa: E402
from mindspore_osum.systems.osum.config import ModelConfig  # noqa: E402
from tests.planning.measure import random_batch  # noqa: E402

CFG = ModelConfig(
    encoder=EncoderConfig(d_model=24, n_layers=2, n_heads=3, d_ff=40),
    adapter=AdapterConfig(n_layers=1, n_heads=2, d_ff=28),
    decoder=DecoderConfig(
        vocab_size=53, d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=10, d_ff=36
    ),
    lora=LoraConfig(rank=3, dropout=0.0),
    speech_token_num=3,
)
ROWS, FRAMES, TEXT = 2, 44, 9


def products(cfg: ModelConfig, monkeypatch) -> tuple[list[float], float, Batch]:
    """2 m k n of every matrix product and convolution of a forward pass, by the shapes it has there, and the
    sum of those with a constant, which get no gradient for it: rotations."""
    from mindspore_osum.data.batches.batching import bucket_shapes
    from mindspore_osum.systems.osum.network import OsumModel
    from mindspore_osum.systems.osum.system import SYSTEM

    found, constant = [], []
    e = cfg.decoder.head_dim

    def counted(kind, work):
        original = kind.__call__

        def call(self, *args):
            out = original(self, *args)
            found.append(work(out.shape, *(a.shape for a in args)))
            if args[1].shape == (e, e):
                constant.append(found[-1])
            return out

        monkeypatch.setattr(kind, "__call__", call)

    # a product with a column is a sum written as one (models/ops/plain.py): it is not counted
    counted(ops.MatMul, lambda out, a, b: 2.0 * prod(out) * a[1] if out[1] > 1 else 0.0)
    counted(ops.BatchMatMul, lambda out, a, b: 2.0 * prod(out) * a[-1])
    counted(ops.Conv2D, lambda out, x, w: 2.0 * prod(out) * prod(w[1:]))
    ms.set_context(mode=ms.PYNATIVE_MODE, device_target="CPU")
    model, (shape,) = OsumModel(cfg), bucket_shapes(cfg, ROWS, [FRAMES], TEXT)
    SYSTEM.init_weights(model, 1)
    columns = [Tensor(column) for column in random_batch(cfg, shape)]
    loss = model.set_train(False)(*columns[:7])
    assert np.isfinite(float(loss.asnumpy()))
    return found, sum(constant), Batch(ROWS, ROWS, FRAMES, shape.length, shape.length - 1)


@pytest.mark.parametrize("kind", kinds())
def test_forward_and_backward_are_those_of_the_real_shapes(kind, monkeypatch):
    cfg = replace(CFG, adapter=replace(CFG.adapter, kind=kind, conv_channels=5))
    found, constant, batch = products(cfg, monkeypatch)
    forward = sum(found)
    everything = Job(cfg, frozenset(["encoder", "adapter", "lora", "decoder"]), fused=False)
    tape = training(everything, batch)
    assert sum(step.flops for step in tape.steps[: tape.forward_steps]) == pytest.approx(forward, rel=1e-12)
    # backward: two products for each, but the features and what is constant need no gradient
    first = next(f for f in found if f > 0)
    assert tape.flops == pytest.approx(3 * forward - first - constant, rel=1e-12)
    assert sum(f > 0 for f in found) > 40


def test_what_does_not_learn_costs_less(monkeypatch):
    found, _, batch = products(CFG, monkeypatch)
    tape = training(Job(CFG, frozenset(["lora"]), fused=False), batch)
    # no gradient reaches encoder and adapter; the decoder's own weights get none
    assert sum(found) < tape.flops < 2.5 * sum(found)
