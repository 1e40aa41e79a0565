"""A made-up system's sequences: several turns, no BOS, a loss on all text; texts joined to one span."""

import pytest
import yaml

from mindspore_osum.errors import UserError
from mindspore_osum.text.sequence import IGNORE, Audio, Target, Text, stack_sequences
from mindspore_osum.text.template import AUDIO, Turn, read_template

CHAT = """
forms:
  said: [[role, content, turn_end]]
  ask: [[user, content, audio_begin], audio, [audio_end, turn_end, assistant], [answer, turn_end]]
texts:
  {user: "<|user|>", assistant: "<|assistant|>", turn_end: "<|end|>", audio_begin: "<|a|>",
  audio_end: "<|/a|>"}
text_loss: prompt
end: false
marks: false
"""
LOSSES = ("prompt", "answer")
TALK = (
    Turn("said", {"role": "<|user|>", "content": "hello"}),
    Turn("said", {"role": "<|assistant|>", "content": "what is it"}),
)


@pytest.fixture(scope="module")
def chat():
    return read_template("chat.yaml", yaml.safe_load(CHAT), LOSSES)


def asked(answer="how old") -> Turn:
    return Turn("ask", {"content": "listen"}, 2, answer and [("answer", answer)])


def test_spans_of_a_conversation(chat):
    assert chat.needs("said") == {"role", "content"} and chat.needs("ask") == {"content", AUDIO}
    assert chat.spans(*TALK, asked()) == [
        Text("<|user|>hello<|end|>", loss="prompt"),
        Text("<|assistant|>what is it<|end|>", loss="prompt"),
        Text("<|user|>listen<|a|>", loss="prompt"),
        Audio(2, marks=False),
        Text("<|/a|><|end|><|assistant|>", loss="prompt"),
        Target((("answer", "how old<|end|>"),), end=False),
    ]


def test_all_text_is_learned_and_nothing_begins_with_bos(chat, tiny):
    texts = "<|user|>hello<|end|>", "<|assistant|>what is it<|end|>", "<|user|>listen<|a|>"
    before = [i for text in texts for i in tiny.encode(text)]
    after, answer = tiny.encode("<|/a|><|end|><|assistant|>"), tiny.encode("how old<|end|>")
    seq = chat.sequence(tiny, *TALK, asked())
    assert seq.ids_L.tolist() == [*before, -1, -1, *after, *answer]
    assert seq.labels_L.tolist() == [IGNORE, *before[1:], IGNORE, IGNORE, *after, *answer]
    counts = (1, 0), (len(before) - 1, 1), (2, 0), (len(after), 1), (len(answer), 2)
    assert seq.spans_L.tolist() == [number for count, number in counts for _ in range(count)]
    assert tiny.bos_id not in seq.ids_L and tiny.eos_id not in seq.ids_L


def test_what_the_model_shall_write_is_left_out(chat, tiny):
    whole, open_ = chat.sequence(tiny, *TALK, asked()), chat.sequence(tiny, *TALK, asked(None))
    assert open_.ids_L.tolist() == whole.ids_L[: -len(tiny.encode("how old<|end|>"))].tolist()


def test_recordings_of_several_turns_read_slots_of_their_own(chat, tiny):
    seq = chat.sequence(tiny, asked(), Turn("ask", {"content": "and"}, 3, [("answer", "old")]))
    assert seq.recordings == (2, 3) and seq.n_speech == 5
    batch = stack_sequences([seq, seq], len(seq), 4, 4)
    rows = [[int(r) for r in row if r >= 0] for row in batch["speech_row_BL"]]
    assert rows == [[2, 3, 6, 7, 8], [10, 11, 14, 15, 16]]
    with pytest.raises(UserError, match="4 recordings but has 3 audio slots"):
        stack_sequences([seq, seq], len(seq), 4, 3)
    with pytest.raises(UserError, match="3 speech tokens do not fit the 2 of an audio slot"):
        stack_sequences([seq], len(seq), 2, 2)


@pytest.mark.parametrize(
    "before, after, message",
    [
        ("text_loss", "text_los", "unknown key 'text_los'; did you mean 'text_loss'"),
        ("forms:", "former:", "unknown key 'former'; did you mean 'forms'"),
        ("said: [[role, content, turn_end]]", "said: 3", "chat.yaml: said: expected a list"),
        ("[[role, content, turn_end]]", "[[role, 3]]", "chat.yaml: said: expected a list of names, found"),
        ("[user, content, audio_begin], audio", "[user, audio]", "ask: 'audio' is a span of its own"),
        ("[answer, turn_end]]", "[turn_end, answer]]", "ask: 'answer' begins its span"),
        ('user: "<|user|>"', "user: 3", "user: expected a text in quotes, got int"),
        ("text_loss: prompt", "text_loss: promt", "text_loss 'promt'; did you mean 'prompt'"),
        ("end: false", "end: 3", "end: expected true or false, found 3"),
    ],
)
def test_bad_template(before, after, message):
    assert before in CHAT
    with pytest.raises(UserError, match=message):
        read_template("chat.yaml", yaml.safe_load(CHAT.replace(before, after)), LOSSES)
