"""What counts as a token."""

import pytest

from mindspore_osum.evaluation.tokens import language_of, score_tokens


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("turn on the light", ["TURN", "ON", "THE", "LIGHT"]),
        ("打开灯", ["打", "开", "灯"]),
        ("打开Wi-Fi，please!", ["打", "开", "WI-FI", "PLEASE"]),
        ("<asr><age>hello<ADULT>", ["HELLO"]),
        ("< ASR >hello", ["HELLO"]),
        ("<0.21>父<0.47> <0.46>母<0.60>", ["父", "母"]),
        ("ＡＢＣ　１２３．", ["ABC", "123"]),
        ("＜asr＞ｈｉ", ["HI"]),
        ("It's 3.5 o’clock, p.m.", ["IT'S", "3.5", "O'CLOCK", "P.M"]),
        ("one,two 1,000 10:30", ["ONE", "TWO", "1,000", "10:30"]),
        ("“你好”……（再见）", ["你", "好", "再", "见"]),
        ("2021年100%", ["2021", "年", "100%"]),
        ("... -- 。！", []),
        ("", []),
        ("a\tb\nc", ["A", "B", "C"]),
        ("hello <asr", ["HELLO", "ASR"]),
        ("ひらがな", ["ひ", "ら", "が", "な"]),
        ("Café", ["CAFÉ"]),
    ],
)
def test_tokens(text, tokens):
    assert score_tokens(text) == tokens


@pytest.mark.parametrize(
    ("token", "language"),
    [
        ("灯", "zh"),
        ("𠀀", "zh"),
        ("LIGHT", "en"),
        ("WI-FI", "en"),
        ("O'CLOCK", "en"),
        ("12", "other"),
        ("B2", "other"),
        ("が", "other"),
    ],
)
def test_language(token, language):
    assert language_of(token) == language
