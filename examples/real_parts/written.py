"""What the language model itself writes for the corpus: sentences with its most frequent words, and answers.

Notable choices
- The answers to spoken questions are those of the untouched model to the same questions as text: what is to
  be learned is to listen, not to answer in another way.
- A byte-pair tokenizer numbers its pieces by how early they were merged, so the first whole words are the
  most frequent ones of the texts that it was made from.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mindspore_osum.inference.request import Request
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.tasks import TEXT2TEXT

SHORTEST, LONGEST = 4, 13  # words of a sentence: 5 s of speech at most
CHARACTERS = 75
ANSWER_TOKENS = 48
ASKED = 'Write one short sentence with the word "{}".'
_SENTENCE = re.compile(r"[A-Z][^.!?]*[.!?]")
_WORD = re.compile(r"[a-z]{3,12}")
_PLAIN = re.compile(r"[A-Za-z',;.!? -]+")


def frequent_words(tokenizer, count: int) -> list[str]:
    """The first `count` pieces that are a word of lower-case letters after a space."""
    found = []
    for piece in range(tokenizer.vocab_size):
        text = tokenizer.decode([piece])
        word = text[1:]
        if (
            text.startswith(" ")
            and 3 <= len(word) <= 12
            and word.isascii()
            and word.isalpha()
            and word.islower()
        ):
            found.append(word)
            if len(found) == count:
                break
    return found


def sentences(model, words: Sequence[str], seed: int) -> list[str]:
    """What the model wrote when it was asked for a sentence with each word, where that can be read aloud.

    Parameters
    ----------
    model : `OSUM` whose decoder is the language model.
    """
    how = Sampling(max_new_tokens=32, temperature=0.8, top_p=0.9, seed=seed)
    replies = _replies(model, [ASKED.format(word) for word in words], how)
    return list(dict.fromkeys(filter(None, map(sentence_of, replies))))


def sentence_of(reply: str) -> str:
    """A reply's first sentence, or as many of its clauses as can be said at once; "" if there is none."""
    match = _SENTENCE.match(" ".join(reply.split()))
    if match is None:
        return ""
    sentence = match[0]
    while len(sentence.split()) > LONGEST or len(sentence) > CHARACTERS:
        clauses, comma, _ = sentence[:-1].rpartition(",")
        if not comma:
            return ""
        sentence = f"{clauses}."
    return sentence if len(sentence.split()) >= SHORTEST and _PLAIN.fullmatch(sentence) else ""


def answers(model, questions: Sequence[str]) -> dict[str, str]:
    """Question -> the model's greedy answer, up to its last whole sentence; without those that have none."""
    replies = _replies(model, questions, Sampling(max_new_tokens=ANSWER_TOKENS))
    found = {}
    for question, reply in zip(questions, replies, strict=True):
        whole = reply if reply.endswith((".", "!", "?")) else reply[: max(map(reply.rfind, ".!?")) + 1]
        if whole.strip() and "\n" not in whole.strip():
            found[question] = whole.strip()
    return found


def _replies(model, asked: Sequence[str], how: Sampling) -> list[str]:
    requests = [Request(words, "text2text", TEXT2TEXT) for words in asked]
    return [
        one.raw.strip() for one in model.engine.answer(asked, requests=requests, sampling=how, batch_size=16)
    ]
