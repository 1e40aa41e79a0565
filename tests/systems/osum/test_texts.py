"""Requests, labels and spans of every kind of utterance."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.data.requests import generate
from mindspore_osum.errors import UserError
from mindspore_osum.systems.osum.template import CONTENT, INTENT, load_template
from mindspore_osum.systems.osum.texts import POOL, Texts, label_of, output_type
from mindspore_osum.tasks import LABEL_SETS, TASK_KEYS, tags_of, write_tags
from mindspore_osum.text.requests import task_requests
from mindspore_osum.text.sequence import IGNORE
from mindspore_osum.text.tokenizer import open_tokenizer
from tests.training.tones import write_tokenizer

TEMPLATE = load_template("compact")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    write_tokenizer(path)
    return open_tokenizer(path)


@pytest.fixture(scope="module")
def natural(tokenizer):
    return Texts(tokenizer, TEMPLATE, "natural", seed=1)


def utt(task, txt="hello", **extra):
    wav = None if task.startswith(("<TEXT", "<INT")) else "a.wav"
    return Utterance("k", wav, txt, task, extra, where="m:1")


def test_labels_are_the_tags_and_the_text_as_published(natural):
    assert label_of(utt("<TRANSCRIBE> <AGE>", "Hi<YOUTH>")) == "<asr><age>Hi<ADULT>"
    assert label_of(utt("sap", "Hi<YOUTH>")) == "<asr><age>Hi<ADULT>"
    assert label_of(utt("<AGE> <GENDER>", "<CHILD><MALE>")) == "<age><gender><CHILD><MALE>"
    assert label_of(utt("<TRANSCRIBE>", "HI")) == "<asr>hi"
    assert label_of(utt("<S2TCHAT>", "fine")) == "<chat>fine"
    assert label_of(utt("<INTENT_CLASSIFICATION>", "<asr><age>", intent="how old")) == "<asr><age>"
    assert label_of(utt("<TEXT2TEXT>", "Paris", question="?")) == "Paris"
    for key in TASK_KEYS:
        assert label_of(utt(key)).startswith(write_tags(tags_of(key)))


def test_sentences_are_hundreds_of_each_task_and_the_published_ones(natural):
    pools = {key: natural.requests(utt(key)) for key in TASK_KEYS}
    sentences = {key: {r for r in pool if r is not None} for key, pool in pools.items()}
    assert all(len(found) >= POOL for found in sentences.values())
    assert len(set().union(*sentences.values())) >= 8000
    for abbr, key in (("asr", "<TRANSCRIBE>"), ("sap", "<TRANSCRIBE> <AGE>"), ("sttc", "<S2TCHAT>")):
        assert sentences[key] > set(task_requests(abbr))
    assert natural.report() == [f"requests: {sum(map(len, sentences.values()))} sentences for 22 task keys"]


def test_sentences_follow_from_the_seed_and_valid_has_its_own(tokenizer, natural):
    asr = utt("<TRANSCRIBE>")
    drawn = natural.requests(asr)
    assert Texts(tokenizer, TEMPLATE, "natural", seed=1).requests(asr) == drawn
    assert Texts(tokenizer, TEMPLATE, "natural", seed=2).requests(asr) != drawn
    valid = Texts(tokenizer, TEMPLATE, "natural", seed=1, split="valid").requests(asr)
    assert not set(valid) & set(drawn)
    assert set(valid) == {r.text for r in generate("valid", POOL, 1, ["<TRANSCRIBE>"])}


@pytest.mark.parametrize(
    ("kind", "asr", "chat"),
    [
        ("tag", {"tag": 1}, {"tag": 1 / 2, "none": 1 / 2}),
        ("natural", {"words": 1}, {"words": 1 / 2, "none": 1 / 2}),
        ("both", {"tag": 1 / 2, "words": 1 / 2}, {"tag": 1 / 3, "words": 1 / 3, "none": 1 / 3}),
    ],
)
def test_each_kind_of_request_has_the_same_share(tokenizer, kind, asr, chat):
    texts = Texts(tokenizer, TEMPLATE, kind)
    for task, tag, shares in (("<TRANSCRIBE>", "<asr>", asr), ("<S2TCHAT>", "<chat>", chat)):
        extra = {"question": "what is spoken, and no request"} if tag == "<chat>" else {}
        requests = texts.requests(utt(task, **extra))
        count = Counter({tag: "tag", None: "none"}.get(r, "words") for r in requests)
        assert {k: n / len(requests) for k, n in count.items()} == pytest.approx(shares)


def test_sentences_that_do_not_fit_are_not_drawn_but_counted(tokenizer):
    short, long = utt("<TRANSCRIBE>", "ab"), utt("<TRANSCRIBE>", "abcdefgh" * 3)
    everything = Texts(tokenizer, TEMPLATE, "natural")
    lengths = sorted(len(everything.sequence(short, r, 2)) - 4 for r in everything.requests(short))
    room = lengths[POOL // 2]
    texts = Texts(tokenizer, TEMPLATE, "natural", room)
    for u in (short, long):
        fitting = texts.requests(u)
        assert max(len(texts.sequence(u, r, 2)) - 4 for r in fitting) <= room
        assert len(fitting) == sum(n <= room - (22 if u is long else 0) for n in lengths)
    few, many = len(texts.requests(long)), len(texts.requests(short))
    assert 0 < few < many < len(lengths)
    assert texts.report() == [
        f"requests: {many} sentences for 1 task keys; {len(lengths) - many} left out, "
        f"they do not fit {room} text tokens; {many - few} only used beside short answers"
    ]
    tight = {kind: Texts(tokenizer, TEMPLATE, kind, 12) for kind in ("natural", "both")}
    assert tight["both"].requests(short) == ["<asr>"]  # the tag still fits
    assert len(tight["natural"].requests(short)) == 1  # the shortest; the corpus refuses it


def test_requests_that_an_utterance_brings_along(natural):
    intent = natural.requests(utt("<INTENT_CLASSIFICATION>", "<asr>", intent="how old"))
    assert len(intent) == 2 and all(r.endswith(":how old") for r in intent)
    assert natural.requests(utt("<TEXT2TEXT>", "Paris", question="capital?")) == ["capital?"]
    assert natural.requests(utt("<TRANSCRIBE>", question="my own words")) == ["my own words"]
    for nothing in ("", " ", 3):
        asked = natural.requests(utt("<TRANSCRIBE>", question=nothing))
        assert asked == natural.requests(utt("<TRANSCRIBE>"))
    for extra in ({}, {"question": " ", "intent": " "}):
        for task in ("<INTENT_CLASSIFICATION>", "<TEXT2TEXT>"):
            with pytest.raises(UserError, match="m:1: .*needs the user's words in extra"):
                natural.requests(utt(task, **extra))
    with pytest.raises(UserError, match="m:1: task '<SING>'"):
        label_of(utt("<SING>"))


def test_chat_has_its_own_form_without_a_request(natural):
    chat = utt("<S2TCHAT>", "fine")
    alone, asked = natural.sequence(chat, None, 2), natural.sequence(chat, "<chat>", 2)
    words = len(natural.tokenizer.encode("<chat>"))
    assert len(asked) == len(alone) + words
    assert np.array_equal(alone.ids_L[-8:], asked.ids_L[-8:])
    assert output_type(chat, None) == "s2t_chat" and output_type(chat, "<chat>") == "text"


def spans(texts, utt, request, n_speech=2):
    """(text of the intent span, text of the content span)."""
    s = texts.sequence(utt, request, n_speech if utt.wav else None)
    assert np.array_equal(s.spans_L != 0, s.labels_L != IGNORE)
    return tuple(texts.tokenizer.decode(s.labels_L[s.spans_L == span], False) for span in (INTENT, CONTENT))


def test_the_intent_span_is_the_tags(natural):
    assert spans(natural, utt("sap", "hi<CHILD>"), "x") == ("<asr><age>", "hi<CHILD>[unused10]")
    assert spans(natural, utt("<AGE>", "<CHILD>"), "x") == ("<age>", "<CHILD>[unused10]")
    assert spans(natural, utt("<S2TCHAT>", "fine"), None) == ("<chat>", "fine[unused10]")
    assert spans(natural, utt("<TEXT2TEXT>", "Paris"), "x") == ("", "Paris[unused10]")
    intent = utt("<INTENT_CLASSIFICATION>", "<asr><age>", intent="how old")
    assert spans(natural, intent, "x") == ("<asr><age>[unused10]", "")


def test_ctc_reads_the_transcript_alone(natural):
    encode = natural.tokenizer.encode
    assert natural.ctc_ids(utt("<TRANSCRIBE> <AGE>", "Hi<YOUTH>")) == encode("Hi")
    assert natural.ctc_ids(utt("<TRANSCRIBE> <S2TCHAT>", "who is it<开始回答>me")) == encode("who is it")
    assert natural.ctc_ids(utt("<TRANSCRIBE> <ALIGN>", "<0.00>a<0.40> <0.40>b<0.80>")) == encode("a b")
    assert natural.ctc_ids(utt("<TRANSCRIBE> <ALIGN>", "<0.00>你<0.40> <0.40>好<0.80>")) == encode("你好")
    assert natural.ctc_ids(utt("<S2TCHAT>", "fine")) == natural.ctc_ids(utt("<AGE>", "<CHILD>")) == []


def test_classes_come_from_extra_or_from_the_answer(natural):
    sets = list(LABEL_SETS.values())

    def named(utterance):
        places = natural.classes(utterance)
        return {s.field: s.values[i] for s, i in zip(sets, places, strict=True) if i != IGNORE}

    assert named(utt("<TRANSCRIBE> <AGE>", "Hi<YOUTH>")) == {"age": "ADULT"}
    assert named(utt("<TRANSCRIBE>", "Hi")) == {}
    told = dataclasses.replace(utt("<TRANSCRIBE> <AGE>", "Hi<CHILD>"), extra={"gender": "male", "event": ""})
    assert named(told) == {"age": "CHILD", "gender": "MALE"}
    assert natural.classes(dataclasses.replace(told, wav=None)) == [IGNORE] * len(sets)


def test_frames_know_the_word_that_is_spoken(natural):
    a, b = (natural.tokenizer.encode(word)[-1] + 1 for word in "ab")
    words = [["a", 0.08, 0.24], ["b", 0.24, 0.3], ["b", 0.4, 0.65], ["b", 0.65, 0.8]]
    frames = natural.frames(utt("<TRANSCRIBE>", "a b b b", words=words), 12, 0.08)
    assert frames == [0, a, a, b, 0, b, b, 0, b, b, 0, 0]  # a blank between two of the same without a pause
    timed = utt("<TRANSCRIBE> <ALIGN>", "<0.00>a<0.16><0.16>b<0.32>")
    assert natural.frames(timed, 5, 0.08) == [a, a, b, b, 0]
    assert natural.frames(utt("<TRANSCRIBE>", "a b"), 3, 0.08) == [IGNORE] * 3
    for task in ("<TEXT2TEXT>", "<INTENT_CLASSIFICATION>"):
        assert natural.times(dataclasses.replace(utt(task, "two", question="one plus one"), wav=None)) == []


@pytest.mark.parametrize(
    "words",
    [
        ["a"],
        [["a", 0.1]],
        [["a", "x", 0.2]],
        [["a", 0.1, float("nan")]],
        [["a", float("-inf"), 0.2]],
        [["a", 0.1, 10**400]],
        [["a", 0.1, 1e308]],
    ],
)
def test_words_without_times_are_told(natural, words):
    with pytest.raises(UserError, match=r"m:1: extra.words is no list of \[word, start, end\]"):
        natural.frames(utt("<TRANSCRIBE>", "a", words=words), 3, 0.08)
