"""What counts as a token."""

import pytest

from mindspore_osum.evaluation.error_rate import error_rates
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
    ("one", "other"),
    [
        ("10：30 1，000 １／２ ２．５", "10:30 1,000 1/2 2.5"),
        ("10∶30 2½", "10:30 2 1/2"),
        ("well--no, well—no, well – no", "well no, well no, well no"),
        ("and/or, and／or", "and or, and or"),
        ("i´m i’m iʼm i＇m i`m i′m", "i'm i'm i'm i'm i'm i'm"),
        ("1990–1995, 1990—1995", "1990-1995, 1990-1995"),
        ("Wi‐Fi Wi‑Fi", "Wi-Fi Wi-Fi"),
        ("hello…world 好……吧", "hello...world 好吧"),
        ("ﬁne ﬂoor ﬀ", "fine floor ff"),
        ("cafe\u0301 \u1112\u1161\u11ab", "café 한"),
        ("a\u00a0b\u202fc\u3000d", "a b c d"),
        ("\ufeffhe\u200bl\u00adlo\u2060 wor\u200dld\u200e", "hello world"),
        ("打\u200b开\ufeff灯 葛\U000e0100", "打开灯 葛"),
        ("❤\ufe0f a\u034fb ㅤ", "❤ ab"),
        ("<a\u200bsr>\u200bhello", "hello"),
        ("第1，2组 第3、4组", "第1 2组 第3 4组"),
        ("是1？2！3；4", "是1?2!3;4"),
        ("｢打開｣､｡ ｶﾞ", "打開 ガ"),
    ],
)
def test_typography_is_no_error(one, other):
    """In words and in characters: what is not shown, and variants of one mark or letter."""
    assert score_tokens(one) == score_tokens(other)
    scores = error_rates([other, one], [one, other])
    assert scores["wer"] == scores["cer"] == 0


def test_spelling_is_an_error():
    """What a reader sees as another word or number stays one."""
    pairs = [
        ("Wi-Fi", "Wi Fi"),
        ("its", "it's"),
        ("10:30", "1030"),
        ("3.5", "35"),
        ("1/2", "12"),
        ("c-a", "ca"),
    ]
    assert all(score_tokens(a) != score_tokens(b) for a, b in pairs)


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
