"""Verdicts of a language model: reading, keeping, and what is missing."""

import json

import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.evaluation import asking
from mindspore_osum.evaluation.endpoint import Endpoint
from mindspore_osum.evaluation.llm_judge import CACHE, agreement, chat_matter, instruction_matter, judge


@pytest.fixture
def ask(chat_server, tmp_path):
    """ask(matters, model) -> verdicts and troubles, from the server."""

    def run(matters, model="judge-1"):
        notes = []
        return judge(
            Endpoint(chat_server.url, model, tries=1, pause_s=0.01), matters, tmp_path, notes.append
        ), notes

    return run


def matters(n: int):
    return [instruction_matter("写下来", f"<asr>{i}") for i in range(n)]


def test_prompts_hold_what_is_judged(ask, chat_server):
    ask([instruction_matter("what is {said}?", "<asr>hi {there}")])
    chat_server.reply = lambda prompt: '{"answer_1": 9, "answer_2": 4}'
    ask([chat_matter("capital of France?", "Paris", "It is London")])
    first, second = chat_server.prompts()
    assert "Instruction: what is {said}?\nResponse: <asr>hi {there}\n" in first
    assert '{"followed": true}' in first
    assert "Question: capital of France?\nAnswer 1: Paris\nAnswer 2: It is London\n" in second


def test_verdicts_come_in_order(ask, chat_server):
    def reply(prompt):
        number = int(prompt.partition("Response: <asr>")[2].split()[0])
        return json.dumps({"followed": number % 2 == 0})

    chat_server.reply = reply
    verdicts, notes = ask(matters(9))
    assert [v["followed"] for v in verdicts] == [i % 2 == 0 for i in range(9)]
    assert notes == []


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ('{"followed": false}', {"followed": False}),
        ('```json\n{"followed": true}\n```', {"followed": True}),
        ('I think so. {"followed": true} Because...', {"followed": True}),
        ("yes", None),
        ('{"followed": "true"}', None),
        ('{"followed": 1}', None),
        ('{"other": true}', None),
        ("{]", None),
    ],
)
def test_reading_of_instruction_verdicts(ask, chat_server, reply, verdict):
    chat_server.reply = lambda prompt: reply
    verdicts, notes = ask(matters(1))
    assert verdicts == [verdict]
    assert len(chat_server.requests) == (1 if verdict else asking.ASKS)
    assert bool(notes) == (verdict is None)


@pytest.mark.parametrize(
    ("reply", "good"),
    [
        ('{"answer_1": 8, "answer_2": 6.5}', True),
        ('{"answer_1": 8}', False),
        ('{"answer_1": 8, "answer_2": 11}', False),
        ('{"answer_1": 0, "answer_2": 5}', False),
        ('{"answer_1": "8", "answer_2": 5}', False),
        ('{"answer_1": true, "answer_2": 5}', False),
        ("8 6", False),
    ],
)
def test_reading_of_scores(ask, chat_server, reply, good):
    chat_server.reply = lambda prompt: reply
    verdicts, _ = ask([chat_matter("q", "r", "a")])
    assert verdicts == ([{"answer_1": 8, "answer_2": 6.5}] if good else [None])


def test_a_verdict_is_asked_for_once(ask, chat_server, tmp_path):
    same = [*matters(3), *matters(3)]
    first, _ = ask(same)
    assert len(chat_server.requests) == 3
    assert ask(same)[0] == first
    assert len(chat_server.requests) == 3
    ask(same, model="judge-2")  # another judge has its own verdicts
    assert len(chat_server.requests) == 6
    ask(matters(4))  # only what is new
    assert len(chat_server.requests) == 7
    assert len((tmp_path / CACHE).read_text().splitlines()) == 7


def test_missing_verdicts_are_asked_for_again(ask, chat_server):
    chat_server.reply = lambda prompt: "no idea" if "<asr>1" in prompt else '{"followed": true}'
    verdicts, notes = ask(matters(3))
    assert verdicts == [{"followed": True}, None, {"followed": True}]
    assert notes == ["no verdict from the judge: no verdict in 'no idea'"]
    chat_server.reply = lambda prompt: '{"followed": false}'
    assert ask(matters(3))[0] == [{"followed": True}, {"followed": False}, {"followed": True}]


def test_a_torn_verdict_is_asked_for_again(ask, chat_server, tmp_path):
    ask(matters(2))
    data = (tmp_path / CACHE).read_bytes()
    (tmp_path / CACHE).write_bytes(data[:-5])
    assert ask(matters(2))[0] == [{"followed": True}] * 2
    assert len(chat_server.requests) == 3
    assert len((tmp_path / CACHE).read_bytes().splitlines()) == 2


def test_a_damaged_cache_is_refused(ask, tmp_path):
    (tmp_path / CACHE).write_text("{}\n")
    with pytest.raises(UserError, match="delete it"):
        ask(matters(1))


def test_a_refusal_ends_it(ask, chat_server):
    chat_server.troubles = [(401, {}, b"bad key")] * 50
    with pytest.raises(UserError, match="bad key"):
        ask(matters(20))
    assert len(chat_server.requests) <= 2 * asking.JOBS


def test_a_judge_that_is_gone_is_given_up(ask, chat_server):
    chat_server.troubles = [(500, {}, b"")] * 1000
    verdicts, notes = ask(matters(100))
    assert verdicts == [None] * 100
    assert "given up" in notes[-1]
    assert len(chat_server.requests) < 100


def test_agreement_by_hand():
    assert agreement([], []) == {"agreement": None, "kappa": None}
    assert agreement([True] * 4, [True] * 4) == {"agreement": 1, "kappa": None}
    # 7 of 10 equal; yes 6/10 and 5/10: by chance 0.5
    first, second = [1, 1, 1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 1, 1, 0, 0, 0, 0, 0, 1]
    assert agreement(first, second) == {"agreement": 0.7, "kappa": pytest.approx(0.4)}
