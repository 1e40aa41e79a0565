"""What generates tokens: the model's own graphs (`generate`), or exported ones (export/runner.py).

Legend: N prompts, B rows, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from mindspore_osum.inference.sampling import Sampling, draw

ENDED = -1  # in the arrays of `Tokens.stream`: this sequence has ended and has no token


@dataclass
class Generated:
    """What was generated after one prompt."""

    tokens: list[int] = field(default_factory=list)  # without the end token
    cut: bool = True  # no end token came before the limit


class Tokens:
    """Tokens after prompts; not to be used by two threads at once.

    Attributes
    ----------
    eos_ids : tokens that end an answer.
    compile_seconds : time spent on compiling graphs, the first run of each included.
    """

    eos_ids: frozenset[int]
    compile_seconds: float = 0.0

    def room(self, prompt) -> int:
        """Tokens that an answer to `prompt` may have; UserError if there is none."""
        raise NotImplementedError

    def stream(
        self, prompts: Sequence, sampling: Sampling | None = None, rows: int = 1
    ) -> Iterator[np.ndarray]:
        """As `generate`, step by step.

        Yields
        ------
        tokens_N : int32, the next token of each prompt; after its end token or its limit `ENDED`.
        """
        raise NotImplementedError

    def generate(self, prompts: Sequence, sampling: Sampling | None = None, rows: int = 1) -> list[Generated]:
        """The answers to all prompts, computed as one batch of at least `rows` rows.

        Parameters
        ----------
        prompts : of the model's system.

        Raises
        ------
        UserError : a prompt leaves no positions of the model for an answer.
        """
        found = [Generated() for _ in prompts]
        for tokens_N in self.stream(prompts, sampling, rows):
            for one, token in zip(found, tokens_N.tolist(), strict=True):
                if token in self.eos_ids:
                    one.cut = False
                elif token != ENDED:
                    one.tokens.append(token)
        return found


class Limits:
    """Tracks which sequences of a batch have ended.

    Parameters
    ----------
    limits_N : the maximum number of tokens of each.
    """

    def __init__(self, limits_N: Sequence[int], eos_ids: frozenset[int]):
        self.limits_N, self.eos_ids = np.array(limits_N), list(eos_ids)
        self.ended_N, self.done = np.zeros(len(limits_N), bool), 0

    def take(self, tokens_N: np.ndarray) -> bool:
        """Count the tokens of a step (`ENDED` for a finished sequence); True when all have ended."""
        self.done += 1
        self.ended_N |= np.isin(tokens_N, self.eos_ids) | (self.limits_N <= self.done)
        return bool(self.ended_N.all())


def drawn(
    scores_BV: np.ndarray, sampling: Sampling, streams: Sequence[np.random.Generator], limits: Limits
) -> np.ndarray:
    """The next token of each prompt, int32 (N,), from its own random numbers; other rows are padding."""
    rows = zip(scores_BV, streams, limits.ended_N, strict=False)
    return np.array([ENDED if over else draw(row_V, sampling, rng) for row_V, rng, over in rows], np.int32)
