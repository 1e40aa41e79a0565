"""Which tasks a key counts for, and the numbers of a task, by hand."""

import math

import pytest

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.evaluation.predictions import Prediction
from mindspore_osum.evaluation.scoring import Case, headline, score_task, tasks_of
from mindspore_osum.tasks import TASK_KEYS, TASKS


def case(key, task, txt, raw, **extra):
    return Case(Utterance(key, "a.wav", txt, task, extra), Prediction(key, "fixed", raw))


@pytest.mark.parametrize(
    ("key", "tasks"),
    [
        ("<STYLE>", ["ssr"]),
        ("<AGE> <GENDER>", ["sgc", "sap"]),
        ("<TRANSCRIBE> <CAPTION> <AGE> <GENDER> <EMOTION> <STYLE>", ["ved", "ser", "ssr", "sgc", "sap"]),
        ("<TRANSCRIBE> <S2TCHAT>", ["sttc"]),
        ("<INTENT_CLASSIFICATION>", ["intent"]),
        ("<TEXT2TEXT>", ["text2text"]),
        ("<TRANSLATE>", ["st"]),
    ],
)
def test_tasks_of_a_key(key, tasks):
    assert tasks_of(key) == tasks


def test_every_key_counts_somewhere():
    for abbr, task in TASKS.items():
        assert tasks_of(task.key) == [abbr]
    assert all(tasks_of(key) for key in TASK_KEYS)


def test_times_and_words_of_srwt():
    """Three of four words match, 10, 0 and 20 ms off; one word of four, one letter of twelve is wrong."""
    cases = [
        case("a", "srwt", "<0.10>one<0.40> <0.40>two<0.80>", "<asr><align><0.12>one<0.40> <0.40>two<0.80>"),
        case("b", "srwt", "<0.00>six<0.40> <0.40>ten<0.80>", "<asr><align><0.04>six<0.40> <0.40>tin<0.80>"),
    ]
    scores = score_task("srwt", cases)
    assert scores["aas_ms"] == pytest.approx((10 + 0 + 20) / 3)
    assert scores["match_rate"] == 3 / 4
    assert scores["transcript"]["wer"] == 1 / 4
    assert scores["transcript"]["cer"] == pytest.approx(1 / 12)
    assert scores["keys"] == {"<TRANSCRIBE> <ALIGN>": {"utterances": 2, "aas_ms": scores["aas_ms"]}}


def test_no_headline_for_replies_that_only_a_judge_can_tell():
    one = case("a", "sttc", "a lamp", "<chat>a lamp")
    replies = [one, case("b", "sttc", "x", "<chat>y", scoring="judge")]
    assert headline("sttc", replies) is None
    assert headline("sttc", replies[:1])[1].tolist() == [[1, 1]]
    assert score_task("sttc", replies)["keys"] == {"<S2TCHAT>": {"utterances": 2}}


def test_translations_by_hand():
    """BLEU of 6 + 4 words (both as long as their references), the mean ROUGE-L; also from extra.answers."""
    cases = [
        case("a", "<TRANSLATE>", "the cat sat on a rug", "The cat sat on the rug."),
        case("b", "st", "no", "it is not so", answers=["it is not so", "that is wrong"]),
        case("c", "<TRANSLATE>", "yes", ""),
    ]
    assert all(c.key == "<TRANSLATE>" and not c.tags for c in cases)
    scores = score_task("st", cases)
    # matches and totals of 1- to 4-grams: 5+4/10, 3+3/8, 2+2/6, 1+1/4; references of 6, 4 and 1 words
    assert scores["bleu"] == pytest.approx((9 / 10 * 6 / 8 * 4 / 6 * 2 / 4) ** 0.25 * math.exp(1 - 11 / 10))
    assert scores["rouge_l"] == pytest.approx((5 / 6 + 1 + 0) / 3)
    assert (scores["items"], scores["empty_answers"]) == (3, 1)
    assert scores["keys"]["<TRANSLATE>"] == {"utterances": 3, "rouge_l": scores["rouge_l"]}
    name, columns_N2 = headline("st", cases)
    assert name == "rouge_l" and columns_N2.tolist() == [[5 / 6, 1], [1, 1], [0, 1]]
