"""How the next token is chosen from the model's scores: settings, and the draw itself (numpy, on the host).

Legend: V vocabulary, C candidates, K best tokens, which a device can select.
"""

from dataclasses import dataclass

import numpy as np

from mindspore_osum.errors import UserError

# keep: the answer goes on to its limit; end: it ends there, see inference/loops.py; retry: it is generated
# once more with RETRY_PENALTY, which Keskar et al. (2019) found to prevent repetition
LOOPS = KEEP, END, RETRY = "keep", "end", "retry"
RETRY_PENALTY = 1.2
MOST_BEAMS = 64
MOST_DRAWN = 64  # tokens of a hypothesis, of which a beam search draws


@dataclass(frozen=True)
class Sampling:
    """Settings of generation; the defaults are those of the released inference code: greedy, penalty 1.05."""

    max_new_tokens: int = 400
    # on generated tokens only: score * p below 0, score / p above (Keskar et al. 2019)
    repetition_penalty: float = 1.05
    temperature: float = 0.0  # 0 = greedy: always the best token
    top_k: int = 0  # draw among the k best only; 0 = all
    top_p: float = 1.0  # draw among the fewest best tokens that hold this probability (Holtzman et al. 2020)
    loops: str = "end"  # of an answer that repeats itself: one of LOOPS
    seed: int = 0  # of the draws; every sequence draws from its own random stream, whatever batch it is in
    confidence: bool = False  # also the probability of each chosen token
    fallback: bool = True  # answers that are doubtful are drawn anew, see inference/fallback.py
    # hypotheses that are followed at once (inference/beams.py); 1: greedy, or drawn; 0: as the model was
    # published, which is 1 for most
    beams: int = 0
    # above 0 favours long answers, below 0 short ones, by the formula of the system's beam search; None: the
    # mean log-probability of a token counts
    length_penalty: float | None = None
    patience: float = 1.0  # of a Whisper: the search ends when beams * patience hypotheses have ended

    def __post_init__(self):
        def need(ok: bool, name: str, what: str):
            if not ok:
                raise UserError(f"{name} {getattr(self, name)}: must be {what}")

        need(self.max_new_tokens >= 1, "max_new_tokens", "1 or more")
        need(0 < self.repetition_penalty < float("inf"), "repetition_penalty", "above 0; 1 means none")
        need(0 <= self.temperature < float("inf"), "temperature", "0 (greedy) or more")
        need(self.top_k >= 0, "top_k", "0 (all tokens) or more")
        need(0 < self.top_p <= 1, "top_p", "above 0 and at most 1 (all tokens)")
        need(self.seed >= 0, "seed", "0 or more")
        need(self.loops in LOOPS, "loops", " or ".join(LOOPS))
        need(0 <= self.beams <= MOST_BEAMS, "beams", f"1 (none) to {MOST_BEAMS}, or 0 (the model's own way)")
        need(self.length_penalty is None or abs(self.length_penalty) <= 10, "length_penalty", "-10 to 10")
        need(0 < self.patience <= 10, "patience", "above 0 and at most 10")
        if self.beams > 1 and self.temperature > 0 and not 0 < self.top_k <= MOST_DRAWN:
            raise UserError(
                f"beams {self.beams}: with a temperature, the best tokens of each hypothesis are drawn from; "
                f"give top_k, 1 to {MOST_DRAWN}, or leave out the temperature"
            )
        if self.beams <= 1 and (self.length_penalty is not None or self.patience != 1):
            raise UserError("length_penalty and patience are of a beam search; give beams, too")

    @property
    def greedy(self) -> bool:
        """Whether nothing is drawn."""
        return self.temperature == 0

    @property
    def is_open(self) -> bool:
        """Whether how tokens are chosen was left to the model."""
        return self.beams == 0 and self.greedy and self.top_k == 0 and self.top_p == 1


SAMPLING = {  # what its settings are, for help
    "max_new_tokens": "longest answer, in tokens",
    "repetition_penalty": "above 1: generated tokens become less likely",
    "temperature": "0: always the best token; above: draw",
    "top_k": "draw among the k best; 0: all",
    "top_p": "draw among the best that hold this probability",
    "seed": "of the draws",
}
ANSWERS = {
    "loops": "an answer that repeats itself is ended (end), generated once more (retry) or kept (keep)",
    "confidence": "also how sure the model is of each answer and word",
    "fallback": "of a Whisper: what is doubtful is drawn anew, at temperatures from 0.2 to 1",
    "beams": "hypotheses that a beam search follows; 1: none; 0: as the model was published",
    "length_penalty": "of a beam search: above 0 favours long answers, below 0 short ones",
    "patience": "of a beam search of a Whisper: how much longer it looks for better answers",
}


def candidates(scores_V: np.ndarray, sampling: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """The tokens that may be drawn, best first, and their probabilities.

    Temperature, then top-k, then top-p, in the order of Hugging Face's generate.

    Returns
    -------
    ids_C int64, and p_C float64 that sums to 1; C >= 1.
    """
    scores_V = scores_V.astype(np.float64) / sampling.temperature
    k = sampling.top_k if 0 < sampling.top_k < len(scores_V) else len(scores_V)
    ids_C = np.argpartition(-scores_V, k - 1)[:k]
    ids_C = ids_C[np.lexsort((ids_C, -scores_V[ids_C]))]
    p_C = np.exp(scores_V[ids_C] - scores_V[ids_C[0]])
    return _within(ids_C, p_C / p_C.sum(), sampling.top_p)


def _within(ids_C: np.ndarray, p_C: np.ndarray, top_p: float) -> tuple[np.ndarray, np.ndarray]:
    """The fewest tokens, best first, that hold the probability `top_p`, and their shares of it."""
    if top_p < 1:
        better_C = np.cumsum(p_C) - p_C  # probability of all better tokens
        keep = max(1, int(np.count_nonzero(better_C < top_p)))
        ids_C, p_C = ids_C[:keep], p_C[:keep] / p_C[:keep].sum()
    return ids_C, p_C


def draw(scores_V: np.ndarray, sampling: Sampling, uniform: float) -> int:
    """One token, by inverting the cumulative distribution at a uniform number from 0 to 1."""
    ids_C, p_C = candidates(scores_V, sampling)
    place = np.searchsorted(np.cumsum(p_C), uniform, side="right")
    return int(ids_C[min(place, len(ids_C) - 1)])


def draw_of_best(
    scores_K: np.ndarray, ids_K: np.ndarray, log_total: float, sampling: Sampling, uniform: float
) -> int | None:
    """As `draw`, from the scores of the K best tokens.

    Parameters
    ----------
    scores_K, ids_K : the best tokens, at least `top_k` of them if that is set.
    log_total : logarithm of the sum of exp(score / temperature) over all tokens.

    Returns
    -------
    The token; None if it may be one of the others: those after the best decide, too.
    """
    if sampling.top_k:  # the best of the best, in the order of their numbers if they are equal
        at = draw(scores_K[np.argsort(ids_K)], sampling, uniform)
        return int(np.sort(ids_K)[at])
    order = np.lexsort((ids_K, -scores_K))
    ids_C, p_C = ids_K[order], np.exp(scores_K[order].astype(np.float64) / sampling.temperature - log_total)
    held = p_C.sum()
    if held < sampling.top_p < 1:
        return None
    ids_C, p_C = _within(ids_C, p_C, sampling.top_p)
    place = np.searchsorted(np.cumsum(p_C), uniform, side="right")
    if place == len(ids_C):  # of all candidates the last one, by rounding; of some the answer is not here
        return int(ids_C[-1]) if sampling.top_p < 1 else None
    return int(ids_C[place])
