"""Prefill: from a prompt of text to the scores of its first new token and a filled cache, against PyTorch."""

from mindspore_osum.bench import models
from mindspore_osum.bench.card import Outcome
from mindspore_osum.bench.decode import Decoding, prompt_of
from mindspore_osum.bench.setup import Setup
from mindspore_osum.bench.timing import race

LENGTHS = (128, 512)  # positions; 10 s of speech and a prompt are about 230


def run(setup: Setup) -> Outcome:
    """Measure; the ratio is the worse of both lengths."""
    out, ratios = Outcome(), []
    ours = Decoding(models.build(models.DECODER_QUICK if setup.quick else models.DECODER_90M))
    with setup.torch() as torch:
        torch.ask("load_decoder", folder=models.for_torch(ours.generator.model, "hf_decoder", setup.folder))
        for length in LENGTHS:
            ids = prompt_of(ours.cfg, length).sequence.ids_L.tolist()
            mine, other = race(
                ours.run(1, length=length), torch.run("prefill", ids=ids), rounds=2 if setup.quick else 5
            )  # fmt: skip
            out.figure(f"prefill_{length}_s", mine.median, f"{length} positions, ours", str(mine))
            out.figure(f"prefill_{length}_s_torch", other.median, f"{length} positions, PyTorch", str(other))
            ratios.append(other.median / mine.median)
    out.ratio("prefill_vs_torch", min(ratios))
    return out
