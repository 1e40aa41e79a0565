"""What is said in the corpus: sentences of telephones and everyday, and questions, drawn from sentences.yaml.

Notable choices
- A recording teaches the adapter words, so what counts is how many different words there are, and in how many
  neighbourhoods: the slots have some 750 words, with letters, digits, days and months as telephones say them.
- None of it was taken from a set that measures.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

from mindspore_osum.config import read_yaml

TABLE = read_yaml(str(Path(__file__).with_name("sentences.yaml")))
SLOTS = {name: [word.strip() for word in words.split("|")] for name, words in TABLE["slots"].items()}
_SLOT = re.compile(r"\{(\w+)\}")


def drawn(kind: str, count: int, seed: str) -> list[str]:
    """`count` different sentences; which ones depends on the seed alone.

    Parameters
    ----------
    kind : phone, everyday or questions.
    count : fewer than the templates give: some ten thousand sentences, some 1,500 questions.
    """
    rng, found = random.Random(f"{seed}/{kind}"), {}
    while len(found) < count:
        left = {name: rng.sample(words, len(words)) for name, words in SLOTS.items()}
        text = _SLOT.sub(lambda slot, left=left: left[slot[1]].pop(), rng.choice(TABLE[kind]))
        found[text[:1].upper() + text[1:]] = None
    return list(found)
