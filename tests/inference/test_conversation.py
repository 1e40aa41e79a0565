"""What was said before a request: order, recordings, and what a model makes of it."""

import numpy as np
import pytest

from mindspore_osum import OSUM
from mindspore_osum.errors import UserError
from mindspore_osum.inference.conversation import Exchange, Said, conversation, history_of
from mindspore_osum.inference.inquiry import OWN_SYSTEM
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.tasks import TEXT2TEXT
from tests.inference.common import SMALL
from tests.speech.voices import RECORDINGS

SHORT = Sampling(max_new_tokens=4)
ASKED = [{"role": "user", "content": "<audio>who?"}, {"role": "assistant", "content": "<asr>a man"}]


def test_turns_in_order():
    said = [
        Said("system", "Be brief."),
        Said("developer", "In English."),
        Said("user", "", 1),
        Said("assistant", "a man"),
        Said("user", "how old"),
    ]
    system, turns, last = conversation(said)
    assert (system, last) == ("Be brief.\nIn English.", said[-1])
    assert turns == (Exchange("s2t_chat", None, "a man"),)
    assert conversation([Said("system", ""), said[-1]]) == (None, (), said[-1])
    assert conversation(said[:4])[2] is None


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ("us", "messages.1.role: 'system': it comes before all other messages"),
        ("uu", "messages.1.role: 'user': the user speaks twice"),
        ("a", "messages.0.role: 'assistant': an answer follows"),
        ("uaa", "messages.2.role: 'assistant': an answer follows"),
        ("sA", "messages.1.role: 'assistant': a recording"),
        ("S", "messages.0.role: 'system': a recording"),
        ("ue", "messages.1.role: 'assistant': it is empty"),
        ("UaU", "messages: 2 recordings; a conversation has one"),
    ],
)
def test_turns_out_of_order(roles, message):
    """One letter a message; a capital one has a recording, "e" is an empty answer."""
    names = {"s": "system", "u": "user", "a": "assistant", "e": "assistant"}
    said = [Said(names[r.lower()], "" if r == "e" else "words", int(r.isupper())) for r in roles]
    with pytest.raises(UserError) as caught:
        conversation(said)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ("hello", "history of type str: give a list"),
        ([("hello", "hi")], "history.0: give a list of"),
        ([{"role": "system", "content": "x"}], "history.0: .* a system message is `system`"),
        (ASKED[:1], "history.0: the last one is an answer"),
        (ASKED[1:], "history.0.role: 'assistant'"),
        ([*ASKED, *ASKED], "history: 2 recordings"),
    ],
)
def test_histories_that_are_none(history, message):
    with pytest.raises(UserError, match=message):
        history_of(history)


@pytest.fixture(scope="module")
def osum(model_folder):
    return OSUM.load(model_folder)


def test_what_was_said_is_in_the_prompt(osum, monkeypatch):
    """The sequence by hand; the recording is that of the earlier turn, and a single turn is as it was."""
    prompts, generate = [], osum.engine.generator.generate

    def seen(asked, *how):
        prompts.extend(asked)
        return generate(asked, *how)

    monkeypatch.setattr(osum.engine.generator, "generate", seen)
    alone = osum(RECORDINGS[0], "who?", sampling=SHORT)
    answer = osum(RECORDINGS[0], "how old", history=ASKED, system="Be brief.", sampling=SHORT)
    assert answer.warnings.count(OWN_SYSTEM) == 1 and OWN_SYSTEM not in alone.warnings
    encode, speech = osum.engine.tokenizer.encode, [-2, *[-1] * SMALL.tokens(len(prompts[0].mel_TF)), -3]
    stop = encode("[unused9]", bos=True)
    single = [*encode("", bos=True), *encode("who?"), *speech, *stop]
    assert prompts[0].sequence.ids_L.tolist() == single
    turns = [*encode("Be brief.", bos=True), *single[1:], *encode("<asr>a man"), 4]
    turns += [*encode("", bos=True), *encode("how old"), *stop]
    assert prompts[1].sequence.ids_L.tolist() == turns
    np.testing.assert_array_equal(prompts[0].mel_TF, prompts[1].mel_TF)
    streamed = osum.stream(RECORDINGS[0], "how old", history=ASKED, system="Be brief.", sampling=SHORT)
    assert "".join(streamed) == answer.raw
    # words before it, and a task by its name
    words = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    osum(RECORDINGS[0], task="asr", history=words, sampling=SHORT)
    ids = prompts[-1].sequence.ids_L.tolist()
    start = [*encode("hi", bos=True), *stop, *encode("hello"), 4, 1, *encode("<asr>"), *speech, *stop]
    assert ids == [*start, *prompts[-1].opening] and osum.engine.tokenizer.decode(prompts[-1].opening)


def test_how_much_room_turns_leave(osum):
    """As many positions as the prompt of the recording itself leaves."""
    from mindspore_osum.inference.request import Request

    turns = history_of(ASKED)
    request = Request("how old", "text2text", None, history=turns)
    prompt, seconds = osum.engine.prompt(RECORDINGS[0], request)
    assert osum.engine.room(request, seconds) == SMALL.decoder.max_positions - len(prompt)
    words = Request("hello", "text2text", TEXT2TEXT)
    assert not osum.engine.hears(words) and osum.engine.hears(request)
    with pytest.raises(UserError, match="what was said before it"):
        osum.engine.room(Request("hello", "text2text", None, history=turns * 60), seconds)
