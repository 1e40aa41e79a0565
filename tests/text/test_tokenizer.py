"""Which tokenizer a folder has, and what is copied of it."""

import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.text.byte_pairs import BytePairTokenizer
from mindspore_osum.text.sentence_piece import SentencePieceTokenizer
from mindspore_osum.text.tokenizer import check_ids, open_tokenizer, tokenizer_files


def test_the_kind_is_read(tiny_model, byte_pairs, tmp_path):
    assert type(open_tokenizer(tiny_model)) is SentencePieceTokenizer
    assert type(open_tokenizer(byte_pairs)) is BytePairTokenizer  # a folder
    assert type(open_tokenizer(byte_pairs / "tokenizer.json")) is BytePairTokenizer
    (tmp_path / "tokenizer.model").write_bytes(tiny_model.read_bytes())
    (tmp_path / "tokenizer.json").write_bytes((byte_pairs / "tokenizer.json").read_bytes())
    assert type(open_tokenizer(tmp_path)) is SentencePieceTokenizer  # as before there was another
    assert tokenizer_files(tmp_path).keys() == {"tokenizer.model", "tokenizer.json"}


def test_an_older_form_alone(tmp_path):
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(UserError, match="no tokenizer in this folder.*save_pretrained"):
        open_tokenizer(tmp_path)


def test_what_is_copied(tiny_model, byte_pairs):
    assert tokenizer_files(tiny_model) == {"tokenizer.model": tiny_model}
    names = {"tokenizer.json", "tokenizer_config.json"}
    assert (
        tokenizer_files(byte_pairs).keys() == tokenizer_files(byte_pairs / "tokenizer.json").keys() == names
    )


def test_a_tokenizer_of_another_model(byte_pairs):
    pieces = open_tokenizer(byte_pairs)
    check_ids(pieces, pieces.vocab_size, pieces.eos_id, "here")
    with pytest.raises(UserError, match="pieces, but the model has only 12"):
        check_ids(pieces, 12, pieces.eos_id, "here")
    with pytest.raises(UserError, match="here: decoder.eos_id .* is none of"):
        check_ids(pieces, 10**6, pieces.vocab_size, "here")
