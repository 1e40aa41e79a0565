"""Accumulated averaging shift (AAS) of word timestamps, in milliseconds.

    AAS = sum over matched words of (|start - start'| + |end - end'|) / 2, divided by the matched words

Source: Shi et al. 2022, "Achieving timestamp prediction while recognizing with non-autoregressive end-to-end
ASR model" (arXiv 2301.12343), used by OSUM-Pangu (Table 3, SRWT) and OSUM (Table 5). Words are matched by the
alignment with the fewest errors. A word that was not recognised has no shift, so the share of matched words
is reported with the AAS.

Legend: N utterances, M matched words.
"""

from collections.abc import Sequence

import numpy as np

from mindspore_osum.evaluation.bootstrap import ratio_interval
from mindspore_osum.evaluation.error_rate import align
from mindspore_osum.evaluation.tokens import score_tokens

Word = tuple[str, float, float]  # word, start in s, end in s


def shifts(references: Sequence[Sequence[Word]], hypotheses: Sequence[Sequence[Word]]) -> list[np.ndarray]:
    """Return the shifts of start and end of each utterance's matched words, (M, 2) float64, signed ms.

    Words are compared as scoring tokens: case, width and punctuation are ignored.
    """
    ref, hyp = [_words(u) for u in references], [_words(u) for u in hypotheses]
    steps = align([[w[0] for w in u] for u in ref], [[w[0] for w in u] for u in hyp])
    out = []
    for r, h, utterance in zip(ref, hyp, steps):
        pairs = [(r[i], h[j]) for i, j in utterance if None not in (i, j) and r[i][0] == h[j][0]]
        out.append(np.array([[b[1] - a[1], b[2] - a[2]] for a, b in pairs], np.float64).reshape(-1, 2) * 1000)
    return out


def shift_columns(shifts_NM2: Sequence[np.ndarray]) -> np.ndarray:
    """Return shift in ms and matched words of each utterance, (N, 2); the AAS is the ratio of their sums."""
    return np.array([(np.abs(s).mean(1).sum(), len(s)) for s in shifts_NM2]).reshape(-1, 2)


def timing_scores(references: Sequence[Sequence[Word]], hypotheses: Sequence[Sequence[Word]]) -> dict:
    """Score word timestamps.

    Returns
    -------
    dict with ``aas_ms`` (None when no word matched) and ``aas_interval_ms`` (95% bootstrap over utterances),
    ``start_ms`` and ``end_ms`` (mean absolute shift of each alone), ``match_rate`` (matched / words of the
    references, a fraction), ``matched``, ``words``, ``reversed_words`` (in answers: end before start).
    """
    moved = shifts(references, hypotheses)
    all_M2 = np.abs(np.concatenate(moved)) if moved else np.zeros((0, 2))
    words = sum(len(_words(u)) for u in references)
    start_ms, end_ms = all_M2.mean(0).tolist() if len(all_M2) else (None, None)
    return {
        "aas_ms": float(all_M2.mean()) if len(all_M2) else None,
        "aas_interval_ms": ratio_interval(shift_columns(moved)),
        "start_ms": start_ms,
        "end_ms": end_ms,
        "match_rate": len(all_M2) / words if words else None,
        "matched": len(all_M2),
        "words": words,
        "reversed_words": sum(end < start for u in hypotheses for _, start, end in u),
    }


def _words(utterance: Sequence[Word]) -> list[Word]:
    """The words as scoring tokens; punctuation alone is not a word."""
    named = [("".join(score_tokens(word)), start, end) for word, start, end in utterance]
    return [word for word in named if word[0]]
