"""Accumulated averaging shift by hand."""

import numpy as np
import pytest

from mindspore_osum.evaluation.timing import shifts, timing_scores

REFERENCE = [("父", 0.21, 0.47), ("母", 0.46, 0.60)]


def test_by_hand():
    # 父: start +20 ms, end -10 ms; 母: start +40, end +50 -> (15 + 45) / 2
    scores = timing_scores([REFERENCE], [[("父", 0.23, 0.46), ("母", 0.50, 0.65)]])
    assert scores["aas_ms"] == pytest.approx(30)
    assert (scores["start_ms"], scores["end_ms"]) == (pytest.approx(30), pytest.approx(30))
    assert (scores["match_rate"], scores["matched"], scores["words"]) == (1, 2, 2)


def test_shifts_are_signed():
    (moved,) = shifts([REFERENCE[:1]], [[("父", 0.20, 0.50)]])
    assert np.allclose(moved, [[-10, 30]])


def test_only_matched_words_have_a_shift():
    scores = timing_scores([REFERENCE], [[("父", 0.21, 0.47), ("木", 9.0, 9.9), ("嗯", 9.9, 10)]])
    assert scores["aas_ms"] == pytest.approx(0)
    assert scores["match_rate"] == pytest.approx(1 / 2)


def test_words_match_as_they_are_scored():
    scores = timing_scores(
        [[("Hello,", 0, 1), ("。", 1, 1), ("World", 1, 2)]], [[("hello", 0, 1), ("world", 1, 2.1)]]
    )
    assert (scores["words"], scores["match_rate"]) == (2, 1)
    assert scores["aas_ms"] == pytest.approx(25)


def test_repeated_words_match_in_order():
    scores = timing_scores([[("a", 0, 1), ("b", 1, 2), ("a", 2, 3)]], [[("b", 1, 2), ("a", 2, 3)]])
    assert (scores["matched"], scores["aas_ms"]) == (2, 0)


def test_longer_utterances_weigh_more():
    # 3 matched words off by 10 ms, 1 by 50 ms: 20 ms, not the mean of the utterances (30 ms)
    off = [("a", 0.01, 1.01), ("b", 1.01, 2.01), ("c", 2.01, 3.01)]
    scores = timing_scores(
        [[("a", 0, 1), ("b", 1, 2), ("c", 2, 3)], [("a", 0, 1)]], [off, [("a", 0.05, 1.05)]]
    )
    assert scores["aas_ms"] == pytest.approx(20)


def test_nothing_matched_or_nothing_given():
    scores = timing_scores([REFERENCE], [[]])
    assert (scores["aas_ms"], scores["aas_interval_ms"], scores["match_rate"]) == (None, None, 0)
    assert timing_scores([], [])["match_rate"] is None


def test_words_that_end_before_they_start_are_counted():
    assert timing_scores([REFERENCE], [[("父", 0.5, 0.2)]])["reversed_words"] == 1
