"""Error rates against hand-computed cases and an independent edit distance."""

import random

import pytest

from mindspore_osum.evaluation.error_rate import Errors, align, count_errors, error_columns, error_rates


def test_counts_by_hand():
    # a b c d / a x c: b -> x, d deleted; "e" alone: inserted in front of nothing
    assert count_errors([list("abcd")], [list("axc")]) == [Errors(2, 1, 1, 0)]
    assert count_errors([list("ab"), [], list("a"), []], [list("aeb"), list("xy"), [], []]) == [
        Errors(2, 0, 0, 1),
        Errors(0, 0, 0, 2),
        Errors(0, 0, 1, 0),
        Errors(),
    ]


def test_alignment_names_places():
    assert align([list("abc")], [list("abxc")]) == [[(0, 0), (1, 1), (None, 2), (2, 3)]]
    assert align([["a"], []], [[], ["b"]]) == [[(0, None)], [(None, 0)]]


def test_english_wer_by_hand():
    # 4 + 2 words; "the" -> "a", "please" inserted, "lights" -> "light": 3 errors
    scores = error_rates(["turn on the light", "lights off"], ["Turn on a light, please", "light off"])
    assert scores["wer"] == pytest.approx(3 / 6)
    assert (scores["substitutions"], scores["deletions"], scores["insertions"], scores["tokens"]) == (
        2,
        0,
        1,
        6,
    )
    assert "mer" not in scores
    # characters without spaces: 14 + 9; the -> a is 3 errors, 6 of "please", the "s" is 1
    assert scores["cer"] == pytest.approx(10 / 23)


def test_chinese_is_scored_by_character():
    scores = error_rates(["打开灯", "关灯"], ["打开等", "关 灯。"])
    assert scores["wer"] == scores["cer"] == pytest.approx(1 / 5)


def test_mixed_error_rate_by_hand():
    """As the code-switching figures of the OSUM report: all tokens, and each language's own."""
    # 打 开 THE LIGHT 吧 / 打 看 THE LIGHTS OK 吧: 开 -> 看, LIGHT -> LIGHTS, OK inserted
    scores = error_rates(["打开 the light 吧"], ["打看 the lights ok 吧"])
    assert scores["mer"] == scores["wer"] == pytest.approx(3 / 5)
    assert scores["languages"] == {
        "en": {"wer": pytest.approx(2 / 2), "tokens": 2},
        "zh": {"wer": pytest.approx(1 / 3), "tokens": 3},
    }


def test_inserted_language_without_reference_has_no_rate():
    scores = error_rates(["打开"], ["打开 now"])
    assert scores["languages"]["en"] == {"wer": None, "tokens": 0}
    assert "mer" not in scores
    assert scores["wer"] == pytest.approx(1 / 2)


def test_rates_may_exceed_one_and_perfect_is_zero():
    assert error_rates(["a"], ["b c d"])["wer"] == pytest.approx(3)
    perfect = error_rates(["a b"], ["A b."])
    assert perfect["wer"] == perfect["cer"] == 0
    assert perfect["wer_interval"] == [0, 0]


def test_empty_references_are_counted_and_their_answers_inserted():
    scores = error_rates(["a b", "。"], ["a b", "noise"])
    assert scores["empty_references"] == 1
    assert scores["insertions"] == 1
    assert scores["wer"] == pytest.approx(1 / 2)
    assert error_rates(["。"], [""])["wer"] is None


def test_columns_sum_to_the_rate():
    references, hypotheses = ["a b c", "打开"], ["a x", "打"]
    wrong, tokens = error_columns(references, hypotheses).sum(0)
    assert wrong / tokens == error_rates(references, hypotheses)["wer"]


def test_order_changes_nothing():
    rng = random.Random(3)
    pairs = [(" ".join(rng.choices("abcd", k=5)), " ".join(rng.choices("abcd", k=4))) for _ in range(40)]
    first = error_rates(*zip(*pairs))
    rng.shuffle(pairs)
    assert error_rates(*zip(*pairs)) == first


def test_fewest_errors_like_an_independent_distance():
    def distance(a, b):
        row = list(range(len(b) + 1))
        for i, x in enumerate(a, 1):
            last, row[0] = row[0], i
            for j, y in enumerate(b, 1):
                last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
        return row[-1]

    rng = random.Random(7)
    references = [rng.choices("abc", k=rng.randrange(9)) for _ in range(300)]
    hypotheses = [rng.choices("abc", k=rng.randrange(9)) for _ in range(300)]
    for r, h, errors in zip(references, hypotheses, count_errors(references, hypotheses)):
        assert errors.wrong == distance(r, h)
        assert errors.tokens == len(r)
        assert errors.hits + errors.substitutions + errors.insertions == len(h)
