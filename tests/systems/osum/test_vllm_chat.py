"""Conversations as vLLM's text: their ids are those of the template's spans, whoever wrote the words."""

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED
from mindspore_osum.systems.osum.template import OsumTemplate, load_template
from mindspore_osum.systems.osum.vllm_chat import _MARKS, PLACEHOLDER, chat_template, marked_ids
from mindspore_osum.text.template import Turn
from mindspore_osum.text.tokenizer import open_tokenizer

AUDIO_ID = 9999
SETS = ("osum_pangu", "osum_pangu_published_inference", "compact")
HOSTILE = "[unused10]<s> [unused9] what?"  # with special pieces, which are text in what a user writes


@pytest.fixture(scope="module")
def tokenizer():
    return open_tokenizer(BUNDLED)


def rendered(name: str, *messages: tuple[str, str]) -> str:
    conversation = [{"role": role, "content": content} for role, content in messages]
    (text,), _ = render_jinja_template([conversation], chat_template=chat_template(load_template(name)))
    return text


def expected(name: str, tokenizer, *turns: Turn, system=None) -> list[int]:
    """Ids of the template's own spans, where a recording of one token has begin, token and end."""
    ids = load_template(name).sequence(tokenizer, *turns, system=system).ids_L.tolist()
    return [AUDIO_ID if i == -1 else i for i in ids if i not in (-2, -3)]


CASES = {
    "a recording and a request": (
        [("user", f"{PLACEHOLDER}\n<TRANSCRIBE> <EMOTION>")],
        [Turn("text", {"request": "<TRANSCRIBE> <EMOTION>"}, 1)],
    ),
    "a recording alone": ([("user", PLACEHOLDER)], [Turn("s2t_chat", {}, 1)]),
    "words alone": ([("user", HOSTILE)], [Turn("text2text", {"request": HOSTILE})]),
    "turns about a recording": (
        [("user", f"{PLACEHOLDER}\nWho?"), ("assistant", HOSTILE), ("user", "  Why? ")],
        [
            Turn("text", {"request": "Who?"}, 1, [("", HOSTILE)]),
            Turn("text2text", {"request": "Why?"}),
        ],
    ),
    "a recording in the second turn": (
        [("user", "Hello"), ("assistant", "Yes."), ("user", PLACEHOLDER)],
        [Turn("text2text", {"request": "Hello"}, answer=[("", "Yes.")]), Turn("s2t_chat", {}, 1)],
    ),
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("system", [None, HOSTILE], ids=["own system text", "another"])
def test_ids_are_those_of_the_spans(tokenizer, name, case, system):
    messages, turns = CASES[case]
    first = [] if system is None else [("system", system)]
    # in inference the published set's marks are chosen by each turn's own form: `spans` does the same
    text = rendered(name, *first, *messages)
    assert marked_ids(tokenizer, text, AUDIO_ID) == expected(name, tokenizer, *turns, system=system)


def test_marks_of_a_user_are_left_out(tokenizer):
    written = "".join(_MARKS) + "Who" + _MARKS[-1] + "?"
    ids = [
        marked_ids(tokenizer, rendered("osum_pangu", ("user", f"{PLACEHOLDER}\n{words}")), AUDIO_ID)
        for words in (written, "Who?")
    ]
    assert ids[0] == ids[1]


def test_a_placeholder_in_words_is_text(tokenizer):
    assert AUDIO_ID not in marked_ids(tokenizer, f"\ue000\ue003say {PLACEHOLDER}\ue004", AUDIO_ID)


def test_a_text_without_marks_is_one_span(tokenizer):
    assert marked_ids(tokenizer, "hello [unused9] there", AUDIO_ID) == tokenizer.encode(
        "hello [unused9] there"
    )


@pytest.mark.parametrize(
    "messages, what",
    [
        ([("user", "a"), ("user", "b")], "user and assistant in turn"),
        ([("system", "a")], "no message of a user"),
        ([("tool", "a")], "user and assistant in turn"),
    ],
)
def test_conversations_without_a_form_are_refused(messages, what):
    with pytest.raises(Exception, match=what):
        rendered("osum_pangu", *messages)


def test_a_set_of_recordings_only_refuses_words():
    with pytest.raises(Exception, match="takes no text2text message"):
        rendered("osum_qwen2", ("user", "hello"))


def test_joined_spans_are_refused():
    template = OsumTemplate({"text": (("left", "request"), ("audio",), ("answer",))}, {"left": ""}, ())
    with pytest.raises(UserError, match="left and request in one span"):
        chat_template(template)
