"""Messages as sequences: several turns, text, recordings and both; what is learned, and what is refused."""

import json

import numpy as np
import pytest

from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.errors import UserError
from mindspore_osum.inference.conversation import Exchange
from mindspore_osum.inference.request import Request, make_request
from mindspore_osum.systems.registry import preset, system_of
from mindspore_osum.systems.touch_asu.job import Loss, Sections
from mindspore_osum.text.tokenizer import open_tokenizer
from tests.systems.touch_asu.common import ASR, audio, make_world, messages

SYSTEM, CFG = system_of("touch_asu"), preset("touch_asu_tiny")
SLOTS = 3
AUDIO = "<|audio_bos|>@<|audio_eos|>"  # @: where the speech tokens are


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def tokenizer(world):
    return open_tokenizer(world)


def spelled(tokenizer, sequence) -> str:
    """The text of a sequence, with one @ for its speech tokens."""
    text, spoken = "", False
    for token in sequence.ids_L.tolist():
        if token >= 0:
            text, spoken = text + tokenizer.decode([token], skip_special=False), False
        elif not spoken:
            text, spoken = text + "@", True
    return text


def said(role: str, words: str) -> str:
    return f"<|im_start|>{role}\n{words}<|im_end|>\n"


EXPECTED = [
    said("user", ASR + AUDIO) + said("assistant", "abc"),
    said("user", "Say it." + AUDIO) + said("assistant", "defgh"),
    said("system", "Be brief.")
    + said("user", "hi")
    + said("assistant", "ho")
    + said("user", "And now?" + AUDIO)
    + said("assistant", "ca"),
    said("user", AUDIO) + said("assistant", "a reply"),
    said("user", "one") + said("assistant", "two") + said("user", "three") + said("assistant", "four"),
    said("user", "The sky?") + said("assistant", "blue"),
]


def test_sequences_are_those_of_the_messages(world, tokenizer):
    extractor = SYSTEM.extractor(CFG, tokenizer)
    utterances, problems = read_manifest(world / "data.jsonl", whole=True)
    assert not problems and len(utterances) == len(EXPECTED)
    for utt, text in zip(utterances, EXPECTED, strict=True):
        assert not list(extractor.flaws(utt, 1.0))
        sequence = extractor.sequence(utt, SLOTS if utt.wav else None)
        assert spelled(tokenizer, sequence) == text
        assert sequence.n_speech == (SLOTS if utt.wav else 0)
        # all text is learned, the speech tokens are not
        learned_L = sequence.labels_L != -100
        assert np.array_equal(learned_L[1:], sequence.ids_L[1:] >= 0)
        scanned = extractor.scan(utt)
        assert scanned.labels == learned_L.sum()
        assert scanned.text == len(sequence) - sequence.n_speech


def test_answers_alone(world, tokenizer):
    extractor = SYSTEM.extractor(CFG, tokenizer, Sections(loss=Loss(prompt=False)))
    for utt, text in zip(read_manifest(world / "data.jsonl", whole=True)[0], EXPECTED, strict=True):
        sequence = extractor.sequence(utt, SLOTS if utt.wav else None)
        assert spelled(tokenizer, sequence) == text
        learned = sequence.ids_L[sequence.labels_L != -100].tolist()
        assert tokenizer.decode(learned, skip_special=False) == utt.txt + "<|im_end|>\n"


def test_prompts_end_where_the_answer_begins(tokenizer):
    prompts = SYSTEM.prompts(CFG, tokenizer)
    opened = "<|im_start|>assistant\n"
    for request, text in (
        (make_request("asr"), said("user", ASR + AUDIO)),
        (make_request("sttc"), said("user", AUDIO)),
        (make_request(instruction="What is it?"), said("user", "What is it?" + AUDIO)),
        (
            Request("next", "text2text", None, system="S", history=(Exchange("text2text", "a", "b"),)),
            said("system", "S") + said("user", "a") + said("assistant", "b") + said("user", "next"),
        ),
    ):
        SYSTEM.check_request(request, CFG)
        prompt = prompts.prompt(request, SLOTS if prompts.hears(request) else None)
        assert spelled(tokenizer, prompt.sequence) == text + opened


def test_what_a_user_writes_is_text(tokenizer):
    """Special pieces count where the template has them, not in what somebody asks or said before."""
    words = "<|im_end|>"
    history = (Exchange("text2text", words, words),)
    request = Request(words, "text2text", None, system=words, history=history)
    ids = SYSTEM.prompts(CFG, tokenizer).prompt(request, None).sequence.ids_L.tolist()
    assert ids.count(599) == 4 and ids.count(598) == 5


def refused(tmp_path, line: dict) -> str:
    (tmp_path / "x.jsonl").write_text(json.dumps(line))
    with pytest.raises(UserError) as caught:
        read_manifest(tmp_path / "x.jsonl", strict=True, whole=True)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "line, message",
    [
        (
            {"messages": [{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]},
            "take turns",
        ),
        ({"messages": [{"role": "user", "content": "a"}]}, "user and assistant must take turns"),
        (
            {"messages": [*messages(("a", "b"))["messages"], {"role": "system", "content": "c"}]},
            "after at most one system",
        ),
        (messages((audio("1.wav"), "a"), ("b", "c")), "x.jsonl:1: turn 1 has a recording"),
        (messages(([audio("1.wav"), "behind"], "c")), "words after the recording"),
        (messages(([audio("1.wav"), audio("2.wav")], "c")), "2 recordings in a turn"),
        (messages((" ", "c")), "the user says nothing"),
        (messages((" ", "b"), ("d", "c")), "turn 1: the user says nothing"),
        (messages(("a", audio("1.wav"))), "an answer must be text"),
        (messages(({"type": "video", "video": "x"}, "a")), "expected a text"),
    ],
)
def test_messages_that_the_sequence_cannot_hold(tmp_path, line, message):
    assert message in refused(tmp_path, line)


def test_other_models_still_use_the_first_turn(world):
    utterances, left = read_manifest(world / "data.jsonl")
    assert [u.txt for u in utterances[3:5]] == ["two", "blue"] and any("after the first" in x for x in left)


@pytest.mark.parametrize(
    "line, message",
    [
        ({"task": "<EMOTION>", "wav": "0.wav"}, "task <EMOTION> is not known to this model; ask in"),
        ({"task": "<INTENT_CLASSIFICATION>", "extra": {"intent": "x"}}, "only <TEXT2TEXT> is learned"),
        ({"task": "<TEXT2TEXT>"}, "user's words in extra.question"),
        ({"task": "<TRANSCRIBE>", "wav": "0.wav", "extra": {"conversation": 3}}, "extra.conversation"),
    ],
)
def test_lines_that_are_not_learned(world, tmp_path, tokenizer, line, message):
    (tmp_path / "x.jsonl").write_text(json.dumps({"key": "k", "txt": "t", **line}))
    (utt,) = read_manifest(tmp_path / "x.jsonl", whole=True)[0]
    flaw = next(SYSTEM.extractor(CFG, tokenizer).flaws(utt, 1.0))
    assert message in flaw and "\n" not in flaw


@pytest.mark.parametrize("task", ["ser", "srwt", "<TRANSCRIBE> <AGE>"])
def test_tasks_of_other_models_are_refused(task):
    with pytest.raises(UserError, match="this model has the tasks asr and sttc"):
        SYSTEM.check_request(make_request(task), CFG)


def test_a_recording_in_an_earlier_turn_is_refused(tokenizer):
    request = Request("and?", "text2text", None, history=(Exchange("s2t_chat", None, "b"),))
    with pytest.raises(UserError, match="a recording in an earlier turn"):
        SYSTEM.prompts(CFG, tokenizer).prompt(request, SLOTS)
