"""Bootstrap intervals over utterances (Efron 1979; Bisani and Ney 2004 for error rates).

Notable choices
- Nearly every headline metric here is a ratio of two sums over utterances (errors per token, hits per item,
  shift per timestamp), so one resampling serves all. The interval spans the central percentiles.
- Utterances are sorted by value before the seeded draws: the interval depends on neither order nor batches.

Legend: N utterances, K columns, R resamples.
"""

import numpy as np

RESAMPLES = 1000
LEVEL = 0.95


def resampled_sums(columns_NK: np.ndarray) -> np.ndarray:
    """Return the sums of the columns in each resample of N out of N utterances, (R, K) float64."""
    n, rng = len(columns_NK), np.random.default_rng(0)
    sorted_NK = columns_NK[np.lexsort(columns_NK.T)].astype(np.float64)
    draws = (np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(RESAMPLES))
    return np.array([times_N @ sorted_NK for times_N in draws])


def percentiles(values_R: np.ndarray) -> list[float] | None:
    """Return the bounds of the central 95% of the resampled values; None if any value is not a number."""
    if not np.isfinite(values_R).all():
        return None
    tail = 50 * (1 - LEVEL)
    return [float(v) for v in np.percentile(values_R, [tail, 100 - tail])]


def ratio_interval(ratio_N2: np.ndarray) -> list[float] | None:
    """Return the 95% interval of sum(first column) / sum(second column).

    None without utterances, or if a resample has a denominator of 0 (too few utterances count).
    """
    if not len(ratio_N2):
        return None
    return percentiles(_divide(resampled_sums(ratio_N2)))


def difference_interval(first_N2: np.ndarray, second_N2: np.ndarray) -> list[float] | None:
    """Return the 95% interval of ratio(second) - ratio(first), paired: both use the same resamples.

    Parameters
    ----------
    first_N2, second_N2 : numerators and denominators of the same utterances in the same order
    """
    if not len(first_N2):
        return None
    sums_R4 = resampled_sums(np.concatenate([first_N2, second_N2], axis=1))
    return percentiles(_divide(sums_R4[:, 2:]) - _divide(sums_R4[:, :2]))


def _divide(sums_R2: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return sums_R2[:, 0] / sums_R2[:, 1]
