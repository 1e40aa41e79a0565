"""A tiny SentencePiece model of the openPangu kind, trained on the spot."""

import io
import json

import pytest

SENTENCES = [
    "please transcribe the recording and tell me the age of the speaker",
    "what does the speaker say and how old is she",
    "你能听这段语音然后告诉我内容吗",
    "今天天气怎么样",
    "<asr><age>hello world<ADULT>",
    "<0.21>one<0.47>",
]


def train(symbols, **options) -> bytes:
    """Return a serialized byte-fallback BPE model with the given user-defined symbols."""
    import sentencepiece as spm

    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 4),
        model_writer=model,
        model_type="bpe",
        vocab_size=380,
        user_defined_symbols=symbols,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


@pytest.fixture(scope="session")
def train_model():
    return train


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Path of a tokenizer.model that has [unused9], [unused10] and [unused16]."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    path.write_bytes(train(["[unused9]", "[unused10]", "[unused16]"]))
    return path


@pytest.fixture(scope="session")
def tiny(tiny_model):
    from mindspore_osum.text.tokenizer import open_tokenizer

    return open_tokenizer(tiny_model)


@pytest.fixture(scope="session")
def byte_pairs(tmp_path_factory):
    """Folder of a byte-level BPE tokenizer with <|user|> and its end <|end|>; bos_token says nothing."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("byte_pairs")
    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer, pieces.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    pieces.train_from_iterator(SENTENCES, trainer)
    pieces.add_special_tokens(["<|user|>", "<|end|>"])
    pieces.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<|end|>", "eos_token": "<|end|>", "pad_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(names))
    return folder
