"""Paired comparison of fixed instructions and natural language (OSUM-Pangu, Table 3).

Legend: N utterances.
"""

from collections.abc import Sequence

from mindspore_osum.evaluation.bootstrap import difference_interval
from mindspore_osum.evaluation.scoring import Case, headline


def compare_prompts(task: str, fixed: Sequence[Case], natural: Sequence[Case]) -> dict | None:
    """Compare the answers of one task to fixed and to natural prompts, on the utterances that have both.

    Returns
    -------
    dict with the task's headline ``metric`` (see `scoring.headline`), its value for ``fixed`` and
    ``natural``, the ``difference`` natural - fixed with its 95% bootstrap ``interval`` over the pairs, and
    ``pairs``; None for a task without headline or without pairs.
    """
    first = {c.utterance.key: c for c in fixed}
    second = {c.utterance.key: c for c in natural}
    keys = sorted(first.keys() & second.keys())
    if not keys:
        return None
    before, after = (headline(task, [side[k] for k in keys]) for side in (first, second))
    if before is None or after is None:
        return None
    (metric, first_N2), (_, second_N2) = before, after
    values = [float(n / d) if d else None for n, d in (first_N2.sum(0), second_N2.sum(0))]
    return {
        "metric": metric,
        "fixed": values[0],
        "natural": values[1],
        "difference": None if None in values else values[1] - values[0],
        "interval": difference_interval(first_N2, second_N2),
        "pairs": len(keys),
    }
