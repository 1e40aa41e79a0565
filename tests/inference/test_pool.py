"""KV caches and their graphs within a budget of bytes."""

import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.inference.generate import Generator
from mindspore_osum.inference.pool import BUDGET, Pool, State, default_budget
from mindspore_osum.inference.sampling import Sampling


@pytest.fixture
def made():
    """What was made and released, in order."""
    return []


@pytest.fixture
def borrow(made):
    """borrow(pool, key, nbytes): a state of that shape."""

    def borrow(pool, key, nbytes=10):
        def make():
            made.append(f"+{key}")
            return State((key,), key, lambda: made.append(f"-{key}"), nbytes)

        return pool.borrow((key,), nbytes, make)

    return borrow


def test_a_shape_is_made_once(made, borrow):
    pool = Pool(100)
    for _ in range(3):
        pool.give_back(borrow(pool, "a"))
    assert made == ["+a"] and pool.nbytes == 10
    first, second = borrow(pool, "a"), borrow(pool, "a")  # both in use
    assert first is not second and pool.nbytes == 20


def test_the_least_recently_used_is_released(made, borrow):
    pool = Pool(25)
    for key in "abac":
        pool.give_back(borrow(pool, key))
    assert made == ["+a", "+b", "-b", "+c"] and pool.nbytes == 20


def test_memory_is_freed_before_it_is_taken(made, borrow):
    pool = Pool(30)
    pool.give_back(borrow(pool, "a"))
    pool.give_back(borrow(pool, "b", 20))
    pool.give_back(borrow(pool, "large", 30))
    assert made == ["+a", "+b", "-a", "-b", "+large"] and pool.nbytes == 30


def test_one_in_use_stays_and_is_not_kept_beyond_the_budget(made, borrow):
    pool = Pool(5)
    used = borrow(pool, "a")
    pool.give_back(borrow(pool, "b"))
    assert made == ["+a", "+b", "-b"] and pool.nbytes == 10
    pool.give_back(used)
    assert made[-1] == "-a" and pool.nbytes == 0


def test_the_budget_of_the_environment(monkeypatch):
    monkeypatch.setenv(BUDGET, "2.5")
    assert default_budget() == 2_500_000_000
    monkeypatch.delenv(BUDGET)
    assert default_budget() > 1 << 28
    for text in ("many", "0", "-1", "nan", "inf"):
        monkeypatch.setenv(BUDGET, text)
        with pytest.raises(UserError, match=f"{BUDGET}: '{text}' is no number of gigabytes above 0"):
            default_budget()


def test_a_small_budget_changes_no_answer_and_frees(model, generator, prompt, monkeypatch):
    small, params = Generator(model, cache_bytes=1), []
    make = small._state

    def noted(*size):
        state = make(*size)
        assert all(param.size == 1 for param in params)  # before this one was made
        params.extend(state.graphs[1].cell.get_parameters())
        params[:] = [param for param in params if "decoder" not in param.name]  # all but the model's
        return state

    monkeypatch.setattr(small, "_state", noted)
    one, two, sampling = [prompt(95, 9)], [prompt(96, 9), prompt(97, 20)], Sampling(max_new_tokens=6)
    for prompts in (one, two, one):
        assert small.generate(prompts, sampling) == generator.generate(prompts, sampling)
        assert small.pool.nbytes == 0
    assert len(params) == 3 * 5 and all(param.size == 1 for param in params)
