"""Sequences of other systems as data: a made-up one, and those whose golden data say what they look like.

Several turns, no BOS, a loss on all text, texts joined to one span, the end as text or as a piece.
"""

import json

import numpy as np
import pytest
import yaml

from mindspore_osum.errors import UserError
from mindspore_osum.text.sequence import IGNORE, Audio, Target, Text, stack_sequences
from mindspore_osum.text.template import AUDIO, Turn, read_template
from mindspore_osum.text.tokenizer import open_tokenizer

CHAT = """
forms:
  said: [[role, content, turn_end]]
  ask: [[user, content, audio_begin], audio, [audio_end, turn_end, assistant], [answer, turn_end]]
texts:
  {user: "<|user|>", assistant: "<|assistant|>", turn_end: "<|end|>", audio_begin: "<|a|>",
  audio_end: "<|/a|>"}
control: role
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
        Text("<|user|>hello<|end|>", loss="prompt", plain=(range(8, 13),)),
        Text("<|assistant|>what is it<|end|>", loss="prompt", plain=(range(13, 23),)),
        Text("<|user|>listen<|a|>", loss="prompt", plain=(range(8, 14),)),
        Audio(2, marks=False),
        Text("<|/a|><|end|><|assistant|>", loss="prompt"),
        Target((("answer", "how old<|end|>"),), end=False),
    ]


def test_the_words_of_a_request_are_text(tiny):
    """A piece that a user spells ends nothing; the template's own, and those of named words, do."""
    data = {"forms": {"ask": ["role", ["left", "request", "right"], "answer"]}, "control": "role"}
    data["texts"] = {"left": "a[unused16]", "right": "[unused9]b"}
    template = read_template("x.yaml", data, ["answer"])
    words, ends = "stop[unused10]</s> now", {tiny.eos_id, tiny.encode("</s>")[0]}
    seq = template.sequence(tiny, Turn("ask", {"role": "[unused9]", "request": words}))
    left, right = tiny.encode("[unused16]")[0], tiny.encode("[unused9]")[0]
    ids = seq.ids_L.tolist()
    assert ids[0] == right and ids.count(left) == 1 and ids.count(right) == 2 and not ends & {*ids}
    assert ids[ids.index(left) + 1 : -len(tiny.encode("[unused9]b"))] == tiny.encode(
        words, plain=[range(len(words))]
    )
    assert tiny.decode(ids, skip_special=False) == f"[unused9]a[unused16]{words}[unused9]b"
    assert template.around(tiny, "ask") + len(tiny.encode(words, plain=[range(len(words))])) == len(ids) - 1


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


class BytePieces:
    """A byte-level BPE tokenizer.json, as Qwen2's."""

    def __init__(self, folder, eos_id: int = -1):
        from tokenizers import Tokenizer

        self.pieces, self.eos_id = Tokenizer.from_file(str(folder / "tokenizer.json")), eos_id

    def encode(self, words: str, bos: bool = False, plain=()) -> list[int]:
        assert not bos  # it has none
        return self.pieces.encode(words, add_special_tokens=False).ids


def test_touch_asu(shared):
    """WEST's TouchASU: ChatML without end piece, marks of audio as text, a loss on all that is text."""
    data = {
        "forms": {
            "turn": [["begin", "role", "newline", "content", "end"]],
            "ask": [
                ["user", "request", "begins"],
                "audio",
                ["ends", "assistant"],
                ["answer", "end"],
            ],
        },
        "texts": {
            "begin": "<|im_start|>",
            "newline": "\n",
            "end": "<|im_end|>\n",
            "user": "<|im_start|>user\n",
            "begins": "<|audio_bos|>",
            "ends": "<|audio_eos|><|im_end|>\n",
            "assistant": "<|im_start|>assistant\n",
        },
        "text_loss": "text",
        "end": False,
        "marks": False,
    }
    template, folder = read_template("touch_asu", data, ["text"]), shared / "golden" / "touch_asu"
    pieces, arrays = BytePieces(folder / "llm"), np.load(folder / "golden_asr1.npz")
    ask = Turn("ask", {"request": "Transcribe the Speech"}, 12, [("text", "turn on the light")])
    seq = template.sequence(pieces, ask)
    assert np.maximum(seq.ids_L, 0).tolist() == arrays["in_input_ids"][0].tolist()
    assert seq.labels_L[1:].tolist() == arrays["in_labels"][0, 1:].tolist()  # nothing predicts the first
    assert seq.ids_L.tolist().index(-1) == arrays["in_audio_offsets"][0]
    open_ = template.sequence(pieces, Turn("ask", ask.words, 12))
    assert np.maximum(open_.ids_L, 0).tolist() == arrays["gen_input_ids"][0].tolist()
    # earlier turns are encoded apart there as one text: at the border of a special piece that is the same
    turns = [Turn("turn", {"role": role, "content": "how old"}) for role in ("user", "assistant")]
    text = "".join(f"<|im_start|>{turn.words['role']}\nhow old<|im_end|>\n" for turn in turns)
    before = pieces.encode(text + "<|im_start|>user\nTranscribe the Speech<|audio_bos|>")
    assert template.sequence(pieces, *turns, ask).ids_L[: len(before)].tolist() == before


def test_osum_with_qwen2(shared):
    """No BOS and no system prompt: request, speech between its marks, answer and end."""
    data = {"forms": {"text": ["request", "audio", "answer"]}, "texts": {}}
    folder = shared / "golden" / "osum_qwen2"
    sample = json.loads((folder / "config.json").read_text("utf-8"))["samples"]["wav1"]
    answer = [("content", sample["target_text"].removesuffix("<|endoftext|>"))]
    turn = Turn("text", {"request": sample["prompt_text"]}, sample["speech_tokens"], answer)
    seq = read_template("qwen2", data, ["content"]).sequence(BytePieces(folder / "llm", 597), turn)
    speech = [-2, *[-1] * sample["speech_tokens"], -3]
    assert seq.ids_L.tolist() == [*sample["prompt_ids"], *speech, *sample["target"]]
    assert seq.labels_L.tolist() == np.load(folder / "golden_wav1.npz")["train_labels"][0].tolist()


def test_linear_aligner(shared):
    """Tags of its own around the audio, the request behind it; the answer alone is learned."""
    data = {
        "forms": {"ask": [["human", "begin"], "audio", ["end", "task", "request", "assistant"], "answer"]},
        "texts": {
            "human": "<|Human|>",
            "begin": "<|startofaudio|>",
            "end": "<|endofaudio|>",
            "task": "<|asr|>",
            "assistant": "\n<|Assistant|>",
        },
        "marks": False,
    }
    folder = shared / "golden" / "linear_aligner"
    arrays = np.load(folder / "golden_asr_wav4.npz")
    answer = [("content", "please open the window and call my mother")]
    turn = Turn("ask", {"request": "识别出音频内容"}, 1500, answer)
    template = read_template("linear_aligner", data, ["content"])
    seq = template.sequence(open_tokenizer(folder / "tokenizer.model"), turn)
    before, after, answer = (arrays[f"ids_{part}"].tolist() for part in ("before", "after", "answer"))
    assert seq.ids_L.tolist() == [*before, *[-1] * 1500, *after, *answer]
    assert seq.labels_L[seq.labels_L != IGNORE].tolist() == answer


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
