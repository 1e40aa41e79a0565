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
        ({"beams": 0}, "beams 0: must be 1 .none. to 64"),
        ({"beams": 4, "temperature": 0.5}, "a beam search does not draw"),
        ({"length_penalty": 1.0}, "are of a beam search; give beams, too"),
        ({"patience": 2.0}, "are of a beam search; give beams, too"),
        ({"beams": 4, "patience": 0.0}, "patience 0.0: must be above 0"),
        ({"beams": 4, "length_penalty": float("nan")}, "length_penalty nan: must be -10 to 10"),
    ],
)
def test_impossible_settings_are_refused(wrong, line):
    with pytest.raises(UserError, match=line):
        Sampling(**wrong)
