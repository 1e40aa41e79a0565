"""How a model is asked."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.data.requests import sample
from mindspore_osum.errors import UserError
from mindspore_osum.evaluation.requests import published_pools, read_pools, request_of
from mindspore_osum.tasks import TASK_KEYS
from mindspore_osum.text.requests import intent_request, task_requests


def utterance(key="a", task="<TRANSCRIBE> <AGE>", **extra):
    return Utterance(key, "a.wav", "hi<ADULT>", task, extra)


def test_fixed_requests_are_the_tags():
    asked = request_of(utterance(request="tell me"), "fixed", None)
    assert (asked.words, asked.output_type, asked.task) == ("<asr><age>", "text", "<TRANSCRIBE> <AGE>")


def test_spoken_chat_is_asked_in_its_own_form_or_in_words():
    chat = utterance(task="sttc", question="what is a lamp?")
    assert request_of(chat, "fixed", None).output_type == "s2t_chat"
    asked = request_of(chat, "natural", None)
    assert asked.output_type == "text" and asked.task == "<S2TCHAT>"
    assert asked.words != "what is a lamp?"  # that is what the recording says


def test_the_manifest_has_the_first_word():
    assert request_of(utterance(request="how old?"), "natural", None).words == "how old?"
    assert request_of(utterance(question="how old?"), "natural", None).words == "how old?"
    assert request_of(utterance(request=" "), "natural", published_pools()).words == task_requests("sap")[0]


def test_natural_requests_are_of_the_test_split():
    """For every task key; each draw is one the instruction set can make of its test split and no other."""
    for task in TASK_KEYS:
        utterances = [utterance(f"{task} {n}", task) for n in range(3)]
        asked = [request_of(u, "natural", None) for u in utterances]
        assert asked == [request_of(u, "natural", None) for u in utterances]
        for u, request in zip(utterances, asked, strict=True):
            seed = int.from_bytes(hashlib.sha256(u.key.encode()).digest()[:8], "big")
            drawn = sample(np.random.default_rng(seed), task, "test")
            assert (request.words, request.task) == (drawn.text, drawn.task_key)
            assert ".test." in drawn.template_id
    words = {request_of(utterance(f"k{n}"), "natural", None).words for n in range(40)}
    assert len(words) > 35


def test_a_task_without_requests_has_none():
    assert request_of(utterance(task="<TRANSCRIBE> <AGE> <GENDER>"), "natural", published_pools()) is None


def test_words_without_recording_are_asked_as_in_training():
    def line(task, **extra):
        return request_of(Utterance("a", None, "x", task, extra), "fixed", None)

    asked = line("<INTENT_CLASSIFICATION>", intent="how old")
    assert (asked.words, asked.output_type) == (intent_request("how old"), "intent_classification")
    asked = line("<TEXT2TEXT>", question="capital?")
    assert (asked.words, asked.output_type) == ("capital?", "text2text")
    assert line("<TEXT2TEXT>") is None and line("<INTENT_CLASSIFICATION>", intent="") is None


def test_the_choice_depends_on_the_key_alone():
    pools = {("asr", "age"): [f"r{i}" for i in range(4)]}
    chosen = {f"k{i}": request_of(utterance(f"k{i}"), "natural", pools).words for i in range(400)}
    again = {k: request_of(utterance(k), "natural", pools).words for k in reversed(chosen)}
    assert again == chosen
    assert all(70 < n < 130 for n in Counter(chosen.values()).values())


def test_requests_from_yaml(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text('asr: ["what is said?"]\n"<TRANSCRIBE><AGE>": [多大年纪, how old]\n', encoding="utf-8")
    assert read_pools(str(path)) == {("asr",): ["what is said?"], ("asr", "age"): ["多大年纪", "how old"]}


def test_requests_from_intents(write_lines):
    """The form of the Intent-Instruction Set (`data.requests`)."""
    lines = [
        {"key": str(i), "txt": tags, "task": "<INTENT_CLASSIFICATION>", "extra": {"intent": words}}
        for i, (tags, words) in enumerate(
            [("<asr>", "写下来"), ("<asr><age>", "how old"), ("<asr>", "type it")]
        )
    ]
    assert read_pools(str(write_lines("i.jsonl", lines))) == {
        ("asr",): ["写下来", "type it"],
        ("asr", "age"): ["how old"],
    }


def test_the_generated_instruction_set_is_understood(tmp_path):
    requests = pytest.importorskip("mindspore_osum.data.requests")
    path = tmp_path / "requests.jsonl"
    assert requests.main(["--split", "test", "--count", "200", "--output", str(path)]) == 0
    pools = read_pools(str(path))
    assert sum(map(len, pools.values())) == 200
    assert ("asr", "age") in pools


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("asr: hello", "asr: expected a list"),
        ("asr: []", "asr: expected a list"),
        ("asr: ['']", "asr: expected a list"),
        ("asr: [1]", "asr: expected a list"),
        ("- asr", "expected a list of requests per task"),
        ("asr: [", "not valid YAML"),
        ("dance: [a]", "task 'dance'"),
    ],
)
def test_impossible_yaml(tmp_path, text, message):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_pools(str(path))


def test_impossible_intents(write_lines, tmp_path):
    good = {"key": "a", "txt": "<asr>", "task": "<INTENT_CLASSIFICATION>", "extra": {"intent": "x"}}
    for change, message in (
        ({"txt": "<foo>"}, "tags of a task"),
        ({"extra": {}}, "extra.intent"),
        ({"task": "<TEXT2TEXT>"}, "expected task"),
    ):
        with pytest.raises(UserError, match=message):
            read_pools(str(write_lines("i.jsonl", [good | change])))
    with pytest.raises(UserError, match="cannot read"):
        read_pools(str(tmp_path / "none.yaml"))
