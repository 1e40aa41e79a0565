from functools import lru_cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED, TOKENIZER
from mindspore_osum.inference.tokens import restricted
from mindspore_osum.systems.prompt import Prompt
from mindspore_osum.tasks import (
    LABEL_SETS,
    TAG_OF_KEY_PART,
    TASK_KEYS,
    answer_starts,
    format_answer,
    longer_openings,
    tags_of,
    write_tags,
)
from mindspore_osum.text.sequence import (
    IGNORE,
    Audio,
    Target,
    Text,
    denied_ids,
    lay_out,
    opening_ids,
    stack_sequences,
)
from mindspore_osum.text.tokenizer import Tokenizer, open_tokenizer

LOSSES = ("intent", "content")


def example(tokenizer, n_speech=None, answer="b"):
    """left, request, speech where there is some, assistant, answer; its first part may be intent."""
    answer = [("content", answer)] if isinstance(answer, str) else answer
    speech = [Audio(n_speech)] if n_speech else []
    spans = [Text("left", bos=True), Text("a"), *speech, Text("[unused9]", bos=True), Target(answer)]
    return lay_out(tokenizer, spans, LOSSES)


def test_spans_are_tokenized_one_by_one(tiny):
    left, request, label = (tiny.encode(t) for t in ("left", "a", "<asr>hello"))
    seq = example(tiny, 3, "<asr>hello")
    context = [1, *left, *request, -2, -1, -1, -1, -3, 1, *tiny.encode("[unused9]")]
    assert seq.ids_L.tolist() == [*context, *label, tiny.eos_id]
    assert seq.labels_L.tolist() == [IGNORE] * len(context) + [*label, tiny.eos_id]
    assert seq.spans_L.tolist() == [0] * len(context) + [2] * (len(label) + 1)
    assert seq.n_speech == 3 and len(seq) == len(seq.ids_L)
    assert {a.dtype for a in (seq.ids_L, seq.labels_L, seq.spans_L)} == {np.dtype("int32")}


@lru_cache(maxsize=1)
def bundled() -> Tokenizer:
    return open_tokenizer(BUNDLED / TOKENIZER)


@lru_cache
def opening_of(tokenizer: Tokenizer, task: str):
    return opening_ids(tokenizer, *answer_starts(task))


@pytest.mark.parametrize("task", TASK_KEYS)
def test_no_opening_goes_on_as_another(tiny, task):
    """The tokens that would make it another task's are denied, and none that training has there."""
    for tokenizer in (tiny, bundled()):
        opening, texts = answer_starts(task)
        ids, first = opening_ids(tokenizer, opening, texts)
        denied = denied_ids(tokenizer, ids, texts, longer_openings(task))
        assert not set(denied) & {tokenizer.encode(text)[len(ids)] for text in texts}
        if tokenizer is bundled():  # whose tags are single pieces
            assert len(denied) >= len({*TAG_OF_KEY_PART.values()}) or first
    scores_BV = restricted(np.zeros((2, 9), np.float32), [Prompt(None, denied=(1, 4)), Prompt(None)])
    assert np.isinf(scores_BV).sum() == 2 and np.isinf(scores_BV[0, [1, 4]]).all()


plain = st.text(st.characters(categories=("Ll", "Lo", "Nd")), min_size=1, max_size=8)


@pytest.mark.parametrize("task", TASK_KEYS)
@given(text=plain, second=st.integers(0, 60), number=st.integers(0, 5))
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_openings_are_those_of_training(tiny, task, text, second, number):
    """Every answer in training begins with it, whether a tokenizer joins the brackets of two tags, or has a
    piece for each tag and time as the bundled one has."""
    assert len(tiny.encode("a><b")) < len(tiny.encode("a>b<b"))
    labels = {s.field: s.values[number % len(s.values)] for s in LABEL_SETS.values()}
    words = [(text, second, second + 0.5)]
    written = format_answer(task, text=text, labels=labels, answer=text, words=words)
    tags = write_tags(tags_of(task))
    for tokenizer in (tiny, bundled()):
        ids, first = opening_of(tokenizer, task)
        encoded = tuple(tokenizer.encode(written))
        assert encoded[: len(ids)] == ids and (not first or encoded[len(ids)] in first)
        assert tokenizer.decode(ids) in ((tags.removesuffix(">"),) if first else (tags, tags + "<"))


def test_ids_are_taken_as_they_are():
    seq = lay_out(None, [Text(np.array([7, 8])), Audio(1), Text([9], loss="x")], ("x",))
    assert seq.ids_L.tolist() == [7, 8, -2, -1, -3, 9] and seq.labels_L.tolist() == [IGNORE] * 5 + [9]


def test_the_first_position_has_no_label():
    """Nothing before it predicts it; in a pack the sequence before would have to."""
    seq = lay_out(None, [Text([7, 8], loss="x")], ("x",))
    assert seq.labels_L.tolist() == [IGNORE, 8] and seq.spans_L.tolist() == [0, 1]
    assert len(lay_out(None, [])) == 0


def test_stack(tiny):
    speech, words, longer = example(tiny, 2), example(tiny), example(tiny, 4)
    length = len(longer) + 3
    batch = stack_sequences([speech, words, longer], length, 5, 2)
    assert all(a.shape == (3, length) and a.dtype == np.int32 for a in batch.values())
    for b, seq in enumerate([speech, words, longer]):
        n = len(seq)
        np.testing.assert_array_equal(batch["token_ids_BL"][b, :n], np.maximum(seq.ids_L, 0))
        assert not batch["token_ids_BL"][b, n:].any() and (batch["speech_row_BL"][b, n:] == -1).all()
        np.testing.assert_array_equal(batch["speech_row_BL"][b, :n] == -1, seq.ids_L >= 0)
    rows = [[int(r) for r in row if r >= 0] for row in batch["speech_row_BL"]]
    # the second recording reads slot 1, whichever row it stands in
    assert rows == [[0, 2, 3, 1], [], [0, 2 + 5, 3 + 5, 4 + 5, 5 + 5, 1]]


def test_what_does_not_fit_is_refused(tiny):
    seq = example(tiny, 4)
    n = len(seq)
    with pytest.raises(UserError, match=rf"row 0: {n} tokens do not fit .* length {n - 3} \(3 too many\)"):
        stack_sequences([seq], n - 3, 4, 1)
    with pytest.raises(UserError, match=r"4 speech tokens do not fit the 3 of an audio slot \(1 too many\)"):
        stack_sequences([seq], n, 3, 1)
    with pytest.raises(UserError, match="2 recordings but has 1 audio slots"):
        stack_sequences([seq, seq], n, 4, 1)


@pytest.mark.parametrize("left_out", [1, 2])
def test_a_part_may_be_not_learned(tiny, left_out):
    parts = [("intent", "<asr>"), ("content", "hello")]
    whole = example(tiny, 2, parts)
    parts[left_out - 1] = ("", parts[left_out - 1][1])
    seq = example(tiny, 2, parts)
    np.testing.assert_array_equal(seq.ids_L, whole.ids_L)
    np.testing.assert_array_equal(seq.spans_L, np.where(whole.spans_L == left_out, 0, whole.spans_L))
    np.testing.assert_array_equal(seq.labels_L, np.where(whole.spans_L == left_out, IGNORE, whole.labels_L))


def test_parts_of_an_answer(tiny):
    every = tiny.encode("<asr>hello") + [tiny.eos_id]
    for parts in (
        [("content", "<asr>hello")],
        [("intent", "<asr>"), ("content", "hello")],
        [("intent", "<asr>hello")],
    ):
        seq = example(tiny, 2, parts)
        found = [seq.labels_L[seq.spans_L == number].tolist() for number in (1, 2)]
        assert sum(found, []) == every
        if len(parts) == 2:
            assert tiny.decode(found[0]).startswith("<asr>") and tiny.decode(found[0][:-1]) != "<asr>"
        else:
            assert found[parts[0][0] == "intent"] == []
        assert np.array_equal(seq.spans_L == 0, seq.labels_L == IGNORE)


def test_a_piece_across_the_end_of_a_part_belongs_to_it(tmp_path):
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
    tokenizer = open_tokenizer(tmp_path / "tokenizer.model")
    seq = example(tokenizer, None, [("intent", "<asr>"), ("content", "hello")])
    assert tokenizer.decode(seq.labels_L[seq.spans_L == 1]) == "<asr>h"
    assert tokenizer.decode(seq.labels_L[seq.spans_L == 2]) == "ello"
    with pytest.raises(UserError, match="tokenizer.model: cannot spell '<XYZ>'"):
        example(tokenizer, None, [("intent", "<XYZ>"), ("content", "a")])
