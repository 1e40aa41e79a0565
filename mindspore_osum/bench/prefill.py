"""Prefill: from a prompt of text to the scores of its first new token and a filled cache, against PyTorch."""

import numpy as np

from mindspore_osum.bench import models
from mindspore_osum.bench.card import Outcome
from mindspore_osum.bench.decode import Decoding, prompt_of
from mindspore_osum.bench.setup import Setup
from mindspore_osum.bench.timing import clocked, race

LENGTHS = (128, 512)  # positions; 10 s of speech and a prompt are about 230


def run(setup: Setup) -> Outcome:
    """Measure; the ratio is the worse of both lengths."""
    out, ratios = Outcome(), []
    ours = Decoding(models.build(models.DECODER_QUICK if setup.quick else models.DECODER_90M))
    with setup.torch() as torch:
        torch.ask("load_decoder", folder=models.for_torch(ours.generator.model, "hf_decoder", setup.folder))
        for length in LENGTHS:
            ids = prompt_of(ours.cfg, length).ids_L.tolist()
            mine, other = race(
                ours.run(1, length=length),
                torch.run("prefill", ids=ids),
                rounds=2 if setup.quick else 5,
                warm=setup.warm,
            )
            out.figure(f"prefill_{length}_s", mine.median, f"{length} positions, ours", str(mine))
            out.figure(f"prefill_{length}_s_torch", other.median, f"{length} positions, PyTorch", str(other))
            ratios.append(other.median / mine.median)
        _product(setup, out, ours.cfg, torch)
    out.ratio("prefill_vs_torch", min(ratios))
    return out


def _product(setup: Setup, out: Outcome, cfg, torch) -> None:
    """One matrix product of the MLP, which prefill mostly is, on both sides."""
    import mindspore as ms
    from mindspore import Tensor

    from mindspore_osum.models.ops import matmul_t

    shape = LENGTHS[-1], cfg.d_model, cfg.d_ff
    rng = np.random.default_rng(0)
    x, w = (Tensor(rng.standard_normal((n, cfg.d_model), np.float32)) for n in (shape[0], shape[2]))

    def product(x, w):
        return matmul_t(x, w)

    graph = ms.jit(product)
    ours = clocked(lambda: graph(x, w).asnumpy())
    timings = race(ours, torch.run("product", shape=shape), rounds=5 if setup.quick else 15)
    rates = [2 * np.prod(shape) / timing.median / 1e9 for timing in timings]
    out.figure(
        "gemm_gflops",
        rates[0],
        f"a product {shape[0]} x {shape[1]} x {shape[2]}, ours and PyTorch's",
        f"{rates[0]:.0f}, {rates[1]:.0f} GFLOP/s",
    )
