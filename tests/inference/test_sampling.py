"""The draw of a token: support and distribution, against definitions written here and transformers."""

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.inference.sampling import Sampling, candidates, draw, draw_of_best

SCORES_V = np.array([2.0, -1.0, 0.5, 3.0, 2.9, 0.0, -4.0, 1.5, 2.0, -0.5], np.float32)
SETTINGS = [
    Sampling(temperature=1.0),
    Sampling(temperature=0.5),
    Sampling(temperature=2.0, top_k=4),
    Sampling(temperature=1.0, top_p=0.7),
    Sampling(temperature=1.5, top_k=7, top_p=0.9),
]


def expected(sampling: Sampling) -> np.ndarray:
    """Probability of every token, by definition: softmax at the temperature, k best, fewest that reach p."""
    p_V = np.exp(SCORES_V.astype(np.float64) / sampling.temperature)
    p_V /= p_V.sum()
    order = sorted(range(len(p_V)), key=lambda i: (-p_V[i], i))
    kept = order[: sampling.top_k or len(order)]
    mass, chosen = 0.0, []
    for token in kept:
        if mass >= sampling.top_p and chosen:
            break
        chosen.append(token)
        mass += p_V[token] / p_V[kept].sum()
    out_V = np.zeros_like(p_V)
    out_V[chosen] = p_V[chosen] / p_V[chosen].sum()
    return out_V


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_candidates(sampling):
    p_V = np.zeros(len(SCORES_V))
    ids_C, p_C = candidates(SCORES_V, sampling)
    p_V[ids_C] = p_C
    np.testing.assert_allclose(p_V, expected(sampling), atol=1e-12)
    assert (np.diff(p_C) <= 0).all()


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_distribution_by_chi_square(sampling):
    rng, n = np.random.default_rng(7), 20_000
    counts_V = np.bincount(
        [draw(SCORES_V, sampling, rng.random()) for _ in range(n)], minlength=len(SCORES_V)
    )
    p_V = expected(sampling)
    assert not counts_V[p_V == 0].any()
    seen = p_V > 0
    chi_square = ((counts_V[seen] - n * p_V[seen]) ** 2 / (n * p_V[seen])).sum()
    freedom = seen.sum() - 1
    assert chi_square < freedom + 4 * np.sqrt(2 * freedom) + 4  # beyond the 99.9 % point for these sizes


def test_exact_support():
    assert candidates(SCORES_V, Sampling(temperature=1.0, top_k=3))[0].tolist() == [3, 4, 0]  # 8 ties with 0
    half = np.log([0.5, 0.25, 0.125, 0.125]).astype(np.float32)
    assert candidates(half, Sampling(temperature=1.0, top_p=0.4))[0].tolist() == [0]
    assert candidates(half, Sampling(temperature=1.0, top_p=0.6))[0].tolist() == [0, 1]
    assert candidates(half, Sampling(temperature=1.0, top_p=0.8))[0].tolist() == [0, 1, 2]
    assert candidates(half, Sampling(temperature=1.0, top_p=1e-9))[0].tolist() == [0]
    assert candidates(half, Sampling(temperature=1.0, top_k=99))[0].tolist() == [0, 1, 2, 3]


def test_as_transformers_warps_scores():
    torch = pytest.importorskip("torch", reason="needs torch, the reference: pip install -e .[dev]")
    from transformers import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    scores_V = np.random.default_rng(3).standard_normal(2000).astype(np.float32) * 3
    sampling = Sampling(temperature=0.8, top_k=50, top_p=0.85)
    warpers = [TemperatureLogitsWarper(0.8), TopKLogitsWarper(50), TopPLogitsWarper(0.85)]
    warped = LogitsProcessorList(warpers)(
        torch.zeros((1, 1), dtype=torch.long), torch.from_numpy(scores_V)[None]
    )
    reference_V = torch.softmax(warped[0].double(), -1).numpy()
    ids_C, p_C = candidates(scores_V, sampling)
    assert set(ids_C) == set(np.flatnonzero(reference_V))
    np.testing.assert_allclose(p_C, reference_V[ids_C], atol=1e-6)


def test_extreme_scores():
    assert draw(np.array([0.0, 1e4, -1e4], np.float32), Sampling(temperature=0.01), 0.6) == 1
    assert draw(np.array([-np.inf, -np.inf, 0.0], np.float32), Sampling(temperature=1.0), 0.3) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": float("nan")},
        {"temperature": -0.1},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"seed": -1},
        {"loops": "never"},
    ],
)
def test_settings_are_checked(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        Sampling(**wrong)


@pytest.mark.parametrize("sampling", [*SETTINGS, Sampling(temperature=0.7, top_p=0.99)], ids=str)
@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_the_best_tokens_give_the_same_draws(sampling, spread):
    """None only where a token behind them was drawn, or has a say in it. Of equal scores at the edge of the
    k best, any may be one of them."""
    rng, decided = np.random.default_rng(9), 0
    for _ in range(20):
        scores_V = (rng.standard_normal(2048) * spread).astype(np.float32)
        if not sampling.top_k:
            scores_V = np.round(scores_V, 2)
        best_K = np.argsort(-scores_V, kind="stable")[:256]
        scaled_V = scores_V.astype(np.float64) / sampling.temperature
        total, uniform = np.log(np.exp(scaled_V).sum()), rng.random()
        token = draw_of_best(scores_V[best_K], best_K, total, sampling, uniform)
        decided += token is not None
        if token is not None:
            assert token == draw(scores_V, sampling, uniform)
        else:
            assert not sampling.top_k
    assert decided == 20 if sampling.top_k else decided > 0 or spread < 4


def test_a_draw_behind_the_best_tokens_is_left_to_all_of_them():
    scores_V, total = np.zeros(8, np.float32), np.log(8)
    best = scores_V[:4], np.arange(4), total
    assert draw_of_best(*best, Sampling(temperature=1.0), 0.49) == 3
    assert draw_of_best(*best, Sampling(temperature=1.0), 0.51) is None
    assert draw_of_best(*best, Sampling(temperature=1.0, top_p=0.6), 0.1) is None  # more than four hold it
    assert draw_of_best(*best, Sampling(temperature=1.0, top_p=0.5), 0.999) == 3
