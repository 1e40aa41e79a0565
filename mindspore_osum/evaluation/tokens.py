"""Tokens for scoring transcripts.

Notable choices
- As in the published scorer (`tools/compute-wer.py --char=1` in OSUM's decoding scripts): upper case, tags
  removed, one token per Chinese character (any "other letter" of Unicode) or per other word.
- Unlike it, typography is ignored: invisible characters are dropped, variants of a letter or mark are one
  (NFKC and the tables below), and punctuation is removed everywhere, but for what belongs to a word or number
  (it's, Wi-Fi, 3.5, 1,000, 10:30, 1/2). The published scorer removes only some marks, and only before a token
  ("hello," is unchanged).
- Numbers are not rewritten: "八" and "8" differ, as in the published scorer; numbers.py does so where asked.
"""

import re
import unicodedata

_TAG = re.compile(r"<[^<>]*>")
# characters of other categories than Cf that are not shown either (Unicode: default ignorable)
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_VARIANTS = str.maketrans(
    dict.fromkeys("´`‘’‛′ʹʻʼʽˈˊ＇", "'")
    | dict.fromkeys("‐‑⁃˗−", "-")
    | dict.fromkeys("‒–—―﹘", "—")
    | dict.fromkeys("⁄∕", "/")
    | dict.fromkeys("∶꞉", ":")
)
_SPOKEN = "%&@#"  # signs of category P that are spoken
_EDGES = "".join(c for c in map(chr, range(128)) if unicodedata.category(c)[0] == "P" and c not in _SPOKEN)
_RANGE = re.compile(r"(?<=\d)(?:—+|-{2,})(?=\d)")  # a dash between two numbers is written in many ways
_BREAKS = re.compile(
    r"""[()\[\]{}"<>*~|\\;!?]|\.{2,}|-{2,}"""  # wherever they stand
    r"|(?<!\d)[:/]|[:/](?!\d)"  # but in a time, date or fraction
    r"|(?<!\d),|,(?!\d{3}(?!\d))"  # but of thousands
)
_IDEOGRAPH = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LATIN = re.compile(r"[A-Z][A-Z'&.\-]*")


def score_tokens(text: str) -> list[str]:
    """Return the tokens of a transcript: upper-case words, and one token per Chinese character.

    >>> score_tokens("<asr>打开Wi-Fi，please!")
    ['打', '开', 'WI-FI', 'PLEASE']
    """
    text = "".join(c for c in text if unicodedata.category(c) != "Cf")
    text = _INVISIBLE.sub("", text).translate(_VARIANTS)  # first: NFKC makes a space and a mark of some
    text = "".join(f" {c}" if unicodedata.decomposition(c).startswith("<fraction>") else c for c in text)
    text = unicodedata.normalize("NFKC", text).translate(_VARIANTS)  # and others only appear by it
    text = _BREAKS.sub(" ", _RANGE.sub("-", _TAG.sub(" ", text)))
    text = "".join(" " if ord(c) > 127 and unicodedata.category(c)[0] == "P" else c for c in text)
    text = unicodedata.normalize("NFC", text.upper())
    spaced = "".join(f" {c} " if unicodedata.category(c) == "Lo" else c for c in text)
    return [token for part in spaced.split() if (token := part.strip(_EDGES))]


def language_of(token: str) -> str:
    """Return "zh" for an ideograph, "en" for a word of Latin letters, "other" for the rest, numbers too.

    The first two are compute-wer's clusters "Mandarin" and "English".
    """
    if _IDEOGRAPH.fullmatch(token):
        return "zh"
    return "en" if _LATIN.fullmatch(token) else "other"
