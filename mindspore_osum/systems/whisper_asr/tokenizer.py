"""Whether a tokenizer is that of a Whisper; it gets the pieces that its file does not list."""

from mindspore_osum.errors import UserError
from mindspore_osum.systems.whisper_asr.config import WhisperConfig
from mindspore_osum.text.tokenizer import Tokenizer, check_ids


def fit_tokenizer(tokenizer: Tokenizer, cfg: WhisperConfig, where: str) -> None:
    """As `System.fit_tokenizer`."""
    from mindspore_osum.text.byte_pairs import BytePairTokenizer

    if not isinstance(tokenizer, BytePairTokenizer):
        raise UserError(f"{tokenizer.path}: a Whisper has byte-level BPE; give its tokenizer.json")
    check_ids(tokenizer, cfg.decoder.vocab_size, cfg.decoder.eos_id, where)
    tokenizer.extend([*cfg.vocabulary.pieces(), *cfg.tag_ids.items()])
