"""Number words against digits, in English and Chinese."""

import sys

import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.evaluation.numbers import Numbers
from mindspore_osum.evaluation.tokens import score_tokens

pytest.importorskip("cn2an", reason="needs cn2an (extra numbers)")


@pytest.fixture(scope="module")
def numbers() -> Numbers:
    return Numbers()


@pytest.mark.parametrize(
    ("words", "digits"),
    [
        ("Twenty-one lights, please.", "21 lights please"),
        ("in nineteen ninety nine", "in 1999"),
        ("two thousand and twenty one", "2021"),
        ("three point five percent", "3.5%"),
        ("fifty per cent of one thousand", "50% of 1,000"),
        ("twenty dollars", "$20"),
        ("the twenty first", "the 21st"),
        ("one apple and 1 pear", "1 apple and one pear"),
        ("forty-five-year-old", "45-year-old"),
        ("打开二十一号灯", "打开21号灯"),
        ("二〇二一年五月", "2021年5月"),
        ("二零零八年", "2008年"),
        ("百分之五十五点五", "55.5%"),
        ("百分之50", "50%"),
        ("三点五公里", "3.5公里"),
        ("三点二十分，三点五分", "3点20分，3点5分"),
        ("一万两千", "12,000"),
        ("两万五", "25000"),
        ("一亿三千万", "1.3亿"),
        ("三点二万", "3.2万"),
        ("二分之一", "1/2"),
        ("幺零幺", "101"),
        ("我有八个苹果", "我有8个苹果"),
        ("turn on 二十 lights at twenty", "turn on 20 lights at 20"),
    ],
)
def test_words_equal_digits(numbers, words, digits):
    assert score_tokens(numbers(words)) == score_tokens(numbers(digits))
    assert score_tokens(words) != score_tokens(digits), "without the option they differ"


@pytest.mark.parametrize(
    "text", ["打开Wi-Fi，please!", "it's o'clock", "万分感谢", "and/or", "", "千万别", "点", "。"]
)
def test_other_words_stay(numbers, text):
    assert score_tokens(numbers(text)) == score_tokens(text)


def test_different_numbers_differ(numbers):
    pairs = [("twenty one", "22"), ("二十一", "二十二"), ("3.5", "35"), ("50%", "50"), ("三千", "三百")]
    assert all(score_tokens(numbers(a)) != score_tokens(numbers(b)) for a, b in pairs)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "cn2an", None)
    with pytest.raises(UserError, match=r"--numbers needs cn2an: pip install 'mindspore-osum\[numbers\]'"):
        Numbers()
