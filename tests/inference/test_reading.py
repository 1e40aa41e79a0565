"""Generated tokens as answers: loops, other tasks than asked for, missing labels, confidence."""

import math

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED, TOKENIZER
from mindspore_osum.inference.answering import Answerer
from mindspore_osum.inference.reading import Reader
from mindspore_osum.inference.request import Request, make_request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.inference.tokens import Generated
from mindspore_osum.results import Answer
from mindspore_osum.systems.base import System
from mindspore_osum.systems.osum.system import SYSTEM
from mindspore_osum.systems.prompt import Prompt
from mindspore_osum.systems.registry import preset
from mindspore_osum.text.sequence import Text, lay_out
from mindspore_osum.text.tokenizer import open_tokenizer
from tests.inference.test_loops import Scripted

PROMPT = Prompt(lay_out(None, [Text([5])]))


@pytest.fixture(scope="module")
def tokenizer():
    return open_tokenizer(BUNDLED / TOKENIZER)


class Labels:
    """Probabilities without a model; what it was asked."""

    def __init__(self):
        self.asked = []

    def decide(self, prompt, task, text, labels):
        self.asked.append((task, text, dict(labels)))
        wanted = {"gender": {"MALE": 0.25, "FEMALE": 0.75}, "age": {"CHILD": 0.2, "ADULT": 0.7, "OLD": 0.1}}
        return {name: p for name, p in wanted.items() if name not in labels}


def read(tokenizer, request, text, labels=None, **how):
    written = Generated(tokenizer.encode(text), cut=False, **how)
    return Reader(preset("tiny"), tokenizer, labels).read(PROMPT, request, written, False)


def test_a_loop_is_told_and_kept_once(tokenizer):
    start, unit = tokenizer.encode("<asr>turn on"), tokenizer.encode("the light")
    written = Generated([*start, *unit * 30], unit=len(unit))
    answer = Reader(preset("tiny"), tokenizer).read(PROMPT, make_request(), written, False)
    assert answer.text == "turn on the light" and answer.cut and answer.raw.count("the light") == 30
    assert answer.warnings == ["a loop: 'the light' was repeated 30 times, and the answer ended there"]


@pytest.mark.parametrize(
    ("request_", "text", "warned"),
    [
        (make_request("asr"), "<age><OLD>", "asked for <asr>, the answer is of <age>"),
        (make_request(instruction="<ASR>"), "hello", "asked for <asr>, the answer is of no task"),
        (make_request(instruction="<asr><age><gender>"), "<asr>x<OLD>", "asked for <asr><age><gender>, the "),
        (
            make_request(instruction="<asr><gender><age>"),
            "<asr><age>x<OLD>",
            "asked for <asr><age><gender>, ",
        ),
        (make_request(instruction="你能听这段语音然后告诉我内容吗？"), "<chat>no", "asked for <asr>, the "),
        (make_request(instruction="你能听这段语音然后告诉我内容吗？"), "<asr>yes", None),
        (make_request(instruction="anything at all"), "<age><OLD>", None),  # nobody knows what that is
        (Request("what is a lamp?", "text2text", "<TEXT2TEXT>"), "a lamp", None),
        (Request("who?", "intent_classification", "<INTENT_CLASSIFICATION>"), "<asr>", None),
    ],
)
def test_another_task_than_asked_for_is_told(tokenizer, request_, text, warned):
    warnings = read(tokenizer, request_, text).warnings
    assert len(warnings) == bool(warned) and all(line.startswith(warned) for line in warnings)


def test_a_label_that_is_missing_is_decided(tokenizer):
    labels, request = Labels(), make_request("<TRANSCRIBE> <AGE> <GENDER>")
    answer = read(tokenizer, request, "<asr><age><gender>hi<OLD><BOY>", labels)
    assert (answer.text, answer.labels) == ("hi", {"age": "OLD", "gender": "FEMALE"})
    assert answer.raw.endswith("<OLD><BOY>")
    assert answer.warnings == [
        "left out of the text: <BOY>",
        "no gender was written; FEMALE is the likeliest (75%)",
    ]
    assert labels.asked == [(request.task, "hi", {"age": "OLD"})]
    assert read(tokenizer, request, "<asr><age><gender>hi<OLD><MALE>", labels).warnings == []
    assert read(tokenizer, make_request(instruction="who?"), "<asr><gender>hi", labels).labels == {}
    assert len(labels.asked) == 1
    exported = read(tokenizer, make_request("sgc"), "<asr><gender>hi")
    assert exported.labels == {} and exported.warnings == [
        "no gender was written; an export cannot decide it"
    ]


def test_a_label_that_was_not_asked_for_is_left_out(tokenizer):
    answer = read(tokenizer, make_request("asr"), "<asr>hello<DISGUST>")
    assert answer.text == "hello" and answer.labels == {} and answer.marks == ["<DISGUST>"]
    assert answer.warnings == ["left out, as it was not asked for: emotion <DISGUST>"]
    free = read(tokenizer, make_request(instruction="what is said"), "<asr>hello<DISGUST>")
    assert free.labels == {"emotion": "DISGUST"} and not free.warnings


def test_confidence_of_words(tokenizer):
    """Each word has its own tokens; times and tags are no words."""
    text = "<asr><align><0.20>turn<0.48><0.48>0<0.60>"
    ids = tokenizer.encode(text)
    p = [0.5 if any(c.isalpha() for c in tokenizer.decode([i]).strip("<>")) else 0.9 for i in ids]
    answer = read(tokenizer, make_request("srwt"), text, log_p=np.log(p).tolist())
    assert [word for word, _ in answer.word_confidence] == ["turn", "0"]
    assert answer.word_confidence[0][1] == pytest.approx(0.5, abs=1e-3)
    assert answer.word_confidence[1][1] > 0.85
    assert answer.confidence == pytest.approx(math.exp(np.log(p).mean()), abs=1e-3)
    text = "<asr>打开 light"
    answer = read(tokenizer, make_request(), text, log_p=[math.log(0.5)] * len(tokenizer.encode(text)))
    assert answer.word_confidence == [("打", 0.5), ("开", 0.5), ("light", 0.5)]
    assert read(tokenizer, make_request(), text).confidence is None


def test_hotwords_are_words_of_the_request():
    asked = make_request("asr", hotwords="Ascend, 昇腾，Ascend")
    assert asked.hotwords == ("Ascend", "昇腾") and asked.output_type == "text"
    words = SYSTEM.with_hotwords(asked.words, asked.task, asked.hotwords)
    assert (
        words.startswith("你能听这段语音")
        and words.endswith("可能出现的词：Ascend、昇腾。")
        and "<" not in words
    )
    free = make_request(instruction="What is said?", hotwords=["Ascend"])
    assert SYSTEM.with_hotwords(free.words, None, free.hotwords).endswith("Words that may occur: Ascend.")
    assert make_request("sttc", hotwords=["x"]).output_type == "text"  # the other form has no request
    for wrong in ([1], "a,<asr>", 7):
        with pytest.raises(UserError, match="hotword"):
            make_request("asr", hotwords=wrong)


def test_a_system_without_a_place_for_hotwords_refuses():
    class Other(System):
        model_type = "other"

    with pytest.raises(UserError, match="a model of other has no place for them"):
        Other().with_hotwords("<asr>", "<TRANSCRIBE>", ["x"])


def test_a_loop_is_generated_once_more_if_asked(tokenizer):
    """The others of the batch keep their answers; the penalty is the only other thing."""
    answerer = Answerer.__new__(Answerer)
    answerer.generator, answerer.system, answerer.tokenizer = Scripted(), SYSTEM, tokenizer
    fine, again = answerer._generated(["fine", "loop"], Sampling(loops="retry"), 2)
    assert (fine.tokens, fine.retried) == ([9, 8, 7], False)
    assert (again.tokens, again.retried, again.unit) == ([9, 8, 7], True, 0)
    assert answerer._generated(["loop"], Sampling(), 1)[0].unit == 1
    assert isinstance(read(tokenizer, make_request(), "<asr>a", retried=True), Answer)
