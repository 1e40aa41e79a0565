"""What every tokenizer has: the interface, and checks that they share.

Notable choices
- What a user writes is text: `encode` can be told which parts are a user's, and there special pieces are
  spelled by ordinary ones, so that no request can end the user's turn.
- Nothing is added to a text unless it is asked for.
"""

from collections.abc import Iterable, Sequence

from mindspore_osum.errors import UserError

MAX_MODEL_BYTES = 64 * 2**20  # of a tokenizer's file; those of 150,000 pieces have about 10 MB


class Tokenizer:
    """Text <-> ids.

    Attributes
    ----------
    path : the file that it was read from.
    vocab_size : number of pieces.
    bos_id : id of the piece that begins a text; None if texts have none.
    eos_id : id of the piece that ends an answer.
    pad_id : an id outside the pieces; replace it before an embedding lookup.
    """

    path: str
    vocab_size: int
    bos_id: int | None
    eos_id: int
    pad_id: int

    def special_in(self, text: str) -> list[str]:
        """The special pieces that `text` spells, in order: `encode` gives each its one id."""
        raise NotImplementedError

    def encode(self, text: str, bos: bool = False, plain: Sequence[range] = ()) -> list[int]:
        """The ids of `text`.

        Parameters
        ----------
        bos : whether the piece that begins a text comes first, if there is one.
        plain : parts of the text, as ranges of characters, in which special pieces are text like any other.

        Raises
        ------
        UserError : the text has lone surrogates, so it is not valid Unicode.
        """
        raise NotImplementedError

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of `ids`; bytes that are no character become U+FFFD.

        Parameters
        ----------
        skip_special : leave out the pieces that begin and end a text and stand for padding; other special
            pieces stay in the text.

        Raises
        ------
        UserError : an id is not a piece of this tokenizer.
        """
        raise NotImplementedError


def check_unicode(text: str) -> None:
    """Refuse a text with lone surrogates."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as e:
        raise UserError(f"text is not valid Unicode at character {e.start}: read it as UTF-8") from None


def check_id(tokenizer: Tokenizer, i: int, most: int) -> None:
    """Refuse an id outside 0 to `most`."""
    if not 0 <= i <= most:
        raise UserError(
            f"id {i} is none of the {tokenizer.vocab_size} pieces of {tokenizer.path}: this is another "
            "model's tokenizer, or the model wrote a row that only pads its vocabulary, as untrained ones do"
        )
