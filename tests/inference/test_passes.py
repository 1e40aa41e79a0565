"""Several tasks in few passes, and their answers in one segment."""

import itertools

import pytest

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


def test_times_stay_in_order_and_inside():
    words = [("a", 0.5, 0.2), ("b", 0.1, 0.3), ("c", 0.8, 99.0), ("d", 50.0, 60.0)]
    placed = merge([Answer(words=words)], 4.0, 5.0).words
    assert [w.text for w in placed] == ["a", "b", "c", "d"]
    starts = [w.start for w in placed]
    assert starts == sorted(starts)
    assert all(4.0 <= w.start <= w.end <= 5.0 for w in placed)
    assert placed[0] == ("a", 4.5, 4.5) and placed[2] == ("c", 4.8, 5.0)
