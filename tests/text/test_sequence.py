import json

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.tasks import format_answer
from mindspore_osum.text.prompts import PromptSet, load_prompt_set
from mindspore_osum.text.sequence import (
    CONTENT,
    IGNORE,
    INTENT,
    build_sequence,
    pack_sequences,
    stack_sequences,
)
from mindspore_osum.text.tokenizer import Tokenizer

PROMPTS = PromptSet(
    "test", dict.fromkeys(("text", "s2t_chat", "text2text", "intent_classification"), "left"), "[unused9]"
)


@pytest.fixture(scope="module")
def golden(shared):
    config = json.loads((shared / "golden/config.json").read_text("utf-8"))
    with np.load(shared / "golden/golden_wav1.npz") as npz:
        arrays = {k: npz[k][0] for k in npz if k.endswith(("_ids", "_labels", "train_attention_mask"))}
        n_speech = npz["speech_embeds"].shape[1]
    return config, arrays, n_speech, Tokenizer(shared / "golden/tokenizer.model")


def test_golden_training_sequence(golden):
    config, arrays, n_speech, tokenizer = golden
    sample = config["samples"]["wav1"]
    label = format_answer(sample["task"], text=sample["raw_txt"])
    seq = build_sequence(
        tokenizer,
        load_prompt_set("osum_pangu"),
        sample["output_type"],
        request=config["instructions"]["wav1"],
        n_speech=n_speech,
        label=label,
    )
    np.testing.assert_array_equal(seq.ids_L, arrays["train_input_ids"])
    np.testing.assert_array_equal(seq.labels_L, arrays["train_labels"])
    np.testing.assert_array_equal(seq.attention_mask_L, arrays["train_attention_mask"])
    np.testing.assert_array_equal(seq.positions_L, arrays["train_position_ids"])
    assert tokenizer.encode(config["instructions"]["wav1"]) == sample["prompt_token_ids"]
    assert seq.labels_L[seq.labels_L >= 0].tolist() == sample["label_token_ids"]


def test_golden_inference_sequences(golden):
    config, arrays, n_speech, tokenizer = golden
    prompts = load_prompt_set("osum_pangu_published_inference")
    seq = build_sequence(
        tokenizer, prompts, "text", request=config["instructions"]["wav1"], n_speech=n_speech, bos="published"
    )
    np.testing.assert_array_equal(seq.ids_L, arrays["gen_input_ids"])
    np.testing.assert_array_equal(seq.positions_L, np.arange(len(seq)))
    chat = build_sequence(tokenizer, prompts, "s2t_chat", n_speech=n_speech, bos="published")
    np.testing.assert_array_equal(chat.ids_L, arrays["chat_input_ids"])


def test_training_form(tiny):
    left, request, label = (tiny.encode(t) for t in ("left", "how old", "<asr>hello"))
    sep = tiny.encode("[unused9]")
    seq = build_sequence(tiny, PROMPTS, "text", request="how old", n_speech=3, label="<asr>hello")
    context = [1, *left, *request, -2, -1, -1, -1, -3, 1, *sep]
    assert seq.ids_L.tolist() == [*context, *label, tiny.eos_id]
    assert seq.labels_L.tolist() == [-100] * len(context) + [*label, tiny.eos_id]
    assert seq.positions_L.tolist() == list(range(len(seq)))
    assert seq.attention_mask_L.tolist() == [1] * len(seq)
    assert seq.n_speech == 3
    arrays = (seq.ids_L, seq.labels_L, seq.positions_L, seq.attention_mask_L)
    assert {a.dtype for a in arrays} == {np.dtype("int32")}


def test_inference_form_is_the_training_context(tiny):
    train = build_sequence(tiny, PROMPTS, "text", request="how old", n_speech=3, label="x")
    infer = build_sequence(tiny, PROMPTS, "text", request="how old", n_speech=3)
    np.testing.assert_array_equal(infer.ids_L, train.ids_L[: len(infer)])
    assert set(infer.labels_L.tolist()) == {-100}


def test_published_bos_stands_before_the_request_of_unlabelled_speech_only(tiny):
    def extra(output_type, n_speech, label):
        lengths = [
            len(
                build_sequence(
                    tiny, PROMPTS, output_type, request="how old", n_speech=n_speech, label=label, bos=bos
                )
            )
            for bos in ("training", "published")
        ]
        return lengths[1] - lengths[0]

    assert extra("text", 2, None) == 1
    assert extra("text", 2, "hi") == extra("text2text", None, None) == extra("s2t_chat", 2, None) == 0


def test_text_only_and_chat_forms(tiny):
    left, words, sep = (tiny.encode(t) for t in ("left", "how old", "[unused9]"))
    for output_type in ("text2text", "intent_classification"):
        seq = build_sequence(tiny, PROMPTS, output_type, request="how old")
        assert seq.ids_L.tolist() == [1, *left, *words, 1, *sep] and seq.n_speech == 0
    chat = build_sequence(tiny, PROMPTS, "s2t_chat", request="is dropped", n_speech=1)
    assert chat.ids_L.tolist() == [1, *left, -2, -1, -3, 1, *sep]


def test_unk_rule(tiny):
    label = tiny.encode("hello world")
    hidden = label[1]
    seq = build_sequence(
        tiny, PROMPTS, "text", request="r", n_speech=2, label="hello world", unk_label_id=hidden
    )
    n = len(seq) - len(label) - 1  # first label
    assert seq.labels_L[n + 1] == -100 and seq.ids_L[n + 1] == 0
    assert seq.attention_mask_L[n + 1] == 0 and seq.positions_L[n + 1] == 1
    assert seq.positions_L[n] == n and seq.positions_L[n + 2] == n + 1
    assert seq.attention_mask_L.sum() == len(seq) - label.count(hidden)
    batch = stack_sequences([seq], len(seq), 2, 1)
    assert batch["segments_BL"][0, n + 1] == 0 and batch["segments_BL"][0, n + 2] == 1


def test_unk_rule_leaves_cut_off_labels_without_eos(tiny):
    last = {
        unk: build_sequence(
            tiny, PROMPTS, "text", request="r", n_speech=2, label="hi<&&>", unk_label_id=unk
        ).ids_L[-1]
        for unk in (None, 7672)
    }
    assert last[None] == tiny.eos_id
    assert last[7672] != tiny.eos_id


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(output_type="tex", request="r", n_speech=1), "choose one of text"),
        (dict(output_type="text", request="r", n_speech=1, bos="never"), "choose one of training"),
        (dict(output_type="text", n_speech=1), "a request"),
        (dict(output_type="text", request="r"), "speech is needed"),
        (dict(output_type="text", request="r", n_speech=0), "speech is needed"),
        (dict(output_type="text2text", request="r", n_speech=1), "holds no speech"),
    ],
)
def test_impossible_sequences(tiny, arguments, message):
    with pytest.raises(UserError, match=message):
        build_sequence(tiny, PROMPTS, **arguments)


def test_stack(tiny):
    speech = build_sequence(tiny, PROMPTS, "text", request="a", n_speech=2, label="b")
    words = build_sequence(tiny, PROMPTS, "text2text", request="a", label="b")
    longer = build_sequence(tiny, PROMPTS, "text", request="a", n_speech=4, label="b")
    length, zmax = len(longer) + 3, 5
    batch = stack_sequences([speech, words, longer], length, zmax, 2)
    assert all(a.shape == (3, length) and a.dtype == np.int32 for a in batch.values())
    for b, seq in enumerate([speech, words, longer]):
        n = len(seq)
        np.testing.assert_array_equal(batch["token_ids_BL"][b, :n], np.maximum(seq.ids_L, 0))
        np.testing.assert_array_equal(batch["labels_BL"][b, :n], seq.labels_L)
        np.testing.assert_array_equal(batch["positions_BL"][b, :n], np.arange(n))
        np.testing.assert_array_equal(batch["segments_BL"][b], np.arange(length) < n)
        assert set(batch["labels_BL"][b, n:].tolist()) <= {-100}
        assert set(batch["speech_row_BL"][b, n:].tolist()) <= {-1}
        np.testing.assert_array_equal(batch["speech_row_BL"][b, :n] == -1, seq.ids_L >= 0)
    assert [r for r in batch["speech_row_BL"][0] if r >= 0] == [0, 2, 3, 1]
    assert [r for r in batch["speech_row_BL"][1] if r >= 0] == []
    # the second recording reads slot 1, whichever row it stands in
    assert [r for r in batch["speech_row_BL"][2] if r >= 0] == [0, 2 + 5, 3 + 5, 4 + 5, 5 + 5, 1]


def test_pack_equals_the_sequences_one_by_one(tiny):
    a, b = (build_sequence(tiny, PROMPTS, "text", request="a", n_speech=n, label="b") for n in (2, 3))
    batch = pack_sequences([[a, b], [b]], len(a) + len(b) + 1, 4, 3)
    alone = [stack_sequences([s], len(s), 4, 1) for s in (a, b)]
    for name in ("token_ids_BL", "labels_BL", "positions_BL"):
        row = batch[name][0]
        np.testing.assert_array_equal(row[: len(a)], alone[0][name][0])
        np.testing.assert_array_equal(row[len(a) : len(a) + len(b)], alone[1][name][0])
    assert batch["segments_BL"][0].tolist() == [1] * len(a) + [2] * len(b) + [0]
    rows = [[int(r) for r in row if r >= 2] for row in batch["speech_row_BL"]]
    assert rows == [[2, 3, 6, 7, 8], [10, 11, 12]]


def test_what_does_not_fit_is_refused(tiny):
    seq = build_sequence(tiny, PROMPTS, "text", request="a", n_speech=4)
    n = len(seq)
    with pytest.raises(UserError, match=rf"row 0: {n} tokens do not fit .* length {n - 3} \(3 too many\)"):
        stack_sequences([seq], n - 3, 4, 1)
    with pytest.raises(UserError, match=r"4 speech tokens do not fit the 3 of an audio slot \(1 too many\)"):
        stack_sequences([seq], n, 3, 1)
    with pytest.raises(UserError, match="2 recordings but has 1 audio slots"):
        stack_sequences([seq, seq], n, 4, 1)


def test_spans_of_a_label(tiny):
    label = "<asr>hello"
    every = tiny.encode(label) + [tiny.eos_id]
    for intent in ("", "<asr>", label):
        seq = build_sequence(tiny, PROMPTS, "text", request="r", n_speech=2, label=label, intent=intent)
        parts = [seq.labels_L[seq.spans_L == span].tolist() for span in (INTENT, CONTENT)]
        assert seq.spans_L.dtype == np.int32 and sum(parts, []) == every
        if intent == "<asr>":
            assert tiny.decode(parts[0]).startswith(intent) and tiny.decode(parts[0][:-1]) != intent
        else:
            assert parts[bool(intent)] == []
        rest = seq.without_intent()
        assert rest.labels_L[rest.labels_L != IGNORE].tolist() == parts[1]
        assert rest.labels_L.dtype == np.int32 and np.array_equal(rest.ids_L, seq.ids_L)
        assert set(rest.spans_L) == ({0, CONTENT} if parts[1] else {0})
        assert np.array_equal(seq.spans_L == 0, seq.labels_L == -100)
        batch = stack_sequences([seq, seq], len(seq) + 2, 2, 2)
        np.testing.assert_array_equal(batch["spans_BL"][1, : len(seq)], seq.spans_L)
        assert not batch["spans_BL"][:, len(seq) :].any()


def test_a_piece_across_the_end_of_the_tags_is_of_the_intent(tmp_path):
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["<asr>hello"] * 9),
        model_writer=model,
        model_type="char",
        vocab_size=40,
        user_defined_symbols=[">h", "[unused9]", "[unused10]"],
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (tmp_path / "tokenizer.model").write_bytes(model.getvalue())
    tokenizer = Tokenizer(tmp_path / "tokenizer.model")
    seq = build_sequence(tokenizer, PROMPTS, "text2text", request="s", label="<asr>hello", intent="<asr>")
    assert tokenizer.decode(seq.labels_L[seq.spans_L == INTENT]) == "<asr>h"
    assert tokenizer.decode(seq.labels_L[seq.spans_L == CONTENT]) == "ello"
    with pytest.raises(UserError, match="tokenizer.model: cannot spell '<XYZ>'"):
        build_sequence(tokenizer, PROMPTS, "text2text", request="s", label="<XYZ>a", intent="<XYZ>")
