import os
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindspore_osum.errors import UserError
from mindspore_osum.tasks import (
    INTENT_KEY,
    LABEL_SETS,
    TASK_KEYS,
    TASKS,
    answer_starts,
    format_answer,
    other_tags,
    parse_answer,
    tags_of,
    task_key,
    task_of_request,
    task_of_tags,
    unknown_tags,
    write_tags,
)

WORDS = [("父", 0.21, 0.47), ("母", 0.46, 0.6)]


@pytest.mark.parametrize(
    "abbr, tags, key",
    [
        ("asr", "<asr>", "<TRANSCRIBE>"),
        ("srwt", "<asr><align>", "<TRANSCRIBE> <ALIGN>"),
        ("ved", "<asr><caption>", "<TRANSCRIBE> <CAPTION>"),
        ("ser", "<asr><emotion>", "<TRANSCRIBE> <EMOTION>"),
        ("ssr", "<asr><style>", "<TRANSCRIBE> <STYLE>"),
        ("sgc", "<asr><gender>", "<TRANSCRIBE> <GENDER>"),
        ("sap", "<asr><age>", "<TRANSCRIBE> <AGE>"),
        ("sttc", "<chat>", "<S2TCHAT>"),
    ],
)
def test_the_eight_tasks(abbr, tags, key):
    task = TASKS[abbr]
    assert (task.tag_string, task.key) == (tags, key)
    assert task_of_tags(task.tags) == abbr
    assert len(TASKS) == 8


def test_published_keys_and_tags():
    assert len(set(TASK_KEYS)) == 22
    assert write_tags(tags_of("<TRANSCRIBE> <STYLE> <AGE> <GENDER>")) == "<asr><style><age><gender>"
    assert write_tags(tags_of("<TRANSCRIBE> <S2TCHAT>")) == "<asr><chat>"
    assert tags_of(INTENT_KEY) == ()
    assert task_of_tags(["asr", "age", "gender"]) is None


def test_task_key_spellings():
    for spelling in ("sap", "<TRANSCRIBE><AGE>", "<transcribe> <age>", "<TRANSCRIBE> <AGE>"):
        assert task_key(spelling) == "<TRANSCRIBE> <AGE>"
    with pytest.raises(UserError, match="choose one of asr, srwt"):
        task_key("tts")
    for spelling, near in {"gender": "sgc", "<GENDER><AGE>": "<AGE> <GENDER>"}.items():
        with pytest.raises(UserError, match=f"did you mean '{near}'"):
            task_key(spelling)


def test_tags_in_any_order_are_a_known_request():
    for words in ("<asr><age><gender>", "<asr> <gender><AGE>", "<gender><age><asr>"):
        assert task_of_request(words) == "<TRANSCRIBE> <AGE> <GENDER>"
    for words in ("<asr><asr>", "<asr><enter>", "<>", "asr"):
        assert task_of_request(words) is None
    assert other_tags("<TRANSCRIBE> <AGE> <GENDER>", ["asr", "gender", "age"]) == ""


def test_label_sets():
    assert {tag: len(s.values) for tag, s in LABEL_SETS.items()} == {
        "caption": 8,
        "emotion": 8,
        "style": 8,
        "gender": 2,
        "age": 3,
    }
    assert TASKS["sap"].label_set is LABEL_SETS["age"] and TASKS["asr"].label_set is None
    for labels in LABEL_SETS.values():
        assert set(labels.aliases.values()) <= set(labels.values)
        assert all(labels.read(v.lower()) == v for v in labels.values)
    assert LABEL_SETS["emotion"].read("Angry") == "ANGER"
    assert LABEL_SETS["caption"].read("throat_clearing") == "THROAT CLEARING"
    assert LABEL_SETS["style"].read("小说") == "有声书"
    assert LABEL_SETS["age"].read("middle age") == "ADULT"
    assert LABEL_SETS["age"].read("") is None


@pytest.mark.parametrize(
    "task, fields, expected",
    [
        ("asr", dict(text="Hello World"), "<asr>hello world"),
        ("srwt", dict(words=WORDS), "<asr><align><0.21>父<0.47><0.46>母<0.60>"),
        ("ved", dict(text="流血不止", labels={"event": "screaming"}), "<asr><caption>流血不止<SCREAMING>"),
        ("ser", dict(text="去叫板呢", labels={"emotion": "ANGRY"}), "<asr><emotion>去叫板呢<ANGER>"),
        ("ssr", dict(text="小药片", labels={"style": "童话故事"}), "<asr><style>小药片<童话故事>"),
        ("sgc", dict(text="帮我 调大 声音", labels={"gender": "male"}), "<asr><gender>帮我调大声音<MALE>"),
        ("sap", dict(text="Hello World", labels={"age": "YOUTH"}), "<asr><age>Hello World<ADULT>"),
        ("sttc", dict(answer="Fine."), "<chat>Fine."),
        ("sttc", dict(text="how are you", answer="Fine."), "<chat>Fine."),
        (
            "<TRANSCRIBE> <S2TCHAT>",
            dict(text="how are you", answer="Fine."),
            "<asr><chat>how are you<开始回答>Fine.",
        ),
        (
            "<AGE> <GENDER>",
            dict(text="hi", labels={"age": "OLD", "gender": "MALE"}),
            "<age><gender><OLD><MALE>",
        ),
        (INTENT_KEY, dict(text="<asr><age>"), "<asr><age>"),
    ],
)
def test_format_answer(task, fields, expected):
    assert format_answer(task, **fields) == expected


def test_format_leaves_out_what_the_task_does_not_announce():
    record = dict(text="hi", labels={"age": "OLD", "gender": "MALE"}, words=WORDS, answer="x")
    assert format_answer("sap", **record) == "<asr><age>hi<OLD>"


@pytest.mark.parametrize(
    "task, fields, message",
    [
        ("sap", dict(text="hi"), "label age is missing"),
        ("sap", dict(text="hi", labels={"age": "TEEN"}), "'TEEN' is not one of CHILD, ADULT, OLD"),
        ("srwt", dict(text="hi"), "words is missing"),
        ("sttc", dict(text="hi"), "answer is missing"),
        ("nope", {}, "choose one of"),
    ],
)
def test_format_refuses(task, fields, message):
    with pytest.raises(UserError, match=message):
        format_answer(task, **fields)


@pytest.mark.parametrize("task", [*TASK_KEYS, "<TEXT2TEXT>", INTENT_KEY])
def test_beginnings_of_answers(task):
    opening, starts = answer_starts(task)
    assert opening == (write_tags(tags_of(task)) if task in TASK_KEYS else "")
    assert bool(starts) == bool(opening)
    if starts:  # what they share is the tags, and the bracket of what follows where nothing else can
        assert os.path.commonprefix(starts) in (opening, opening + "<")


def test_parse_label():
    a = parse_answer("<asr><age>今天天气怎么样<ADULT>")
    assert (a.tags, a.text, a.labels, a.unknown) == (["asr", "age"], "今天天气怎么样", {"age": "ADULT"}, [])
    assert (a.words, a.answer) == ([], None)


@pytest.mark.parametrize(
    "raw", ["<asr><emotion>hi<ANGER>", "<ASR><EMOTION>hi<angry>", " <asr> < emotion > hi < Anger > "]
)
def test_parse_is_tolerant(raw):
    a = parse_answer(raw)
    assert (a.tags, a.text, a.labels, a.unknown) == (["asr", "emotion"], "hi", {"emotion": "ANGER"}, [])


@pytest.mark.parametrize(
    "raw, text, words",
    [
        ("<asr><align><0.21>父<0.47> <0.46>母<0.60>", "父母", WORDS),
        ("<asr><align><0.21>父<0.47><0.46>母<0.60>", "父母", WORDS),
        ("<0.21>父<0.47> <0.46>母<0.60>", "父母", WORDS),
        (
            "<asr><align><0.1>hello<0.4> <0.4>world<1>",
            "hello world",
            [("hello", 0.1, 0.4), ("world", 0.4, 1.0)],
        ),
        (
            "<asr><align><0.1>我<0.4><0.4>love<1><1>you<2>",
            "我love you",
            [("我", 0.1, 0.4), ("love", 0.4, 1.0), ("you", 1.0, 2.0)],
        ),
    ],
)
def test_parse_words(raw, text, words):
    a = parse_answer(raw)
    assert (a.text, a.words, a.unknown) == (text, words, [])


def test_times_without_a_word_are_no_text():
    """Half-written and stray ones; words with both times keep them."""
    for raw, text, words, marks in (
        (
            "<0.21>父<0.47>母<0.60> <0.60>的<0.73> <0.7",
            "父母的",
            [(0.21, 0.47), (0.6, 0.73)],
            ["<0.60>", "<0.7"],
        ),
        ("<0.80>i<0.96><0.96>am<1.20><1.20>", "i am", [(0.8, 0.96), (0.96, 1.2)], ["<1.20>"]),
        ("<0.80>i<0.96><0.9", "i", [(0.8, 0.96)], ["<0.9"]),
        ("<0.80>i<0.96><0.96>am", "i am", [(0.8, 0.96)], ["<0.96>"]),
        ("<0.80>i<0.96><", "i", [(0.8, 0.96)], ["<"]),
    ):
        a = parse_answer("<asr><align>" + raw)
        assert (a.text, [w[1:] for w in a.words], a.marks) == (text, words, marks)
        assert a.unknown == marks and a.warnings == ["left out of the text: " + ", ".join(marks)]


def test_times_that_were_not_asked_for_are_left_out():
    a = parse_answer("<asr><0.21>父<0.47>我")
    assert (a.text, a.words, a.unknown) == ("父我", [], ["<0.21>", "<0.47>"])


@pytest.mark.parametrize(
    "raw, text, marks",
    [
        ("<asr><gender>hi there<MALE><NEUTRAL><NEUTRAL>", "hi there", ["<NEUTRAL>"]),
        ("<asr>打开<gender>灯<CHILD><FEMALE><FEMALE>", "打开灯", ["<gender>", "<FEMALE>"]),
        ("<asr>hi<|im_end|> you </s>", "hi you", ["<|im_end|>", "</s>"]),
        ("<asr>one<1.20>two", "one two", ["<1.20>"]),
        ("<asr><emotion>hi<SA", "hi", ["<SA"]),
        ("<asr><age><gender>hi<OLD><BOY>", "hi", ["<BOY>"]),  # where a label is missing
        ("<asr><age>hi<TEEN>", "hi", ["<TEEN>"]),
        ("<asr><age>press <enter> now", "press <enter> now", []),  # what a person may have said
        ("<asr>press <enter>", "press <enter>", []),
        ("<asr>press <ente", "press <ente", []),
        ("<asr>hi<TEEN>", "hi<TEEN>", []),
    ],
)
def test_control_marks_are_no_text(raw, text, marks):
    a = parse_answer(raw)
    assert (a.text, a.marks, a.raw) == (text, marks, raw)
    assert a.warnings == (["left out of the text: " + ", ".join(marks)] if marks else [])


def test_many_marks_are_counted():
    a = parse_answer("<asr><gender>hi<MALE>" + "<HAPPY>" * 20 + "<0.1>")
    assert a.warnings == ["left out of the text: <HAPPY> 19 times, <0.1>"]
    assert parse_answer("<chat>Fine.<MALE>").warnings == ["left out of the text: <MALE>"]


@pytest.mark.parametrize(
    "raw, text, answer",
    [
        ("<chat>Fine, <b>thanks</b>.", "", "Fine, <b>thanks</b>."),
        ("我感觉不太满意<开始回答> 抱歉", "我感觉不太满意", "抱歉"),
        ("<asr><chat>hi<开始回答>hello", "hi", "hello"),
    ],
)
def test_parse_chat(raw, text, answer):
    a = parse_answer(raw)
    assert (a.text, a.answer) == (text, answer)


@pytest.mark.parametrize(
    "raw, task, labels, text, unknown",
    [
        ("hi<other>", None, {}, "hi", ["<other>"]),  # event or emotion? nobody said
        ("hi<other>", "ser", {"emotion": "OTHER"}, "hi", []),
        ("hi<anger>", None, {"emotion": "ANGER"}, "hi", []),
        ("<asr><caption>hi<OTHER>", "ser", {"event": "OTHER"}, "hi", []),  # the answer's own tags win
        ("<asr><caption><emotion>hi<OTHER><SAD>", None, {"event": "OTHER", "emotion": "SAD"}, "hi", []),
        ("<asr><caption><emotion>hi<OTHER><OTHER>", None, {"event": "OTHER", "emotion": "OTHER"}, "hi", []),
        ("<asr>hi<MALE>", None, {"gender": "MALE"}, "hi", []),
        ("<asr><age>hi<CHILD><OLD>", None, {"age": "OLD"}, "hi", ["<CHILD>"]),
        ("<asr><age>hi<TEEN>", None, {}, "hi", ["<TEEN>"]),
        ("<asr><age>hi<ADU", None, {}, "hi", ["<ADU"]),
        ("", None, {}, "", []),
    ],
)
def test_parse_labels(raw, task, labels, text, unknown):
    a = parse_answer(raw, task)
    assert (a.labels, a.text, a.unknown) == (labels, text, unknown)


fragments = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "<asr>",
                "<ALIGN>",
                "<chat>",
                "<age>",
                "<emotion>",
                "<caption>",
                "<ADULT>",
                "<other>",
                "<0.21>",
                "<0.5>",
                "<",
                ">",
                "< >",
                "<开始回答>",
                "<童话故事>",
                "父",
                "word",
                " ",
                "\n",
                "<x",
                "<1e9>",
            ]
        ),
        st.text(max_size=5),
    ),
    max_size=12,
).map("".join)


@given(raw=fragments, task=st.sampled_from([None, *TASKS]))
def test_parse_never_fails_and_keeps_the_text(raw, task):
    a = parse_answer(raw, task)
    reply = a.answer or ""
    kept = iter(a.text + reply)
    outside_brackets = re.sub(r"<[^<>]*(>|$|(?=<))|[<>\s]", "", raw)
    assert all(c in kept for c in outside_brackets)  # each character is still there, in order
    assert not re.search(r"<[\d.\s]*>|<[\d.\s]*$", a.text + "|" + reply)  # and no number in brackets
    assert a.unknown[: len(a.marks)] == a.marks and all(u in a.text for u in a.unknown[len(a.marks) :])
    assert bool(a.marks) <= bool(a.warnings)


plain = st.text(st.characters(categories=("Ll", "Lo", "Nd")), min_size=1, max_size=12)


@given(
    task=st.sampled_from([k for k in TASK_KEYS if "ALIGN" not in k]), text=plain, answer=plain, data=st.data()
)
def test_parse_reads_what_format_writes(task, text, answer, data):
    sets = [LABEL_SETS[t] for t in tags_of(task) if t in LABEL_SETS]
    labels = {s.field: data.draw(st.sampled_from(s.values)) for s in sets}
    a = parse_answer(format_answer(task, text=text, labels=labels, answer=answer))
    assert a.tags == list(tags_of(task)) and a.labels == labels and a.unknown == []
    assert a.text == ((text.lower() if task == "<TRANSCRIBE>" else text) if "asr" in a.tags else "")
    assert a.answer == (answer if "chat" in a.tags else None)


times = st.integers(0, 3000).map(lambda t: t / 100)


@given(words=st.lists(st.tuples(plain, times, times), min_size=1, max_size=5))
def test_words_round_trip(words):
    assert parse_answer(format_answer("srwt", words=words)).words == words


@pytest.mark.parametrize(
    "raw",
    ["<1>" + "a" * 200_000, "<" * 200_000, "<1>" * 50_000, " " * 200_000, "<1>" + " " * 200_000],
    ids=["open word", "brackets", "times", "spaces", "time and spaces"],
)
def test_parsing_garbage_is_cheap(raw):
    start = time.perf_counter()
    parse_answer(raw)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("<asr><age>", ""),
        ("<age> <asr>", ""),
        ("who is that <person>", ""),
        ("how old", ""),
        ("", ""),
        ("<emotion><gender>", "the request <emotion><gender> is no published combination of tags"),
        ("<asr> <agee>", "the request has the tag <agee>, which no task has; tags are asr, align, chat"),
    ],
)
def test_tags_that_are_no_task(words, said):
    assert unknown_tags(words).startswith(said) and bool(unknown_tags(words)) == bool(said)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("one<COUGH>two", "one two"),
        ("one <COUGH> two<SAD>", "one two"),
        ("今<COUGH>天", "今天"),
        ("<COUGH>x", "x"),
    ],
)
def test_a_label_between_words_divides_them(raw, text):
    assert parse_answer(raw, "<TRANSCRIBE> <CAPTION>").text == text
