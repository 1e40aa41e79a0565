"""Bootstrap intervals."""

import numpy as np
import pytest

from mindspore_osum.evaluation.bootstrap import difference_interval, ratio_interval


def hits(n: int, right: int) -> np.ndarray:
    return np.stack([np.arange(n) < right, np.ones(n)], axis=1)


def test_interval_of_a_share_is_the_textbook_one():
    low, high = ratio_interval(hits(400, 120))
    half = 1.96 * np.sqrt(0.3 * 0.7 / 400)
    assert low == pytest.approx(0.3 - half, abs=0.012)
    assert high == pytest.approx(0.3 + half, abs=0.012)


def test_no_spread_no_width_and_no_utterance_no_interval():
    assert ratio_interval(hits(10, 10)) == [1, 1]
    assert ratio_interval(np.zeros((0, 2))) is None
    assert difference_interval(np.zeros((0, 2)), np.zeros((0, 2))) is None


def test_a_ratio_that_may_have_no_denominator_has_no_interval():
    assert ratio_interval(np.array([[1, 1], [0, 0]])) is None


def test_repeats_and_ignores_order():
    values = np.random.default_rng(1).random((50, 2)) + 0.1
    assert ratio_interval(values) == ratio_interval(values[::-1]) == ratio_interval(values)


def test_a_ratio_of_sums_is_no_mean_of_ratios():
    low, high = ratio_interval(np.array([[1, 1], [0, 99]] * 50))
    assert 0.005 < low < 0.01 < high < 0.02


def test_pairs_cancel_what_they_share():
    """The second answers are right wherever the first are, and on four more: only those four matter."""
    low, high = difference_interval(hits(100, 50), hits(100, 54))
    assert low > 0
    assert high < 0.09
    # unpaired, the spread of either alone would be about 0.1 to each side
    first, second = ratio_interval(hits(100, 50)), ratio_interval(hits(100, 54))
    assert first[1] > second[0]


def test_pairs_keep_their_order():
    rng = np.random.default_rng(2)
    first, second = hits(60, 30)[rng.permutation(60)], hits(60, 40)[rng.permutation(60)]
    order = rng.permutation(60)
    assert difference_interval(first, second) == difference_interval(first[order], second[order])
