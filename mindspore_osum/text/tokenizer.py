"""Which tokenizer a folder has, what is copied of it, and whether it is a model's.

tokenizer = open_tokenizer("model")  # of tokenizer.model (SentencePiece) or tokenizer.json (BPE)
tokenizer.decode(tokenizer.encode("hello"))
"""

from pathlib import Path

from mindspore_osum.errors import UserError
from mindspore_osum.text.byte_pairs import BytePairTokenizer
from mindspore_osum.text.pieces import Tokenizer
from mindspore_osum.text.sentence_piece import SentencePieceTokenizer

SENTENCE_PIECE, BYTE_PAIRS = "tokenizer.model", "tokenizer.json"
# beside tokenizer.json: what names its special pieces, and the same vocabulary in an older form
COMPANIONS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "normalizer.json",
)


def find_tokenizer(path: str | Path) -> Path:
    """The file of a tokenizer: `path` itself, or that of a folder; UserError if the folder has none."""
    path = Path(path)
    if not path.is_dir():
        return path
    for name in (SENTENCE_PIECE, BYTE_PAIRS):
        if (path / name).exists():
            return path / name
    older = "; make tokenizer.json of it with save_pretrained of transformers' AutoTokenizer"
    hint = older if (path / "vocab.json").exists() else ""
    raise UserError(f"{path}: no tokenizer in this folder ({SENTENCE_PIECE} or {BYTE_PAIRS}){hint}")


def open_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer of a folder or a file: byte-level BPE if its name ends in .json, else SentencePiece.

    Raises
    ------
    UserError : there is none, it is too large, damaged or of another kind, or it has no end piece.
    """
    file = find_tokenizer(path)
    return BytePairTokenizer(file) if file.suffix == ".json" else SentencePieceTokenizer(file)


def tokenizer_files(path: str | Path) -> dict[str, Path]:
    """What is copied of the tokenizer that `open_tokenizer(path)` opens: name in a model folder -> file."""
    file, known = find_tokenizer(path), (SENTENCE_PIECE, BYTE_PAIRS, *COMPANIONS)
    beside = file.suffix == ".json" or Path(path).is_dir()
    found = {name: file.parent / name for name in known if beside and (file.parent / name).is_file()}
    return found | {BYTE_PAIRS if file.suffix == ".json" else SENTENCE_PIECE: file}


def check_ids(tokenizer: Tokenizer, vocab_size: int, eos_id: int, where: str) -> None:
    """Refuse a tokenizer that does not belong to a model.

    Parameters
    ----------
    vocab_size : rows of the model's token embedding.
    eos_id : the token that ends the model's answers.
    where : description of the model, for the error.

    Raises
    ------
    UserError : it has more pieces than the model has rows, or the end token is none of its pieces, so that no
        answer could end.
    """
    if tokenizer.vocab_size > vocab_size:
        raise UserError(
            f"{tokenizer.path}: {tokenizer.vocab_size} pieces, but the model has only {vocab_size}; "
            "this tokenizer does not belong to it"
        )
    if not 0 <= eos_id < tokenizer.vocab_size:
        raise UserError(
            f"{where}: decoder.eos_id {eos_id}, the token that ends an answer, is none of the "
            f"{tokenizer.vocab_size} pieces of {tokenizer.path}; one of the two does not belong to this model"
        )
