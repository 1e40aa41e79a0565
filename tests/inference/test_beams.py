"""The host's part of a beam search against all possible answers, and against its definition written out."""

import itertools
import math

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.inference.beams import RULES, Beams
from mindspore_osum.inference.sampling import KEEP, Sampling

END = 0


def language(vocabulary: int, seed: int, forbidden: int = 0):
    """model(tokens) -> log-probabilities of the next one, random for each text; rules forbid some more."""
    known = {}

    def model(tokens: tuple[int, ...]) -> np.ndarray:
        if tokens not in known:
            rng = np.random.default_rng([seed, len(tokens), *tokens])
            scores_V = 2 * rng.standard_normal(vocabulary)
            log_p_V = scores_V - np.log(np.exp(scores_V).sum())
            known[tokens] = np.pad(log_p_V, (0, forbidden), constant_values=-1e9)
        return known[tokens]

    return model


def searched(model, limit: int, ends, rules: str, **how):
    """The answer by `Beams`, whose candidates are chosen as the device chooses them."""
    sampling = Sampling(loops=KEEP, **how)
    beams, count = Beams(rules, limit, frozenset(ends), sampling), sampling.beams + max(1, len(ends))
    while not beams.over:
        scores_HV = np.stack([model(one.tokens) for one in beams.rows])
        ids_HC = np.argsort(-scores_HV)[:, :count]
        best_HC = np.take_along_axis(scores_HV, ids_HC, 1)
        beams.take(best_HC, ids_HC, best_HC)
    return beams.generated(log_p=True, total=True)


def normalised(rules: str, score: float, length: int, ended: bool, penalty: float | None) -> float:
    """The published scores of a whole answer of `length` tokens, the end included."""
    if rules == "transformers":
        return score / length ** (1.0 if penalty is None else penalty)
    length = max(1, length - ended)
    return score / (length if penalty is None else ((5 + length) / 6) ** penalty)


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("penalty", [None, 0.0, 0.7])
def test_enough_beams_find_the_best_of_all_answers(rules, penalty):
    """Three tokens, at most five of them: 32 beams hold every text, so the best of all has to be found."""
    for seed in range(20):
        model, limit = language(3, seed, forbidden=40), 5
        best, found = -math.inf, None
        for length in range(1, limit + 1):
            for text in itertools.product((1, 2), repeat=length - 1):
                for last in (END, 1, 2) if length == limit else (END,):
                    tokens = (*text, last)
                    score = sum(model(tokens[:n])[token] for n, token in enumerate(tokens))
                    value = normalised(rules, score, length, last == END, penalty)
                    if value > best:
                        best, found = value, tokens
        one = searched(model, limit, {END}, rules, beams=32, length_penalty=penalty, patience=2.0)
        assert (*one.tokens, *[END] * (not one.cut)) == found
        log_p = [model(found[:n])[token] for n, token in enumerate(found)]
        assert one.sum_log_p == pytest.approx(sum(log_p))
        assert one.log_p == pytest.approx(log_p[: len(one.tokens)])


def by_definition(model, vocabulary, limit, ends, beams, penalty):
    """Hugging Face's search in whole texts and all candidates, without rows, in its order of steps."""
    running, finished = [((), 0.0)], []
    for length in range(1, limit + 1):
        grown = [((*t, v), s + model(t)[v]) for t, s in running for v in range(vocabulary)]
        best = sorted(grown, key=lambda pair: -pair[1])[: (1 + len(ends)) * beams]
        done = [pair for pair in best[:beams] if pair[0][-1] in ends or length == limit]
        finished += [(s / length**penalty, t) for t, s in done]
        finished = sorted(finished, key=lambda pair: -pair[0])[:beams]
        running = [pair for pair in best if pair[0][-1] not in ends][:beams]
        if len(finished) == beams and running[0][1] / length**penalty <= finished[-1][0]:
            break
    return finished[0][1]


@pytest.mark.parametrize(
    "beams, ends, penalty", [(2, {0}, 1.0), (3, {0, 4}, 1.0), (5, {0}, -0.5), (4, {0, 1, 7}, 2.0)]
)
def test_few_beams_follow_the_definition(beams, ends, penalty):
    cut = 0
    for seed in range(30):
        model = language(9, seed)
        one = searched(model, 12, ends, "transformers", beams=beams, length_penalty=penalty)
        expected = by_definition(model, 9, 12, ends, beams, penalty)
        assert tuple(one.tokens) == (expected if one.cut else expected[:-1])
        assert one.cut == (expected[-1] not in ends)
        cut += one.cut
    assert cut < 30


class Noise:
    """Gumbel noise that follows from the text, whatever row it is in."""

    def __init__(self, seed: int):
        self.seed, self.next = seed, None

    def of(self, tokens: tuple[int, ...]) -> float:
        return np.random.default_rng([self.seed, len(tokens), *tokens]).gumbel()

    def gumbel(self, size):
        assert self.next.size == size[0]
        return self.next.ravel()


def warped(scores_V, how: Sampling, least: int) -> dict[int, float]:
    """Temperature, top-k and top-p over a whole vocabulary, one token after the other."""
    scores_V, kept = scores_V / how.temperature, {}
    best = np.argsort(-scores_V)[: max(how.top_k, least)]
    p = np.exp(scores_V[best]) / np.exp(scores_V[best]).sum()
    for n, token in enumerate(best):
        if n < least or p[:n].sum() < how.top_p:
            kept[int(token)] = float(scores_V[token])
    return kept


def drawn_by_definition(model, noise, limit, ends, how: Sampling):
    """transformers' beam-search multinomial sampling in whole texts, without rows."""
    running, finished = [((), 0.0)], []
    for length in range(1, limit + 1):
        grown = [
            ((*text, token), score + more)
            for text, score in running
            for token, more in warped(model(text), how, len(ends) + 1).items()
        ]
        count = (1 + len(ends)) * how.beams
        chosen = sorted(grown, key=lambda pair: -(pair[1] + noise.of(pair[0])))[:count]
        best = sorted(chosen, key=lambda pair: -pair[1])
        finished += [(s / length, t) for t, s in best[: how.beams] if t[-1] in ends or length == limit]
        finished = sorted(finished, key=lambda pair: -pair[0])[: how.beams]
        running = [pair for pair in best if pair[0][-1] not in ends][: how.beams]
        if len(finished) == how.beams and running[0][1] / length <= finished[-1][0]:
            break
    return finished[0][1]


@pytest.mark.parametrize("top_k, top_p, temperature", [(5, 0.9, 1.0), (2, 1.0, 0.7), (8, 0.5, 1.5)])
def test_draws_follow_the_definition(top_k, top_p, temperature):
    how = Sampling(loops=KEEP, beams=4, temperature=temperature, top_k=top_k, top_p=top_p)
    texts = set()
    for seed in range(30):
        model, noise, search = language(12, 7), Noise(seed), Beams("transformers", 9, frozenset({END}), how)
        search.noise = noise
        while not search.over:
            scores_HV = np.stack([model(one.tokens) for one in search.rows])
            ids_HC = np.argsort(-scores_HV)[:, : search.candidates]
            best_HC = np.take_along_axis(scores_HV, ids_HC, 1)
            rows = zip(search.rows, ids_HC, strict=True)
            noise.next = np.array([[noise.of((*one.tokens, int(i))) for i in ids] for one, ids in rows])
            search.take(best_HC, ids_HC, best_HC)
        one = search.generated(log_p=False, total=False)
        expected = drawn_by_definition(model, noise, 9, {END}, how)
        assert tuple(one.tokens) == (expected if one.cut else expected[:-1])
        texts.add(tuple(one.tokens))
    assert len(texts) > 3 or top_k == 2  # of two tokens of each hypothesis all are drawn


def test_what_is_drawn_has_the_probability_of_draws_without_replacement():
    """Four of five first tokens are drawn: the one left out, against all orders in which they can come."""
    p, left_out, trials = np.array([0.4, 0.3, 0.15, 0.1, 0.05]), np.zeros(5), 4000
    for order in itertools.permutations(range(5)):
        chance, rest = 1.0, 1.0
        for token in order:
            chance, rest = chance * p[token] / rest, rest - p[token]
        left_out[order[-1]] += chance
    search = Beams("transformers", 9, frozenset({END}), Sampling(beams=2, temperature=1.0, top_k=5))
    counts = np.full(5, trials)
    for _ in range(trials):
        counts[search._ranked(np.log(p))] -= 1
    assert counts / trials == pytest.approx(left_out, abs=0.03)


def test_a_whisper_s_search_does_not_draw():
    with pytest.raises(UserError, match="a beam search of a Whisper does not draw"):
        Beams("openai-whisper", 9, frozenset({END}), Sampling(beams=2, temperature=1.0, top_k=5))


def test_rows_stay_where_they_can():
    """Only a second child of a row moves, and never over a row that has a child of its own."""
    search = Beams("transformers", 9, frozenset({END}), Sampling(beams=3))
    values = np.log([[0.4, 0.3, 0.2, 0.1]])
    search.take(values, np.array([[5, 6, 7, 0]]), values)
    assert [one.tokens for one in search.rows] == [(5,), (6,), (7,)]
    steps = np.array([[-9.0, -9.0, -9.0, -9.0], [-0.1, -9.0, -9.0, -9.0], [-0.1, -0.2, -9.0, -9.0]])
    ids = np.arange(12).reshape(3, 4) + 10
    assert search.take(steps, ids, steps) == [2, 1, 2]
    assert [one.tokens for one in search.rows] == [(7, 19), (6, 14), (7, 18)]


def test_a_search_of_loops_ends():
    """When every hypothesis repeats itself, and only then."""
    for loops, steps in (("end", 61), (KEEP, 100)):
        search = Beams("transformers", 100, frozenset({END}), Sampling(beams=2, loops=loops))
        taken = 0
        while not search.over:
            rows = len(search.rows)
            ids = np.array([[5, 6, END]] * rows)
            late = taken < 12  # afterwards both repeat their last token
            values = np.array([[-0.1, -0.2 if late else -9.0, -50.0]] * rows)
            search.take(values, ids, values)
            taken += 1
        assert search.generated(False, False).cut
        assert taken <= steps if loops == "end" else taken == steps


@pytest.mark.parametrize(
    "wrong, line",
    [
        ({"beams": -1}, "beams -1: must be 1 .none. to 64, or 0"),
        ({"beams": 4, "temperature": 0.5}, "are drawn from; give top_k, 1 to 64"),
        ({"beams": 4, "temperature": 0.5, "top_k": 65}, "are drawn from; give top_k, 1 to 64"),
        ({"length_penalty": 1.0}, "are of a beam search; give beams, too"),
        ({"patience": 2.0}, "are of a beam search; give beams, too"),
        ({"beams": 4, "patience": 0.0}, "patience 0.0: must be above 0"),
        ({"beams": 4, "length_penalty": float("nan")}, "length_penalty nan: must be -10 to 10"),
    ],
)
def test_impossible_settings_are_refused(wrong, line):
    with pytest.raises(UserError, match=line):
        Sampling(**wrong)
