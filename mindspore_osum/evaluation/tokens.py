"""Tokens for scoring transcripts.

Notable choices
- As in the published scorer (`tools/compute-wer.py --char=1` in OSUM's decoding scripts): upper case, tags
  removed, one token per Chinese character (any "other letter" of Unicode) or per other word.
- Unlike it, typography is ignored: full-width forms are folded (NFKC), and punctuation is removed everywhere.
  The published scorer removes only some marks, and only before a token ("hello," is unchanged).
- Numbers are not rewritten: "八" and "8" differ, as in the published scorer.
"""

import re
import unicodedata

_TAG = re.compile(r"<[^<>]*>")
_QUOTES = str.maketrans("‘’ʼ＇", "''''")
_SPOKEN = "%&@#"  # signs of category P that are spoken
_EDGES = "".join(c for c in map(chr, range(128)) if unicodedata.category(c)[0] == "P" and c not in _SPOKEN)
_INNER = "'.-"  # marks that belong to a word or a number
_BREAKS = re.compile(r"""[()\[\]{}"<>*`~|\\]+|(?<!\d)[,:;!?]+|[,:;!?]+(?!\d)""")
_IDEOGRAPH = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LATIN = re.compile(r"[A-Z][A-Z'&.\-]*")


def score_tokens(text: str) -> list[str]:
    """Return the tokens of a transcript: upper-case words, and one token per Chinese character.

    >>> score_tokens("<asr>打开Wi-Fi，please!")
    ['打', '开', 'WI-FI', 'PLEASE']
    """
    text = _TAG.sub(" ", text).translate(_QUOTES)
    text = "".join(" " if _is_wide_mark(c) else c for c in text)
    text = _BREAKS.sub(" ", _TAG.sub(" ", unicodedata.normalize("NFKC", text))).upper()
    spaced = "".join(f" {c} " if unicodedata.category(c) == "Lo" else c for c in text)
    return [token for part in spaced.split() if (token := part.strip(_EDGES))]


def language_of(token: str) -> str:
    """Return "zh" for an ideograph, "en" for a word of Latin letters, "other" for the rest, numbers too.

    The first two are compute-wer's clusters "Mandarin" and "English".
    """
    if _IDEOGRAPH.fullmatch(token):
        return "zh"
    return "en" if _LATIN.fullmatch(token) else "other"


def _is_wide_mark(char: str) -> bool:
    """Whether it is non-ASCII punctuation that does not fold to a sign that may belong to a word."""
    if ord(char) < 128 or unicodedata.category(char)[0] != "P":
        return False
    return unicodedata.normalize("NFKC", char) not in (*_SPOKEN, *_INNER)
