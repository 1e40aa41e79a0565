"""Classification scores by hand."""

import pytest

from mindspore_osum.evaluation.classes import class_scores

VALUES = ("SAD", "ANGER", "HAPPY")


def test_by_hand():
    #            right   wrong    right    no label  right
    refs = ["SAD", "SAD", "ANGER", "ANGER", "SAD"]
    preds = ["SAD", "ANGER", "ANGER", None, "SAD"]
    scores = class_scores(refs, preds, VALUES)
    assert scores["accuracy"] == pytest.approx(3 / 5)
    assert {c: r["recall"] for c, r in scores["recall"].items()} == {
        "SAD": pytest.approx(2 / 3),
        "ANGER": 1 / 2,
    }
    assert {c: r["items"] for c, r in scores["recall"].items()} == {"SAD": 3, "ANGER": 2}
    assert scores["unweighted_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    # SAD: P 2/2, R 2/3, F1 4/5; ANGER: P 1/2, R 1/2, F1 1/2; HAPPY has no items and does not count
    assert scores["macro_f1"] == pytest.approx((4 / 5 + 1 / 2) / 2)
    assert scores["confusion"] == {
        "labels": ["SAD", "ANGER", "HAPPY", "none"],
        "rows": [[2, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0]],
    }
    assert (scores["items"], scores["no_label"], scores["references_outside_set"]) == (5, 1, 0)


def test_labels_outside_the_set():
    scores = class_scores(["SAD", "ROBOT", None], ["ROBOT", "SAD", "SAD"], VALUES)
    assert (scores["items"], scores["references_outside_set"], scores["no_label"]) == (1, 2, 1)
    assert scores["accuracy"] == 0


def test_nothing_to_score():
    scores = class_scores([None], ["SAD"], VALUES)
    assert (scores["accuracy"], scores["macro_f1"], scores["accuracy_interval"]) == (None, None, None)


def test_guessing_one_class_pays_in_accuracy_not_in_f1():
    scores = class_scores(["SAD"] * 9 + ["ANGER"], ["SAD"] * 10, VALUES)
    assert scores["accuracy"] == pytest.approx(0.9)
    assert scores["unweighted_accuracy"] == pytest.approx(0.5)
    assert scores["macro_f1"] == pytest.approx((18 / 19 + 0) / 2)


def test_intervals_hold_the_value_and_ignore_order():
    refs, preds = ["SAD", "ANGER", "HAPPY"] * 40, ["SAD", "ANGER", "SAD", "SAD", "ANGER", "HAPPY"] * 20
    scores = class_scores(refs, preds, VALUES)
    for name in ("accuracy", "macro_f1"):
        low, high = scores[f"{name}_interval"]
        assert low < scores[name] < high
        assert high - low < 0.25
    low, high = scores["recall"]["HAPPY"]["interval"]
    assert low < 0.5 < high
    assert class_scores(refs[::-1], preds[::-1], VALUES) == scores
