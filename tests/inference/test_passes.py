"""Several tasks in few passes, and their answers in one segment."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindspore_osum.errors import UserError
from mindspore_osum.inference.passes import merge, plan
from mindspore_osum.results import Answer
from mindspore_osum.tasks import TASK_KEYS, TASKS


@pytest.mark.parametrize(
    "tasks, keys",
    [
        (["asr"], ["<TRANSCRIBE>"]),
        (["sap", "sgc"], ["<TRANSCRIBE> <AGE> <GENDER>"]),
        (["asr", "gender", "age"], ["<TRANSCRIBE> <AGE> <GENDER>"]),
        (["Gender", "age"], ["<AGE> <GENDER>"]),
        (["sttc", "asr"], ["<TRANSCRIBE> <S2TCHAT>"]),
        (["srwt", "asr"], ["<TRANSCRIBE> <ALIGN>"]),
        (["<AGE><GENDER>"], ["<AGE> <GENDER>"]),
        (["srwt", "sgc"], ["<TRANSCRIBE> <ALIGN>", "<GENDER>"]),
        (
            list(TASKS),
            [TASK_KEYS[-1], "<S2TCHAT>", "<TRANSCRIBE> <ALIGN>"],
        ),
    ],
)
def test_fewest_passes(tasks, keys):
    assert [request.task for request in plan(tasks)] == keys


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_every_choice_of_tasks_is_answered(count):
    """Whatever is asked for is in some pass, nothing else is, and one pass is taken where one will do."""
    for tasks in itertools.combinations(TASKS, count):
        wanted = set().union(*(TASKS[task].key.split() for task in tasks))
        asked = [request.task.split() for request in plan(tasks)]
        assert set().union(*asked) == wanted
        if any(set(key.split()) == wanted for key in TASK_KEYS):
            assert len(asked) == 1


def test_each_on_its_own():
    assert [r.task for r in plan(["asr", "age", "sap", "asr"], combine=False)] == [
        "<TRANSCRIBE>",
        "<AGE>",
        "<TRANSCRIBE> <AGE>",
    ]


@pytest.mark.parametrize(
    "tasks, message",
    [
        ([], "no task"),
        (["asr", "sgcc"], "did you mean 'sgc'"),
        (["gendr"], "did you mean 'gender'"),
        (["<INTENT_CLASSIFICATION>"], "not a recording"),
    ],
)
def test_impossible_tasks(tasks, message):
    with pytest.raises(UserError, match=message):
        plan(tasks)


def test_merge():
    """Labels come together; of what two passes say the first counts; times are those of the recording."""
    sure = {"age": {"OLD": 1.0}}
    labels = Answer(0.0, 2.0, "hello", ["asr", "age"], {"age": "OLD"}, raw="1", probabilities=sure)
    times = Answer(
        0.0,
        2.0,
        "hello there",
        ["asr", "align"],
        {"age": "ADULT", "gender": "MALE"},
        [("hello", 0.1, 0.4), ("there", 0.5, 0.9)],
        raw="2",
        cut=True,
    )
    segment = merge([labels, times], 10.0, 12.0)
    assert (segment.start, segment.end, segment.text) == (10.0, 12.0, "hello")
    assert segment.labels == {"age": "OLD", "gender": "MALE"} and segment.tags == ["asr", "age", "align"]
    assert segment.words == [("hello", 10.1, 10.4), ("there", 10.5, 10.9)]
    assert (segment.raw, segment.cut, segment.answer) == ("1\n2", True, None)
    assert segment.probabilities == sure
    assert merge([Answer(error="a: broken"), times], 0.0, 1.0).error == "a: broken"


def placed(words, start=0.0, end=30.0):
    answer = Answer(text="x", words=words, raw="as written")
    section = merge([answer], start, end)
    assert section.raw == "as written" and answer.words is words
    return section.words


def test_times_stay_in_order_and_inside():
    words = [("a", 0.5, 0.2), ("b", 0.1, 0.3), ("c", 0.8, 99.0), ("d", 50.0, 60.0)]
    assert placed(words, 4.0, 5.0) == [("a", 4.0, 4.1), ("b", 4.1, 4.3), ("c", 4.8, 4.9), ("d", 4.9, 5.0)]


LATE = [("late", 5.0, 5.5), ("news", 8.0, 8.4)]


@pytest.mark.parametrize(
    "words, moved",
    [
        ([("hello", 27.0, 27.2), ("this", 0.5, 0.7), *LATE], {0: (0.3, 0.5)}),
        ([("hello", 0.5, 0.7), ("this", 27.0, 27.2), ("is", 0.9, 1.0), *LATE], {1: (0.7, 0.9)}),
        (
            [("hello", 29.0, 29.9), ("this", 28.0, 28.1), ("is", 0.4, 0.5), *LATE],
            {0: (0.1, 0.3), 1: (0.3, 0.4)},
        ),
        (
            [("we", 0.2, 0.4), ("say", 0.5, 0.7), ("this", 0.0, 0.1), *LATE, ("now", 1.0, 1.2)],
            {2: (0.7, 0.8), 5: (8.4, 8.6)},
        ),
        ([("hello", 0.5, 27.2), ("this", 29.0, 29.4), *LATE], {0: (0.5, 2.75), 1: (2.75, 3.15)}),
        ([*LATE, ("now", 31.0, 40.0)], {2: (8.4, 17.4)}),
        ([("hello", 4.0, 3.0), *LATE], {0: (4.0, 4.3)}),
    ],
)
def test_only_wrong_times_move(words, moved):
    """A word with an impossible time goes between its neighbours; all others keep theirs."""
    for n, (was, now) in enumerate(zip(words, placed(words), strict=True)):
        assert now == (was[0], *map(pytest.approx, moved.get(n, was[1:])))


def test_words_at_one_time_and_past_the_end():
    assert placed([("a", 1.0, 1.5)] * 3) == [("a", 1.0, 1.0), ("a", 1.0, 1.0), ("a", 1.0, 1.5)]
    past = [("a", 9.0, 9.4), ("b", 9.5, 9.9), ("c", 10.0, 10.4)]
    assert placed(past, 0.0, 2.0) == [("a", 0.8, 1.2), ("b", 1.2, 1.6), ("c", 1.6, 2.0)]
    assert placed([("a", 0.0, 0.4)], 3.0, 3.0) == [("a", 3.0, 3.0)]
    assert merge([Answer(text="x")], 0.0, 1.0).words == []


TIMES = st.floats(-1, 12, width=16)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(words=st.lists(st.tuples(st.just("a"), TIMES, TIMES), min_size=1, max_size=9), wrong=st.integers(0, 9))
def test_whatever_times_are_written(words, wrong):
    """In order, without overlap and inside; one wild time among good ones moves no other word."""
    spans = [span for word in placed(words, 2.0, 9.0) for span in word[1:]]
    assert spans == sorted(spans) and 2.0 <= spans[0] and spans[-1] <= 9.0
    good = [("a", float(n), n + 0.5) for n in range(10)]
    spoilt = [*good[:wrong], ("a", words[0][1], words[0][2]), *good[wrong + 1 :]]
    starts = [word.start for n, word in enumerate(placed(spoilt)) if n != wrong]
    assert abs(words[0][1] - wrong) <= 2 or starts == [float(n) for n in range(10) if n != wrong]
