"""Scores of free text: spoken question answering by containment, translation by ROUGE-L and BLEU.

All metrics compare scoring tokens (see tokens.py): case, width and punctuation are ignored, and Chinese is
compared by character. Values are fractions. BLEU with other tokenizations (sacreBLEU's 13a) differs slightly.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from mindspore_osum.evaluation.bootstrap import ratio_interval
from mindspore_osum.evaluation.tokens import score_tokens

_ARTICLES = {"A", "AN", "THE"}  # dropped as in TriviaQA's own scorer (Joshi et al. 2017)
_NUMBERS = (
    "ZERO",
    "ONE",
    "TWO",
    "THREE",
    "FOUR",
    "FIVE",
    "SIX",
    "SEVEN",
    "EIGHT",
    "NINE",
    "TEN",
    "ELEVEN",
    "TWELVE",
    "THIRTEEN",
    "FOURTEEN",
    "FIFTEEN",
    "SIXTEEN",
    "SEVENTEEN",
    "EIGHTEEN",
    "NINETEEN",
    "TWENTY",
)
_DIGITS = {word: str(n) for n, word in enumerate(_NUMBERS)}
_TENS = dict(zip("twenty thirty forty fifty sixty seventy eighty ninety".split(), range(20, 100, 10)))
_VALUES = {word.lower(): n for n, word in enumerate(_NUMBERS)} | _TENS
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
_MARKS = re.compile(f"[{re.escape(string.punctuation.replace(chr(39), ''))}]")  # all but the apostrophe
MAX_NGRAM = 4


def contains_answer(reply: str, answers: Sequence[str]) -> bool:
    """Whether the reply contains one of the accepted answers as consecutive whole words.

    English articles are ignored; number words up to twenty equal their digits. An answer without tokens is
    never contained. Source: accuracy on LLaMA Questions, TriviaQA and Web Questions (OSUM-Pangu, Table 4),
    whose scorer is not published.
    """
    said = _answer_tokens(reply)
    for answer in answers:
        wanted = _answer_tokens(answer)
        if wanted and any(said[i : i + len(wanted)] == wanted for i in range(len(said) - len(wanted) + 1)):
            return True
    return False


def contains_words(reply: str, answers: Sequence[str]) -> bool:
    """Whether every word of one of the accepted answers occurs in the reply, anywhere and in any order.

    A word may be a part of another. ASCII punctuation but the apostrophe is a space, case is ignored; else
    the answers count as numbers in digits, if all of them are numbers. Source: accuracy of WEST's question
    answering (`tools/compute_acc_of_contain.py`), which is wider than `contains_answer`. An answer without
    words is never contained; there it always is.
    """
    said = _MARKS.sub(" ", reply).lower()
    wanted = [_MARKS.sub(" ", answer).lower().split() for answer in answers]
    numbers = [number_of(words) for words in wanted]
    digits = [] if None in numbers else [[str(number)] for number in numbers]
    return any(words and all(word in said for word in words) for words in [*wanted, *digits])


def number_of(words: Sequence[str]) -> int | None:
    """The whole number that English words or digits spell, whatever stands between them; None if none do."""
    total, part, found = 0, 0, False
    for word in words:
        if word in _VALUES or word.isdecimal():
            part, found = part + (_VALUES[word] if word in _VALUES else int(word[:30])), True
        elif word == "hundred":
            part, found = max(part, 1) * 100, True
        elif word in _SCALES:
            total, part, found = total + max(part, 1) * _SCALES[word], 0, True
    return total + part if found else None


def answer_columns(replies: Sequence[str], answers: Sequence[Sequence[str]]) -> np.ndarray:
    """Return correctness (1 or 0) and 1 for each reply, (N, 2); the accuracy is the ratio of their sums."""
    pairs = zip(replies, answers, strict=True)
    return np.array([(contains_answer(reply, accepted), 1) for reply, accepted in pairs]).reshape(-1, 2)


def answer_scores(replies: Sequence[str], answers: Sequence[Sequence[str]]) -> dict:
    """Score replies to questions: ``accuracy`` by `contains_answer`, its bootstrap interval, ``items``, and
    ``contained``, the accuracy by `contains_words`."""
    right_N2 = answer_columns(replies, answers)
    wider = [contains_words(reply, accepted) for reply, accepted in zip(replies, answers, strict=True)]
    return {
        "accuracy": float(right_N2[:, 0].mean()) if len(right_N2) else None,
        "accuracy_interval": ratio_interval(right_N2),
        "contained": float(np.mean(wider)) if wider else None,
        "items": len(right_N2),
    }


def rouge_l(hypothesis: str, references: Sequence[str]) -> float:
    """ROUGE-L F1 (Lin 2004) for the best reference: harmonic mean of LCS/hypothesis and LCS/reference."""
    hyp = score_tokens(hypothesis)
    return max(_rouge_l(hyp, score_tokens(r)) for r in references)


def bleu(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> float | None:
    """Corpus BLEU-4 (Papineni et al. 2002), unsmoothed; brevity penalty against the closest reference length.

    None without a hypothesis; 0 if n-grams of some order never match.
    """
    matches, totals = [0] * MAX_NGRAM, [0] * MAX_NGRAM
    length = closest = 0
    for hypothesis, accepted in zip(hypotheses, references, strict=True):
        hyp, refs = score_tokens(hypothesis), [score_tokens(r) for r in accepted]
        length += len(hyp)
        closest += min((abs(len(r) - len(hyp)), len(r)) for r in refs)[1]
        for n in range(1, MAX_NGRAM + 1):
            most: Counter = Counter()
            for r in refs:
                most |= _ngrams(r, n)
            matches[n - 1] += (_ngrams(hyp, n) & most).total()
            totals[n - 1] += max(len(hyp) - n + 1, 0)
    if not hypotheses:
        return None
    if not all(matches):
        return 0.0
    precision = math.exp(sum(math.log(m / t) for m, t in zip(matches, totals)) / MAX_NGRAM)
    return precision * min(1.0, math.exp(1 - closest / length))


def translation_columns(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """(N, 2): `rouge_l` of each translation, and 1."""
    pairs = zip(hypotheses, references, strict=True)
    return np.array([(rouge_l(h, r), 1) for h, r in pairs], np.float64).reshape(-1, 2)


def translation_scores(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> dict:
    """Score translations: mean ``rouge_l`` and its 95% bootstrap interval, corpus ``bleu``, ``items``."""
    scores_N2 = translation_columns(hypotheses, references)
    return {
        "rouge_l": float(scores_N2[:, 0].mean()) if len(scores_N2) else None,
        "rouge_l_interval": ratio_interval(scores_N2),
        "bleu": bleu(hypotheses, references),
        "items": len(scores_N2),
    }


def _answer_tokens(text: str) -> list[str]:
    return [_DIGITS.get(t, t) for t in score_tokens(text) if t not in _ARTICLES]


def _rouge_l(hyp: list[str], ref: list[str]) -> float:
    common = _common_subsequence(hyp, ref)
    return 2 * common / (len(hyp) + len(ref)) if common else 0.0


def _common_subsequence(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], diagonal + 1 if x == y else max(row[j], row[j - 1])
    return row[-1]


def _ngrams(tokens: list[str], n: int) -> Counter:
    return Counter(zip(*(tokens[i:] for i in range(n))))
