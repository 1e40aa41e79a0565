"""Instruction following by rule."""

import pytest

from mindspore_osum.evaluation.rule_judge import fault
from mindspore_osum.tasks import parse_answer, tags_of


@pytest.mark.parametrize(
    ("task", "raw", "why"),
    [
        ("asr", "<asr>hello", None),
        ("asr", "<ASR> hello", None),
        ("asr", "hello", "other tags"),
        ("asr", "<asr><age>hello<ADULT>", "other tags"),
        ("asr", "<asr>", "no transcript"),
        ("asr", "<asr>。", "no transcript"),
        ("asr", "<asr>hello<ADULT>", "unasked age label"),
        ("asr", "<asr>hello <what>", "unreadable tags or labels"),
        ("sap", "<asr><age>hello<adult>", None),
        ("sap", "<asr><age>hello<YOUTH>", None),
        ("sap", "<asr><age>hello", "no age label"),
        ("sap", "<asr><age>hello<TALL>", "no age label"),
        ("sap", "<asr><gender>hello<MALE>", "other tags"),
        ("sap", "<age><asr>hello<ADULT>", "other tags"),
        ("srwt", "<asr><align><0.10>hi<0.20>", None),
        ("srwt", "<asr><align>hi", "no word times"),
        ("srwt", "<asr>hi", "other tags"),
        ("sttc", "<chat>Paris.", None),
        ("sttc", "<chat>", "no reply"),
        ("<TRANSCRIBE> <AGE> <GENDER>", "<asr><age><gender>hi<ADULT><MALE>", None),
        ("<TRANSCRIBE> <AGE> <GENDER>", "<asr><age><gender>hi<MALE>", "no age label"),
        ("<GENDER>", "<gender><MALE>", None),
        ("<GENDER>", "<gender>hi<MALE>", "unasked transcript"),
        ("asr", "<asr>hi<开始回答>ho", "unasked reply"),
        ("<TRANSCRIBE> <S2TCHAT>", "<asr><chat>hi<开始回答>ho", None),
        ("<TRANSCRIBE> <S2TCHAT>", "<asr><chat>ho", "no transcript"),
    ],
)
def test_faults(task, raw, why):
    assert fault(parse_answer(raw, task), tags_of(task)) == why


def test_a_vocal_event_alone_needs_no_words():
    answer = parse_answer("<asr><caption><LAUGH>", "ved")
    assert fault(answer, tags_of("ved")) == "no transcript"
    assert fault(answer, tags_of("ved"), spoken=False) is None
