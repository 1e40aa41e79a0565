"""Byte-level BPE (GPT-2's kind) from tokenizer.json, as Whisper, Qwen, Llama 3 and SmolLM have it.

Notable choices
- The `tokenizers` library splits and merges. It gets the file without its added tokens, so that it can give
  none of them: those that count are cut out of the text here.
- A text begins with a special piece only where the file's own post-processor puts one there; the bos_token of
  tokenizer_config.json alone says nothing (Whisper's is its end).
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from mindspore_osum.errors import UserError
from mindspore_osum.files import read_json
from mindspore_osum.text.pieces import MAX_MODEL_BYTES, Tokenizer, check_id, check_unicode

_NAMES = ("tokenizer_config.json", "special_tokens_map.json")  # of special pieces; the first that says one
_USUAL_END = "<|endoftext|>"  # GPT-2's
_ALONE = {"truncation": None, "padding": None, "post_processor": None, "added_tokens": []}
_MOST_PIECES = 2_000_000


class BytePairTokenizer(Tokenizer):
    """As `Tokenizer`.

    Parameters
    ----------
    path : tokenizer.json; the files beside it name the special pieces.

    Attributes
    ----------
    added : special piece -> id.

    Raises
    ------
    UserError : the file is missing, too large, damaged, or not of this kind; or no piece ends a text.
    """

    def __init__(self, path: str | Path):
        self.path = str(path)
        values = read_json(path, "a tokenizer", MAX_MODEL_BYTES)
        _check_kind(values, self.path)
        self._pieces = _library(values, self.path)
        self.added = _added(values, self.path)
        ids = [*self._pieces.get_vocab().values(), *self.added.values()]
        self.vocab_size = max(ids) + 1
        if self.vocab_size > _MOST_PIECES:
            raise UserError(f"{self.path}: a piece has the id {max(ids)}; this is no tokenizer of a model")
        named = _named(Path(path).parent)
        end = named.get("eos_token", _USUAL_END)
        self.eos_id = self.id_of(end)
        if self.eos_id is None:
            raise UserError(
                f"{self.path}: no piece {end!r}, which ends a text; name the one that does as eos_token in "
                f"{_NAMES[0]} beside it"
            )
        begin = named.get("bos_token")
        self.bos_id = self.id_of(begin) if begin and begin == _first(values.get("post_processor")) else None
        self.pad_id = self.vocab_size
        self._skipped = {self.bos_id, self.eos_id, self.pad_id, self.id_of(named.get("pad_token"))}
        self._index()

    def _index(self) -> None:
        self._texts = {i: piece for piece, i in self.added.items()}
        longest_first = sorted(self.added, key=len, reverse=True)
        self._split = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def id_of(self, piece: str | None) -> int | None:
        """The id of a piece, None if there is none."""
        if piece in self.added:
            return self.added[piece]
        return self._pieces.token_to_id(piece) if piece else None

    def extend(self, pieces: Iterable[tuple[str, int]]) -> None:
        """Add special pieces that a model has and its file does not list.

        Raises
        ------
        UserError : a piece, or its id, is taken by another.
        """
        for piece, i in pieces:
            taken, held = self.id_of(piece), self._texts.get(i) or self._pieces.id_to_token(i)
            if taken not in (None, i) or held not in (None, piece):
                is_now = f"is {taken}" if taken is not None else f"is free, but {i} is {held!r}"
                raise UserError(
                    f"{self.path}: {piece} {is_now}, and {i} in the model; this is another model's tokenizer"
                )
            self.added[piece], self._texts[i] = i, piece
        self.vocab_size = max(self.vocab_size, *(i + 1 for i in self.added.values()))
        self._skipped.discard(self.pad_id)
        self.pad_id = self.vocab_size
        self._skipped.add(self.pad_id)
        self._index()

    def special_in(self, text: str) -> list[str]:
        return self._split.findall(text)

    def encode(self, text: str, bos: bool = False, plain: Sequence[range] = ()) -> list[int]:
        check_unicode(text)
        ids, at = [self.bos_id] if bos and self.bos_id is not None else [], 0
        for piece in self._split.finditer(text):
            if any(part.start < piece.end() and piece.start() < part.stop for part in plain):
                continue
            ids += self._stretch(text[at : piece.start()])
            ids.append(self.added[piece[0]])
            at = piece.end()
        return ids + self._stretch(text[at:])

    def _stretch(self, text: str) -> list[int]:
        return self._pieces.encode(text, add_special_tokens=False).ids if text else []

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        out, run = [], []
        for i in map(int, ids):
            check_id(self, i, self.pad_id)
            if skip_special and i in self._skipped:
                continue
            if i in self._texts:
                out += [self._decoded(run), self._texts[i]]
                run = []
            elif i != self.pad_id:
                run.append(i)
        return "".join([*out, self._decoded(run)])

    def _decoded(self, ids: list[int]) -> str:
        return self._pieces.decode(ids, skip_special_tokens=False) if ids else ""


def _check_kind(values: dict, where: str) -> None:
    """Refuse what is not byte-level BPE."""
    model = values.get("model")
    kind = model.get("type", "BPE" if "merges" in model else None) if isinstance(model, dict) else None
    if kind != "BPE" or "ByteLevel" not in _kinds(values.get("decoder")):
        raise UserError(
            f"{where}: not byte-level BPE (its model is {str(kind)[:40]}); of a tokenizer.json only that is "
            "read, and SentencePiece from tokenizer.model"
        )


def _kinds(part) -> set[str]:
    """The types of a part of the file, which may be a sequence of such."""
    if not isinstance(part, dict):
        return set()
    inner = part.get("decoders") or part.get("processors") or ()
    return {str(part.get("type"))}.union(*map(_kinds, inner if isinstance(inner, list) else ()))


def _with_first_merge(values: dict) -> dict:
    """The file with the first merge that those of Whispers lacked until February 2024.

    Without it no word begins with " t": " then" becomes " " and "then", which the model was not trained with.
    The files were repaired on the hub, copies were not (transformers, pull request 29368).
    """
    model = values["model"]
    merges, vocab = model.get("merges"), model.get("vocab")
    if not isinstance(merges, list) or not isinstance(vocab, dict) or len(merges) < 2:
        return values
    first, second = (pair.split(" ") if isinstance(pair, str) else pair for pair in merges[:2])
    if not (first == ["\u0120", "a"] and second == ["\u0120t", "h"] and "\u0120t" in vocab):
        return values
    missing = "\u0120 t" if isinstance(merges[0], str) else ["\u0120", "t"]
    return values | {"model": model | {"merges": [missing, *merges]}}


def _library(values: dict, where: str):
    from tokenizers import Tokenizer as Library

    try:
        return Library.from_str(json.dumps(_with_first_merge(values) | _ALONE))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # also of its own: a panic is no Exception
        raise UserError(f"{where}: damaged, the tokenizers library refuses it ({error})") from None


def _added(values: dict, where: str) -> dict[str, int]:
    """Content -> id of the added tokens."""
    found = {}
    for token in values.get("added_tokens") or ():
        content, i = (token.get("content"), token.get("id")) if isinstance(token, dict) else (None, None)
        if not isinstance(content, str) or not content or type(i) is not int or not 0 <= i < _MOST_PIECES:
            raise UserError(f"{where}: an added token is no text with an id: {str(token)[:80]}")
        found[content] = i
    return found


def _named(folder: Path) -> dict[str, str]:
    """bos_token, eos_token and pad_token, as the files beside tokenizer.json name them."""
    found: dict[str, str] = {}
    for name in _NAMES:
        values = read_json(folder / name, "names of special tokens") if (folder / name).is_file() else {}
        for key in ("bos_token", "eos_token", "pad_token"):
            piece = values.get(key)
            piece = piece.get("content") if isinstance(piece, dict) else piece
            if isinstance(piece, str) and piece:
                found.setdefault(key, piece)
    return found


def _first(processor) -> str | None:
    """The special piece that a post-processor puts before a text."""
    if not isinstance(processor, dict):
        return None
    if processor.get("type") == "Sequence":
        inner = processor.get("processors")
        return next(filter(None, map(_first, inner if isinstance(inner, list) else ())), None)
    single = processor.get("single")
    first = single[0] if isinstance(single, list) and single else None
    piece = first.get("SpecialToken") if isinstance(first, dict) else None
    return piece.get("id") if isinstance(piece, dict) else None
