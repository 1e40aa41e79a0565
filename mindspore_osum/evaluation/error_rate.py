"""Word, character and mixed error rates by minimum edit distance (jiwer).

    rate = (substitutions + deletions + insertions) / tokens of the reference

over all utterances together, as in the "Overall" line of `compute-wer.py`. Rates are fractions and may
exceed 1.

Legend: N utterances.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mindspore_osum.evaluation.bootstrap import ratio_interval
from mindspore_osum.evaluation.tokens import language_of, score_tokens

Step = tuple[int | None, int | None]  # index in reference and hypothesis; None: inserted, deleted


@dataclass(frozen=True)
class Errors:
    """Error counts of one or more utterances."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __add__(self, other: "Errors") -> "Errors":
        return Errors(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    @property
    def tokens(self) -> int:
        """Tokens of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def wrong(self) -> int:
        """All errors."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float | None:
        """Errors per token of the reference; None if the reference is empty."""
        return self.wrong / self.tokens if self.tokens else None


def align(references: Sequence[list[str]], hypotheses: Sequence[list[str]]) -> list[list[Step]]:
    """Align each hypothesis to its reference with the fewest errors.

    An empty reference makes every token of its hypothesis an insertion.
    """
    import jiwer

    steps: list[list[Step]] = [
        [*((i, None) for i in range(len(r))), *((None, j) for j in range(len(h)))]
        for r, h in zip(references, hypotheses, strict=True)
    ]
    both = [n for n, (r, h) in enumerate(zip(references, hypotheses)) if r and h]
    if not both:
        return steps
    found = jiwer.process_words(*([" ".join(side[n]) for n in both] for side in (references, hypotheses)))
    for n, chunks in zip(both, found.alignments):
        steps[n] = [step for chunk in chunks for step in _steps_of(chunk)]
    return steps


def count_errors(references: Sequence[list[str]], hypotheses: Sequence[list[str]]) -> list[Errors]:
    """Count the errors of each utterance, given as tokens."""
    steps = align(references, hypotheses)
    return [_count(r, h, s) for r, h, s in zip(references, hypotheses, steps)]


def error_columns(references: Sequence[str], hypotheses: Sequence[str]) -> np.ndarray:
    """Return errors and reference tokens of each transcript, (N, 2); the WER is the ratio of their sums."""
    errors = count_errors(*([score_tokens(t) for t in side] for side in (references, hypotheses)))
    return np.array([(e.wrong, e.tokens) for e in errors]).reshape(-1, 2)


def error_rates(references: Sequence[str], hypotheses: Sequence[str]) -> dict:
    """Score transcripts.

    Returns
    -------
    dict with, as fractions,

    - ``wer``: over words and Chinese characters. It is the WER of an English set, the CER of a Chinese set
      and the mixed error rate of a mixed set; OSUM-Pangu (Table 1) and OSUM (Table 4) call it "WER/CER".
    - ``wer_interval``: 95% bootstrap interval over utterances.
    - ``cer``: over the characters of all tokens, without spaces.
    - ``mer``: equal to ``wer``; only if the references have both languages.
    - ``languages``: tokens and rate of each of en, zh, other that occurs. A substitution or deletion counts
      for the language of the reference token, an insertion for that of the inserted token (compute-wer's
      clusters; the OSUM report, section 3.3: MER/CER/WER of code-switching).
    - counts: ``utterances``, ``tokens``, ``substitutions``, ``deletions``, ``insertions``, and
      ``empty_references`` (no tokens except punctuation; all tokens of their answers are insertions).
    """
    ref, hyp = [score_tokens(t) for t in references], [score_tokens(t) for t in hypotheses]
    steps = align(ref, hyp)
    errors = [_count(r, h, s) for r, h, s in zip(ref, hyp, steps)]
    total = sum(errors, Errors())
    characters = sum(count_errors(*([list("".join(t)) for t in side] for side in (ref, hyp))), Errors())
    languages = _by_language(ref, hyp, steps)
    out = {
        "wer": total.rate,
        "wer_interval": ratio_interval(np.array([(e.wrong, e.tokens) for e in errors])),
        "cer": characters.rate,
    }
    if all(languages.get(name, Errors()).tokens for name in ("en", "zh")):
        out["mer"] = total.rate
    return out | {
        "languages": {name: {"wer": e.rate, "tokens": e.tokens} for name, e in sorted(languages.items())},
        "utterances": len(errors),
        "tokens": total.tokens,
        "substitutions": total.substitutions,
        "deletions": total.deletions,
        "insertions": total.insertions,
        "empty_references": sum(not r for r in ref),
    }


def _count(reference: list[str], hypothesis: list[str], steps: list[Step]) -> Errors:
    return sum((_count_step(reference, hypothesis, i, j) for i, j in steps), Errors())


def _by_language(references, hypotheses, steps) -> dict[str, Errors]:
    out: dict[str, Errors] = {}
    for r, h, utterance in zip(references, hypotheses, steps):
        for i, j in utterance:
            name = language_of(h[j] if i is None else r[i])
            out[name] = out.get(name, Errors()) + _count_step(r, h, i, j)
    return out


def _count_step(reference: list[str], hypothesis: list[str], i: int | None, j: int | None) -> Errors:
    if i is None:
        return Errors(insertions=1)
    if j is None:
        return Errors(deletions=1)
    return Errors(hits=1) if reference[i] == hypothesis[j] else Errors(substitutions=1)


def _steps_of(chunk) -> list[Step]:
    ref, hyp = range(chunk.ref_start_idx, chunk.ref_end_idx), range(chunk.hyp_start_idx, chunk.hyp_end_idx)
    if chunk.type == "delete":
        return [(i, None) for i in ref]
    if chunk.type == "insert":
        return [(None, j) for j in hyp]
    return list(zip(ref, hyp))
