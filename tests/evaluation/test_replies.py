"""Containment, ROUGE-L and BLEU by hand."""

import math

import pytest

from mindspore_osum.evaluation.replies import (
    answer_scores,
    bleu,
    contains_answer,
    contains_words,
    rouge_l,
    translation_scores,
)


@pytest.mark.parametrize(
    ("reply", "answers", "right"),
    [
        ("The capital of France is Paris.", ["paris"], True),
        ("I think of parisian food", ["Paris"], False),
        ("New York City", ["City of New York", "New York"], True),
        ("York is new", ["New York"], False),
        ("It was written by the Beatles", ["Beatles"], True),
        ("by Beatles", ["The Beatles"], True),
        ("There are seven days", ["7"], True),
        ("There are 7 days", ["seven"], True),
        ("法国的首都是巴黎。", ["巴黎"], True),
        ("法国的首都是里昂", ["巴黎"], False),
        ("", ["Paris"], False),
        ("anything", [""], False),
        ("anything", ["the"], False),
        ("ＰＡＲＩＳ", ["Paris"], True),
    ],
)
def test_containment(reply, answers, right):
    assert contains_answer(reply, answers) is right


@pytest.mark.parametrize(
    ("reply", "answers", "right"),
    [
        ("Of parisian food", ["Paris"], True),  # a part of a word
        ("York is new.", ["New York"], True),  # in any order
        ("It is London", ["Paris", "London!"], True),
        ("It is London", ["Paris"], False),
        ("There are 21 days", ["twenty-one"], True),
        ("some 1250 of them", ["one thousand two hundred and fifty"], True),
        ("some 21 of them", ["twenty-one", "many"], False),  # not all are numbers
        ("法国的首都是巴黎。", ["巴黎"], True),
        ("it's", ["it's"], True),
        ("anything", ["..."], False),
        ("", ["Paris"], False),
    ],
)
def test_containment_of_words(reply, answers, right):
    assert contains_words(reply, answers) is right


def test_answer_scores():
    scores = answer_scores(
        ["Paris", "London", "Rome", "42"], [["Paris"], ["Paris"], ["Rome"], ["42", "forty-two"]]
    )
    assert scores["accuracy"] == pytest.approx(3 / 4)
    assert scores["items"] == 4
    low, high = scores["accuracy_interval"]
    assert low < 0.75 < high
    assert answer_scores([], [])["accuracy"] is answer_scores([], [])["contained"] is None
    assert answer_scores(["parisian", "x"], [["Paris"], ["y"]])["contained"] == 0.5


def test_rouge_l_by_hand():
    # common subsequence "THE CAT SAT" (3); hypothesis 4 words, reference 6: P 3/4, R 3/6, F1 = 0.6
    assert rouge_l("the cat quickly sat", ["the cat sat on the mat"]) == pytest.approx(0.6)
    assert rouge_l("police the gunman killed", ["police killed the gunman"]) == pytest.approx(3 / 4)
    assert rouge_l("猫坐着", ["猫坐下", "猫坐着"]) == 1
    assert rouge_l("", ["a"]) == rouge_l("b", ["a"]) == 0


def test_bleu_by_hand():
    # 1- to 4-grams of the hypothesis that match: 5/6, 3/5, 2/4, 1/3; same length, so no penalty
    score = bleu(["the cat sat on the rug"], [["the cat sat on a rug"]])
    assert score == pytest.approx((5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25)


def test_bleu_clips_and_punishes_brevity():
    assert bleu(["the the the the the"], [["the cat is on the mat"]]) == 0
    # all n-grams match, 4 words against 6
    assert bleu(["the cat is on"], [["the cat is on the mat"]]) == pytest.approx(math.exp(1 - 6 / 4))
    # the reference of the closest length counts
    assert bleu(["the cat is on"], [["the cat is on the mat", "a cat is on"]]) == pytest.approx(1)


def test_bleu_is_of_the_corpus():
    """Counts are summed before they are divided: not the mean of the sentences."""
    hyps, refs = ["a b c d e", "v w x y"], [["a b c d e"], ["v w x z"]]
    matches = [(5 + 3) / 9, (4 + 2) / 7, (3 + 1) / 5, (2 + 0) / 3]
    assert bleu(hyps, refs) == pytest.approx(math.prod(matches) ** 0.25)
    assert bleu([], []) is None


def test_translation_scores():
    scores = translation_scores(["今天天气很好", "x"], [["今天天气很好"], ["你好"]])
    assert scores["rouge_l"] == pytest.approx(0.5)
    assert scores["items"] == 2
    # 6 + 0 of 7 characters, then 5/5, 4/4, 3/3; 7 characters against 8
    assert scores["bleu"] == pytest.approx((6 / 7) ** 0.25 * math.exp(1 - 8 / 7))
