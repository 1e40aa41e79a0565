"""Byte-level BPE against the tokenizers library, which reads the whole file."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from mindspore_osum.errors import UserError
from mindspore_osum.text.byte_pairs import BytePairTokenizer


@pytest.fixture(scope="module")
def pieces(byte_pairs):
    return BytePairTokenizer(byte_pairs / "tokenizer.json")


@pytest.fixture(scope="module")
def library(byte_pairs):
    return Library.from_file(str(byte_pairs / "tokenizer.json"))


TEXT = st.lists(
    st.sampled_from(["<|end|>", "<|user|>", "<|", "end", "|>", " the recording", "你好", "é", "\n", "7"])
)


@settings(max_examples=100, deadline=None)
@given(TEXT | st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=8)))
def test_as_the_library(pieces, library, parts):
    text = "".join(parts)
    ids = pieces.encode(text)
    assert ids == library.encode(text, add_special_tokens=False).ids
    assert pieces.decode(ids, skip_special=False) == library.decode(ids, skip_special_tokens=False) == text


@given(TEXT)
def test_a_users_text_has_no_special_piece(pieces, parts):
    text = "".join(parts)
    ids = pieces.encode(text, plain=[range(len(text))])
    assert not set(pieces.added.values()) & {*ids} and pieces.decode(ids) == text


def test_only_the_users_part_is_plain(pieces):
    user, end = pieces.added["<|user|>"], pieces.added["<|end|>"]
    text = "<|user|>a<|end|>b<|end|>"
    ids = pieces.encode(text, plain=[range(8, 17)])
    assert ids[0] == user and ids[-1] == end and end not in ids[:-1]
    assert pieces.special_in(text) == ["<|user|>", "<|end|>", "<|end|>"]


def test_no_forced_beginning(pieces, byte_pairs, tmp_path):
    assert pieces.bos_id is None and pieces.encode("a", bos=True) == pieces.encode("a")
    values = json.loads((byte_pairs / "tokenizer.json").read_text())
    begin = {"SpecialToken": {"id": "<|user|>", "type_id": 0}}
    single = [begin, {"Sequence": {"id": "A", "type_id": 0}}]
    about = {"<|user|>": {"id": "<|user|>", "ids": [pieces.added["<|user|>"]], "tokens": ["<|user|>"]}}
    template = {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": about}
    values["post_processor"] = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    names = {"bos_token": {"content": "<|user|>"}, "eos_token": "<|end|>"}  # both ways of writing them
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(names))
    other = BytePairTokenizer(tmp_path / "tokenizer.json")
    assert other.encode("a", bos=True) == [pieces.added["<|user|>"], *pieces.encode("a")]
    assert other.encode("a") == pieces.encode("a")


def test_ends_and_padding_are_skipped(pieces):
    ids = [*pieces.encode("<|user|>hi"), pieces.eos_id, pieces.pad_id]
    assert (
        pieces.decode(ids) == "<|user|>hi" and pieces.decode(ids, skip_special=False) == "<|user|>hi<|end|>"
    )


def test_half_a_character(pieces):
    ids = pieces.encode("龘")
    assert len(ids) > 1 and pieces.decode(ids[:-1]) == "\ufffd"


def test_pieces_that_only_the_model_has(byte_pairs):
    pieces = BytePairTokenizer(byte_pairs / "tokenizer.json")
    size = pieces.vocab_size
    pieces.extend([("<|0.00|>", size), ("<|0.02|>", size + 1), ("<|end|>", pieces.eos_id)])
    assert pieces.vocab_size == pieces.pad_id == size + 2
    assert pieces.encode("<|0.02|>a") == [size + 1, *pieces.encode("a")]
    assert pieces.decode([size, *pieces.encode("a")]) == "<|0.00|>a"
    for piece, i in (("<|end|>", size + 2), ("<|new|>", 3)):
        with pytest.raises(UserError, match="another model's"):
            pieces.extend([(piece, i)])


@pytest.mark.parametrize("bad", [-1, 10**6])
def test_foreign_id_is_a_user_error(pieces, bad):
    with pytest.raises(UserError, match="another model.s tokenizer, or the model wrote a row"):
        pieces.decode([5, bad])


def test_lone_surrogate_is_a_user_error(pieces):
    with pytest.raises(UserError, match="character 1"):
        pieces.encode("a\ud800")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model": {"type": "Unigram", "vocab": []}}, "not byte-level BPE .its model is Unigram"),
        ({"model": 3}, "not byte-level BPE"),
        ({"decoder": {"type": "Metaspace"}}, "not byte-level BPE"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}, "damaged"),
        ({"pre_tokenizer": {"type": "Nothing"}}, "damaged"),
        ({"added_tokens": [{"content": "x", "id": -1}]}, "no text with an id"),
        ({"added_tokens": [{"content": "x", "id": 10**9}]}, "no text with an id"),
        ({"added_tokens": ["x"]}, "no text with an id"),
        ({"added_tokens": []}, "no piece '<.end.>'.*eos_token"),
    ],
)
def test_what_is_refused(byte_pairs, tmp_path, change, message):
    values = json.loads((byte_pairs / "tokenizer.json").read_text()) | change
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    (tmp_path / "tokenizer_config.json").write_text((byte_pairs / "tokenizer_config.json").read_text())
    with pytest.raises(UserError, match=message) as caught:
        BytePairTokenizer(tmp_path / "tokenizer.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", [str, lambda pair: pair.split(" ")])
def test_the_first_merge_of_old_files_of_whisper(byte_pairs, tmp_path, form):
    """Without it, as with it: the tokens are those of the whole file."""
    from tokenizers import pre_tokenizers

    values = json.loads((byte_pairs / "tokenizer.json").read_text("utf-8"))
    merges = ["Ġ t", "Ġ a", "Ġt h", "e n", "Ġth en", "t h", "th en", "Ġa t"]
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(pair.replace(" ", "") for pair in merges)]
    values["model"]["vocab"] = {piece: n for n, piece in enumerate(pieces)}
    last = len(pieces)
    for n, token in enumerate(values["added_tokens"]):
        token["id"] = last + n
    values["model"]["merges"] = merges
    whole = Library.from_str(json.dumps(values))
    for kept in (merges, merges[1:]):
        values["model"]["merges"] = [form(pair) for pair in kept]
        (tmp_path / "tokenizer.json").write_text(json.dumps(values), "utf-8")
        (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|end|>"}')
        found = BytePairTokenizer(tmp_path / "tokenizer.json")
        for text in (" then at that", "then the", " t", "\tt"):
            assert found.encode(text) == whole.encode(text, add_special_tokens=False).ids
    assert found.encode(" then") == [pieces.index("Ġthen")]
