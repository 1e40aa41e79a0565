"""A tiny SentencePiece model of the openPangu kind, trained on the spot."""

import io

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
    from mindspore_osum.text.tokenizer import Tokenizer

    return Tokenizer(tiny_model)
