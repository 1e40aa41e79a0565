"""What generates tokens: the model's own graphs (`generate`), or exported ones (export/runner.py).

Legend: N prompts, B rows, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.inference.loops import loop_at_end, without_loop
from mindspore_osum.inference.sampling import KEEP, Sampling, draw

ENDED = -1  # in the arrays of `Tokens.stream`: this sequence has ended and has no token


@dataclass
class Generated:
    """What was generated after one prompt."""

    tokens: list[int] = field(default_factory=list)  # without the end token
    cut: bool = True  # no end token came before the limit
    retried: bool = False  # with a stronger penalty, as the first answer was a loop
    log_p: list[float] = field(default_factory=list)  # of each token, if `Sampling.confidence`
    sum_log_p: float | None = None  # of all tokens and the end, if the model always computes them
    facts: dict[str, object] = field(default_factory=dict)  # about the recording, as `Tokens.facts_N`
    unit: int = 0  # tokens that the end repeats in a loop, which ended the answer; 0 if there is none
    temperature: float | None = None  # of its draws, 0 if there were none; of models that fall back

    @property
    def mean_log_p(self) -> float | None:
        """Mean log-probability of all tokens and the end, if the model always computes them."""
        return None if self.sum_log_p is None else self.sum_log_p / (len(self.tokens) + 1)

    @property
    def kept(self) -> list[int]:
        """The tokens, of a loop its first repetition alone."""
        return without_loop(self.tokens, self.unit)[0] if self.unit else self.tokens

    def find_loop(self, sampling: Sampling | None) -> None:
        """Set `unit` after the last token."""
        if self.cut and (sampling or Sampling()).loops != KEEP:
            self.unit = loop_at_end(self.tokens)


class Tokens:
    """Tokens after prompts; not to be used by two threads at once.

    Attributes
    ----------
    eos_ids : tokens that end an answer.
    compile_seconds : time spent on compiling graphs, the first run of each included.
    log_p_N : log-probabilities of the tokens that a stream has just given; None unless they are computed.
    facts_N : what the model says of each prompt's recording before its answer, by name; [] if nothing.
    pieces : of the tokenizer, where the model has more rows than that; none behind them is drawn.
    """

    eos_ids: frozenset[int]
    compile_seconds: float = 0.0
    log_p_N: np.ndarray | None = None
    facts_N: Sequence[dict[str, object]] = ()
    pieces: int | None = None

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
            for n, (one, token) in enumerate(zip(found, tokens_N.tolist(), strict=True)):
                self.note(one, n, token, sampling)
        for one in found:
            one.find_loop(sampling)
        return found

    def note(self, one: Generated, n: int, token: int, sampling: Sampling | None) -> None:
        """Add the token that a stream has just given for prompt `n`."""
        if token == ENDED:
            return
        if self.facts_N:
            one.facts = self.facts_N[n]
        if self.log_p_N is not None:
            one.sum_log_p = (one.sum_log_p or 0.0) + float(self.log_p_N[n])
        if token in self.eos_ids:
            one.cut = False
            return
        one.tokens.append(token)
        if sampling and sampling.confidence:
            one.log_p.append(float(self.log_p_N[n]))

    def limits(self, prompts: Sequence, sampling: Sampling) -> "Limits":
        """What ends the answers to `prompts`."""
        most = [min(self.room(prompt), sampling.max_new_tokens) for prompt in prompts]
        return Limits(most, self.eos_ids, sampling.loops)


class Limits:
    """Tracks which sequences of a batch have ended.

    Parameters
    ----------
    limits_N : the maximum number of tokens of each.
    loops : `Sampling.loops`; unless it is "keep", a loop ends a sequence.
    """

    def __init__(self, limits_N: Sequence[int], eos_ids: frozenset[int], loops: str = KEEP):
        self.limits_N, self.eos_ids = np.array(limits_N), list(eos_ids)
        self.ended_N, self.done = np.zeros(len(limits_N), bool), 0
        self._written = None if loops == KEEP else [[] for _ in limits_N]

    def take(self, tokens_N: np.ndarray) -> bool:
        """Count the tokens of a step (`ENDED` for a finished sequence); True when all have ended."""
        self.done += 1
        self.ended_N |= np.isin(tokens_N, self.eos_ids) | (self.limits_N <= self.done)
        for n, tokens in enumerate(self._written or ()):
            if not self.ended_N[n]:
                tokens.append(int(tokens_N[n]))
                self.ended_N[n] = loop_at_end(tokens) > 0
        return bool(self.ended_N.all())


def no_beams(sampling: Sampling) -> None:
    """Refuse a beam search where tokens are given one by one."""
    if sampling.beams > 1:
        raise UserError(
            f"beams {sampling.beams}: a beam search gives whole answers of a model folder; an answer that is "
            "streamed, or of an export, has none"
        )


def restricted(scores_BV: np.ndarray, prompts: Sequence) -> np.ndarray:
    """The scores of first tokens, with none for those that may not follow an opening (`Prompt`)."""
    scores_BV = scores_BV.copy()
    for scores_V, prompt in zip(scores_BV, prompts, strict=False):
        if prompt.first:
            allowed = scores_V[list(prompt.first)]
            scores_V[:] = -np.inf
            scores_V[list(prompt.first)] = allowed
        scores_V[list(prompt.denied)] = -np.inf
    return scores_BV


def log_probabilities(scores_BV: np.ndarray, tokens_N: np.ndarray) -> np.ndarray:
    """Log-probability of each chosen token, float32 (N,); that of `ENDED` says nothing."""
    scores_NV = scores_BV[: len(tokens_N)].astype(np.float32)
    best_N = scores_NV.max(-1)
    total_N = best_N + np.log(np.exp(scores_NV - best_N[:, None]).sum(-1))
    return scores_NV[np.arange(len(tokens_N)), np.maximum(tokens_N, 0)] - total_N


def drawn(
    scores_BV: np.ndarray, sampling: Sampling, streams: Sequence[np.random.Generator], limits: Limits
) -> np.ndarray:
    """The next token of each prompt, int32 (N,), from its own random numbers; other rows are padding."""
    rows = zip(scores_BV, streams, limits.ended_N, strict=False)
    return np.array(
        [ENDED if over else draw(row_V, sampling, rng.random()) for row_V, rng, over in rows], np.int32
    )
