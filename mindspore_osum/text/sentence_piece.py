"""SentencePiece tokenizer with the behaviour of the published openPangu (slow Hugging Face) tokenizer.

Notable choices
- Special pieces in a text (``[unused10]``) become one id each; the stretches between them are encoded
  separately, so each gets SentencePiece's dummy prefix, as in the published tokenizer.
- What a user writes is text: there special pieces are spelled by the pieces of their characters, so that no
  request can end the user's turn. The published tokenizer makes no such difference.
- The published decode puts a space before a string and then drops its first character, so it never drops a
  real one; this equals the plain SentencePiece decode of each stretch, which is used here.
- ``[PAD]`` is the id just past the pieces. It has no embedding row, so ``[PAD]`` in a text is plain text here
  (the published tokenizer would emit the id, and the embedding lookup would fail).
"""

import re
from collections.abc import Sequence
from pathlib import Path

from mindspore_osum.errors import UserError
from mindspore_osum.text.model_file import check_sizes
from mindspore_osum.text.pieces import MAX_MODEL_BYTES, Tokenizer, check_id, check_unicode

# Added tokens of openPangu-Embedded-7B (tokenizer_config.json); those missing in a model are ordinary text.
SPECIAL_PIECES = ("<unk>", "<s>", "</s>", "<|User|>:", "<|Bot|>:", *(f"[unused{i}]" for i in range(34)))
END_OF_ANSWER = "[unused10]"  # eos of openPangu
PAD = "[PAD]"
_PUBLISHED = re.compile("|".join(map(re.escape, SPECIAL_PIECES)))


def special_in(text: str) -> list[str]:
    """The special pieces of the published tokenizer that ``text`` spells, in order."""
    return _PUBLISHED.findall(text)


class SentencePieceTokenizer(Tokenizer):
    """As `Tokenizer`.

    Parameters
    ----------
    path : str or Path
        A SentencePiece model file (``tokenizer.model``).

    Attributes
    ----------
    vocab_size : int
        Number of pieces (without ``[PAD]``).
    bos_id, eos_id, unk_id : int
        ``<s>``; ``[unused10]`` if the model has it, else ``</s>``; ``<unk>``.
    pad_id : int
        ``vocab_size``: outside the embedding table; replace it before an embedding lookup.

    Raises
    ------
    UserError
        The file is missing, too large, not a SentencePiece model, or has no begin or end piece.
    """

    def __init__(self, path: str | Path):
        self.path = str(path)
        self._sp = _load(Path(path))
        self.vocab_size = self._sp.get_piece_size()
        self.bos_id, self.unk_id = self._sp.bos_id(), self._sp.unk_id()
        special = {p: self._sp.piece_to_id(p) for p in SPECIAL_PIECES}
        self._special_ids = {p: i for p, i in special.items() if i != self.unk_id or p == "<unk>"}
        self._special_pieces = {i: p for p, i in self._special_ids.items()}
        self.eos_id = self._special_ids.get(END_OF_ANSWER, self._sp.eos_id())
        self.pad_id = self.vocab_size
        if self.bos_id < 0 or self.eos_id < 0:
            raise UserError(
                f"{path}: no begin (<s>) or no end ({END_OF_ANSWER} or </s>) piece; "
                "train the tokenizer with bos_id and eos_id"
            )
        self._split = re.compile("(" + "|".join(map(re.escape, self._special_ids)) + ")")
        self._spelled = {i: self._spell(p) for p, i in self._special_ids.items() if i != self.unk_id}
        self._skipped = {self.unk_id, self.bos_id, self.eos_id, self.pad_id}

    def _spell(self, piece: str) -> list[int]:
        """The ids of a special piece's characters; bytes, or ``<unk>``, for those that are no pieces."""
        ids = []
        for char in piece:
            known = self._sp.piece_to_id(char) != self.unk_id
            ids.append(self._sp.piece_to_id(char if known else f"<0x{ord(char):02X}>"))
        return ids

    def pieces(self) -> list[str]:
        """The piece of each id, as the model file writes it."""
        return self._sp.id_to_piece(list(range(self.vocab_size)))

    def special_in(self, text: str) -> list[str]:
        """The special pieces that ``text`` spells, in order: `encode` gives each its one id."""
        return self._split.findall(text)

    def encode(self, text: str, bos: bool = False, plain: Sequence[range] = ()) -> list[int]:
        """Return the ids of ``text``, preceded by ``<s>`` if ``bos``.

        Parameters
        ----------
        plain : parts of the text, as ranges of characters, in which special pieces are text like any other.

        Raises
        ------
        UserError
            The text has lone surrogates, so it is not valid Unicode.
        """
        check_unicode(text)
        ids, at = [self.bos_id] if bos else [], 0
        for piece in self._split.finditer(text):
            if any(part.start < piece.end() and piece.start() < part.stop for part in plain):
                continue
            ids += self._stretch(text[at : piece.start()], bool(plain))
            ids.append(self._special_ids[piece[0]])
            at = piece.end()
        return ids + self._stretch(text[at:], bool(plain))

    def _stretch(self, text: str, spell: bool) -> list[int]:
        """The ids of a text between special pieces; `spell` replaces those that SentencePiece finds."""
        found = self._sp.encode(text) if text else []
        return [i for piece in found for i in self._spelled.get(piece, (piece,))] if spell else found

    def decode(self, ids, skip_special: bool = True) -> str:
        """Return the text of ``ids`` (any iterable of integers).

        ``skip_special`` removes only ``<unk>``, ``<s>``, the end piece and ``[PAD]``; other special pieces
        (``</s>``, ``[unused9]``, ``[unused16]``...) stay in the text, as in the published tokenizer.

        Raises
        ------
        UserError
            An id is not a piece of this tokenizer.
        """
        out, run = [], []
        for i in map(int, ids):
            check_id(self, i, self.pad_id)
            if skip_special and i in self._skipped:
                continue
            if i == self.pad_id or i in self._special_pieces:
                out += [self._sp.decode(run), self._special_pieces.get(i, PAD)]
                run = []
            else:
                run.append(i)
        return "".join([*out, self._sp.decode(run)])


def _load(path: Path):
    from sentencepiece import SentencePieceProcessor

    try:
        size = path.stat().st_size
        if not path.is_file():  # checked before opening: reading a pipe or a device might never end
            raise UserError(f"{path}: not an ordinary file; give the tokenizer.model file")
        if size > MAX_MODEL_BYTES:
            raise UserError(
                f"{path}: {size} bytes is too large for a tokenizer (at most {MAX_MODEL_BYTES}); "
                "give the tokenizer.model file"
            )
        data = path.read_bytes()
    except OSError as e:
        raise UserError(f"{path}: cannot read it ({e.strerror}); give a tokenizer.model file") from None
    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(data)
    except (RuntimeError, ValueError):
        raise UserError(
            f"{path}: not a SentencePiece model; give the tokenizer.model file itself "
            "(a Git LFS pointer of a few lines is not it)"
        ) from None
    check_sizes(data, str(path))
    try:
        processor.id_to_piece(list(range(processor.get_piece_size())))
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: a piece that is no text in UTF-8 ({error.reason})") from None
    return processor
