"""Beam search, on the host: which hypotheses of a recording go on, which have ended, which is the answer.

Legend: K beams, H running hypotheses, C candidates of each.

Notable choices
- A hypothesis keeps its row of the caches where it can: only a second one of the same parent moves, to the
  row of one that has died.
- What ends a search and which hypothesis wins is that of published code, whose users expect its answers:
  `Transformers` for language models, `OpenaiWhisper` for a Whisper.
- With a temperature the candidates are drawn, without replacement, from the probabilities of all whole texts
  (beam-search multinomial sampling of Hugging Face, as transformers 4.44 orders them: the drawn ones rank by
  their scores). Adding Gumbel noise and taking the best does that (Kool et al. 2019).
- A loop does not end a hypothesis: another one may be better. Only when all that run are loops, the search
  ends; nothing else can come of them.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.inference.loops import loop_at_end
from mindspore_osum.inference.sampling import KEEP, Sampling
from mindspore_osum.inference.tokens import Generated

IMPOSSIBLE = -1e8  # scores below are of tokens that the rules forbid, or the prompt


class Hypothesis(NamedTuple):
    """A possible answer.

    Attributes
    ----------
    score : sum of what its tokens add to it.
    tokens, log_p : so far, the end token included, and their log-probabilities.
    ended : whether the last token is an end token.
    """

    score: float = 0.0
    tokens: tuple[int, ...] = ()
    log_p: tuple[float, ...] = ()
    ended: bool = False

    @property
    def is_loop(self) -> bool:
        """Whether its end repeats itself."""
        return loop_at_end(self.tokens) > 0


class Transformers:
    """The hypotheses that have ended, as Hugging Face's `generate(num_beams=K)` keeps them.

    The K best, by score / tokens ** length penalty with the end token counted; only those among the K best
    candidates count. The search ends when the best running one, at its present length, is not better than
    all K. At the limit the K best candidates count as they are.
    """

    def __init__(self, sampling: Sampling):
        self.beams = sampling.beams
        self.penalty = 1.0 if sampling.length_penalty is None else sampling.length_penalty
        self._best: list[tuple[float, Hypothesis]] = []  # normalised score, best first

    def take(self, ranked: Sequence[Hypothesis], running: Sequence[Hypothesis], last: bool) -> bool:
        """Take a step; True if the search is over.

        Parameters
        ----------
        ranked : the candidates, best first.
        running : those that go on, best first.
        last : nothing follows.
        """
        for one in ranked[: self.beams]:
            if (one.ended or last) and one.score > IMPOSSIBLE:
                self._best.append((self._normalised(one), one))
        self._best = sorted(self._best, key=lambda pair: -pair[0])[: self.beams]
        full = len(self._best) == self.beams
        return last or full and self._normalised(running[0]) <= self._best[-1][0]

    def _normalised(self, one: Hypothesis) -> float:
        return one.score / len(one.tokens) ** self.penalty

    def answer(self) -> Hypothesis:
        """The best one."""
        return self._best[0][1]


class OpenaiWhisper:
    """The hypotheses that have ended, as openai-whisper's `BeamSearchDecoder` keeps them.

    The first K * patience, in the order of their ends; one counts if it is better than the K that run on.
    Are there fewer than K at the limit, running ones are added. The best one has the highest score / tokens,
    or with a length penalty score / ((5 + tokens) / 6) ** penalty; the end token is not counted.
    """

    def __init__(self, sampling: Sampling):
        if not sampling.greedy:
            raise UserError(
                f"beams {sampling.beams}: a beam search of a Whisper does not draw; leave out the temperature"
            )
        self.beams, self.penalty = sampling.beams, sampling.length_penalty
        self.most = max(1, round(sampling.beams * sampling.patience))
        self._ended: list[Hypothesis] = []
        self._running: Sequence[Hypothesis] = ()

    def take(self, ranked: Sequence[Hypothesis], running: Sequence[Hypothesis], last: bool) -> bool:
        """As `Transformers.take`."""
        self._running = running
        worst = running[-1].score if running else -math.inf
        ended = [one for one in ranked if one.ended and one.score >= max(worst, IMPOSSIBLE)]
        self._ended += ended[: self.most - len(self._ended)]
        return last or len(self._ended) >= self.most

    def answer(self) -> Hypothesis:
        """The best one."""
        found = self._ended
        if len(found) < self.beams:
            found = [*found, *self._running[: self.beams - len(found)]]
        return max(found, key=self._normalised)

    def _normalised(self, one: Hypothesis) -> float:
        count = max(1, len(one.tokens) - one.ended)
        return one.score / (count if self.penalty is None else ((5 + count) / 6) ** self.penalty)


RULES = {"transformers": Transformers, "openai-whisper": OpenaiWhisper}


class Beams:
    """The search for the answer to one prompt.

    Parameters
    ----------
    rules : one of `RULES`.
    limit : most tokens of the answer.

    Attributes
    ----------
    rows : the running hypotheses, each at its row of the K that the recording has; one before the first step.
    over : whether the search has ended.
    """

    def __init__(self, rules: str, limit: int, eos_ids: frozenset[int], sampling: Sampling):
        self.ended = RULES[rules](sampling)
        self.beams, self.limit, self.eos_ids = sampling.beams, limit, eos_ids
        self.loops_end = sampling.loops != KEEP
        self.rows, self.over = [Hypothesis()], False
        self.sampling = sampling
        self.noise = None if sampling.greedy else np.random.default_rng(sampling.seed)

    @property
    def candidates(self) -> int:
        """How many candidates of each running hypothesis `take` needs."""
        enough = self.beams + max(1, len(self.eos_ids))
        return enough if self.noise is None else max(enough, self.sampling.top_k)

    def take(self, score_HC: np.ndarray, ids_HC: np.ndarray, log_p_HC: np.ndarray) -> list[int]:
        """Go on with the best candidates.

        Parameters
        ----------
        score_HC : what the candidates of each running hypothesis add to its score, the best first; each has
            `candidates`.
        ids_HC, log_p_HC : their tokens, and these tokens' log-probabilities.

        Returns
        -------
        For each row the one whose caches it needs; itself where that has not changed.
        """
        before_H1 = np.array([[one.score] for one in self.rows])
        score_HC = score_HC.astype(np.float64)
        total_HC = before_H1 + (score_HC if self.noise is None else self._warped(score_HC))
        ranked, running = [], []
        for place in self._ranked(total_HC.ravel()):
            row, c = divmod(int(place), total_HC.shape[1])
            parent, token = self.rows[row], int(ids_HC[row, c])
            one = Hypothesis(
                float(total_HC[row, c]),
                (*parent.tokens, token),
                (*parent.log_p, float(log_p_HC[row, c])),
                token in self.eos_ids,
            )
            ranked.append(one)
            if not one.ended:
                running.append((row, one))
            if len(running) == self.beams:
                break
        best = [one for _, one in running]
        last = len(best[0].tokens) >= self.limit or self.loops_end and all(one.is_loop for one in best)
        self.over = self.ended.take(ranked, best, last)
        return self._place(running)

    def _warped(self, score_HC: np.ndarray) -> np.ndarray:
        """The scores to draw by; -inf where temperature, top-k and top-p, in this order, leave nothing.

        As in Hugging Face's beam search, each hypothesis keeps its best end tokens + 1 whatever these are.
        """
        how, least = self.sampling, len(self.eos_ids) + 1
        score_HC = score_HC / how.temperature
        score_HC[:, max(how.top_k, least) :] = -np.inf
        p_HC = np.exp(score_HC - score_HC[:, :1].clip(IMPOSSIBLE))
        p_HC /= p_HC.sum(1, keepdims=True).clip(1e-300)
        better_HC = np.cumsum(p_HC, 1) - p_HC
        late_C = np.arange(score_HC.shape[1]) >= least
        return np.where((better_HC >= how.top_p) & late_C, -np.inf, score_HC)

    def _ranked(self, total_N: np.ndarray) -> np.ndarray:
        """The candidates that count, best first."""
        order_N = np.argsort(-total_N, kind="stable")
        if self.noise is None:
            return order_N
        drawn = (1 + max(1, len(self.eos_ids))) * self.beams
        chosen = np.argsort(-(total_N + self.noise.gumbel(size=total_N.shape)), kind="stable")[:drawn]
        return chosen[np.argsort(-total_N[chosen], kind="stable")]

    def _place(self, running: Sequence[tuple[int, Hypothesis]]) -> list[int]:
        """Give each hypothesis, with its parent's row, a row; the parents by row."""
        placed: dict[int, Hypothesis] = {}
        parents, others = list(range(self.beams)), []
        for parent, one in running:
            if parent in placed:
                others.append((parent, one))
            else:
                placed[parent] = one
        free = (row for row in range(self.beams) if row not in placed)
        for row, (parent, one) in zip(free, others, strict=False):
            placed[row], parents[row] = one, parent
        self.rows = [placed[row] for row in range(self.beams)]
        return parents

    def generated(self, log_p: bool, total: bool) -> Generated:
        """The answer.

        Parameters
        ----------
        log_p, total : also the log-probabilities of its tokens; also the sum of these and the end's.
        """
        best = self.ended.answer()
        count = len(best.tokens) - best.ended
        found = Generated(list(best.tokens[:count]), cut=not best.ended)
        if log_p:
            found.log_p = list(best.log_p[:count])
        if log_p or total:
            found.sum_log_p = sum(best.log_p)
        return found
