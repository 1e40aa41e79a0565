"""Answers that a model finds doubtful are drawn anew, at higher and higher temperatures (as openai-whisper's
`transcribe` does). An answer that the last one gives is kept."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.inference.tokens import Generated, Tokens
from mindspore_osum.systems.base import System


def fall_back(
    system: System,
    generator: Tokens,
    decode: Callable[[Sequence[int]], str],
    prompts: Sequence,
    found: list[Generated],
    sampling: Sampling,
    rows: int,
) -> None:
    """Replace what is doubtful in `found`, the answers to `prompts`; note the temperature of each.

    Answers that were drawn, because the user wants so, are kept.

    Parameters
    ----------
    decode : tokens -> text.
    rows : as in `Tokens.generate`.
    """
    if not system.temperatures:
        return
    for one in found:
        one.temperature = sampling.temperature
    if not (sampling.greedy and sampling.fallback):
        return
    again = range(len(found))
    for temperature in system.temperatures:
        texts = {n: decode(found[n].tokens) for n in again}
        again = [n for n in again if system.doubtful(texts[n], found[n].facts, found[n].mean_log_p)]
        if not again:
            return
        warmer = replace(sampling, temperature=temperature, beams=1, length_penalty=None, patience=1.0)
        drawn = generator.generate([prompts[n] for n in again], warmer, rows)
        for n, one in zip(again, drawn, strict=True):
            one.temperature = temperature
            found[n] = one
