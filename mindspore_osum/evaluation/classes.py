"""Scores of the classification tasks: vocal events, emotion, style, gender, age.

Notable choices
- An answer without a label, or with a label outside the set, is wrong; it is counted under "none".
- An item whose reference has no label of the set cannot be scored; it is left out and counted.
- Class means are over the classes that occur in the references: a test set need not cover the label set.

Legend: N items, C classes, P predictions (the classes and "none"), R resamples.
"""

from collections.abc import Sequence

import numpy as np

from mindspore_osum.evaluation.bootstrap import percentiles, ratio_interval, resampled_sums

NONE = "none"


def class_scores(references: Sequence[str | None], predictions: Sequence[str | None], values: Sequence[str]):
    """Score one label per item.

    Parameters
    ----------
    references, predictions : values of the set, or None (`tasks.parse_answer` resolves aliases)
    values : the label set

    Returns
    -------
    dict with, as fractions,

    - ``accuracy``: correct / items (ACC of OSUM-Pangu, Table 1, and OSUM, Table 5).
    - ``accuracy_interval``: 95% bootstrap interval over items, as every ``interval`` here.
    - ``unweighted_accuracy``: mean recall of the classes (the OSUM report averages VocalSound this way).
    - ``macro_f1``: mean F1 of the classes, 2 TP / (items + predictions); ``macro_f1_interval``.
    - ``recall``: class -> {recall, interval, items}.
    - ``confusion``: {"labels", "rows"}: rows are references, columns predictions, last column "none".
    - counts: ``items``, ``no_label`` (answers without a label of the set), ``references_outside_set``.
    """
    kept = [(r, p) for r, p in zip(references, predictions, strict=True) if r in values]
    place = {value: c for c, value in enumerate(values)}
    ref_N = np.array([place[r] for r, _ in kept], np.int64)
    pred_N = np.array([place.get(p, len(values)) for _, p in kept], np.int64)
    table_CP = np.zeros((len(values), len(values) + 1), np.int64)
    np.add.at(table_CP, (ref_N, pred_N), 1)
    recall = {values[c]: _recall(ref_N == c, pred_N == c) for c in np.unique(ref_N)}
    return {
        "accuracy": float(np.mean(ref_N == pred_N)) if kept else None,
        "accuracy_interval": ratio_interval(_hits(ref_N == pred_N)),
        "unweighted_accuracy": float(np.mean([r["recall"] for r in recall.values()])) if kept else None,
        "macro_f1": float(_macro_f1(table_CP[None])[0]) if kept else None,
        "macro_f1_interval": _macro_f1_interval(ref_N, pred_N, table_CP.shape) if kept else None,
        "recall": recall,
        "confusion": {"labels": [*values, NONE], "rows": table_CP.tolist()},
        "items": len(kept),
        "no_label": int((pred_N == len(values)).sum()),
        "references_outside_set": len(references) - len(kept),
    }


def _hits(right_N: np.ndarray) -> np.ndarray:
    return np.stack([right_N, np.ones(len(right_N))], axis=1)


def _recall(mine_N: np.ndarray, predicted_N: np.ndarray) -> dict:
    return {
        "recall": float(predicted_N[mine_N].mean()),
        "interval": ratio_interval(np.stack([mine_N & predicted_N, mine_N], axis=1)),
        "items": int(mine_N.sum()),
    }


def _macro_f1(tables_RCP: np.ndarray) -> np.ndarray:
    """Macro F1 of each confusion table, over the classes that have items in it."""
    items_RC, guesses_RC = tables_RCP.sum(2), tables_RCP.sum(1)[:, :-1]
    right_RC = np.diagonal(tables_RCP, axis1=1, axis2=2)
    f1_RC = 2 * right_RC / np.maximum(items_RC + guesses_RC, 1)
    seen_RC = items_RC > 0
    return (f1_RC * seen_RC).sum(1) / seen_RC.sum(1)


def _macro_f1_interval(ref_N: np.ndarray, pred_N: np.ndarray, shape: tuple[int, int]) -> list[float] | None:
    cells_NK = np.zeros((len(ref_N), shape[0] * shape[1]), np.int8)
    cells_NK[np.arange(len(ref_N)), ref_N * shape[1] + pred_N] = 1
    return percentiles(_macro_f1(resampled_sums(cells_NK).reshape(-1, *shape)))
