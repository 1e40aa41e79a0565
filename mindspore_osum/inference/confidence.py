"""How sure a model is of what it wrote: probabilities of its tokens, for a whole answer and for its words.

The probability of a token is its own among all tokens, after the repetition penalty and at temperature 1,
given all tokens before it. An answer's confidence is the geometric mean over the tokens that the model chose
(neither given tags nor the end); a word's is that over its tokens. It says how sure the model is, not how
often it is right: a model that was not calibrated is often too sure.
"""

import math
import re
from collections.abc import Sequence

from mindspore_osum.results import Answer
from mindspore_osum.text.tokenizer import Tokenizer

_BRACKETS = re.compile(r"<[^<>]*>")
_WORDS = re.compile(r"[\u3400-\u9fff]|[^\s\u3400-\u9fff]+")  # Chinese characters one by one


def add_confidence(
    answer: Answer,
    tokenizer: Tokenizer,
    opening: Sequence[int],
    tokens: Sequence[int],
    log_p: Sequence[float],
) -> None:
    """Set `confidence` and `word_confidence` of an answer.

    Parameters
    ----------
    opening : tokens that the model was given.
    tokens, log_p : those it chose, without a loop, and their log-probabilities.
    """
    if not tokens:
        return
    answer.confidence = _mean(log_p[: len(tokens)])
    raw, spans = _spans(tokenizer, opening, tokens)
    # what is in brackets is no word; the length stays
    said, place = _BRACKETS.sub(lambda m: "\0" * len(m[0]), raw), 0
    answer.word_confidence = []
    for word in [w.text for w in answer.words] or _WORDS.findall(answer.text):
        if (start := said.find(word, place)) < 0:
            continue
        place = start + len(word)
        found = [p for p, (first, last) in zip(log_p, spans, strict=False) if first < place and last > start]
        if found:
            answer.word_confidence.append((word, _mean(found)))


def _spans(tokenizer: Tokenizer, opening, tokens) -> tuple[str, list[tuple[int, int]]]:
    """The text, and the characters (from, to) that each token is part of; several may share one."""
    ids = [*opening, *tokens]
    texts = [tokenizer.decode(ids[:n]) for n in range(len(opening), len(ids) + 1)]
    lengths = [len(text.rstrip("\ufffd")) for text in texts]  # a character whose bytes are not complete
    ends = lengths[1:]
    for n in reversed(range(len(ends) - 1)):
        if ends[n] <= lengths[n]:
            ends[n] = ends[n + 1]
    return texts[-1], list(zip(lengths, ends, strict=False))


def _mean(log_p: Sequence[float]) -> float:
    return round(math.exp(sum(log_p) / len(log_p)), 4)
