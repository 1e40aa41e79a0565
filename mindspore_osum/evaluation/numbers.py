"""Number words as digits, so that "twenty one", "二十一" and "21" are the same token.

Notable choices
- English is rewritten by Whisper's normaliser (Radford et al. 2022, appendix C; the one in transformers),
  Chinese numerals are read by cn2an. Both texts that are compared are rewritten alike.
- Numerals are read wherever they stand ("一起" becomes "1起" on both sides), consecutive ones as one number
  ("one two" is 12). Times of day are not rewritten beyond their numbers ("三点二十分" is "3点20分").
"""

import re

from mindspore_osum.errors import UserError
from mindspore_osum.evaluation.tokens import score_tokens

_DIGIT = "零〇一二两三四五六七八九"
_NUMERAL = f"[{_DIGIT}十百千万亿]+(?:点[{_DIGIT}]+(?![{_DIGIT}十百千分]))?"
_NUMBER = r"\d+(?:\.\d+)?"
_IDEOGRAPHS = r"\u3400-\u9fff"


class Numbers:
    """Rewrites numbers of a transcript: ``Numbers()("twenty-one 百分之五十")`` gives "21 50%".

    Raises
    ------
    UserError : cn2an is not installed.
    """

    def __init__(self):
        try:
            from cn2an import cn2an
        except ImportError:
            raise UserError("--numbers needs cn2an: pip install 'mindspore-osum[numbers]'") from None
        from transformers.models.whisper.english_normalizer import EnglishNumberNormalizer

        self._chinese, self._english = cn2an, EnglishNumberNormalizer()

    def __call__(self, text: str) -> str:
        """The text as words in lower case, without punctuation, its numbers in digits."""
        text = " ".join(score_tokens(text)).lower()
        text = re.sub(rf"(?<=[{_IDEOGRAPHS}]) | (?=[{_IDEOGRAPHS}])", "", text)
        text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
        text = re.sub(_NUMERAL, self._read, text.replace("幺", "一"))
        text = re.sub(_NUMBER + "[百千万亿]+", self._read, text)
        text = re.sub(f"百分之({_NUMBER})", r"\1%", text)
        text = re.sub(f"({_NUMBER})分之({_NUMBER})", r"\2/\1", text)
        return re.sub(rf"[^{_IDEOGRAPHS}]+", lambda match: self._words(match[0]), text)

    def _read(self, match: re.Match) -> str:
        """A Chinese numeral in digits; what is none, as in 万一, as it is."""
        try:
            return str(self._chinese(match[0], "smart"))
        except ValueError:
            return match[0]

    def _words(self, text: str) -> str:
        """English in digits; "twenty-one" and "45-year-old" are split, "wi-fi" is not."""
        words = text.split()
        for n, word in enumerate(words):
            parts = word.split("-")
            if any(part in self._english.words or part.isdecimal() for part in parts):
                words[n] = " ".join(parts)
        return f" {self._english(' '.join(words))} "
