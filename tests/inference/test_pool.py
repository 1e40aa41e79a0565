"""KV caches and their graphs within a budget of bytes."""

import gc

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.inference.cells import LogProbability
from mindspore_osum.inference.generate import Generator
from mindspore_osum.inference.memory import held
from mindspore_osum.inference.pool import BUDGET, Pool, State, default_budget
from mindspore_osum.inference.sampling import Sampling


@pytest.fixture
def made():
    """What was made and released, in order."""
    return []


class Measured:
    """Stands for a graph; `nbytes` is known once it ran."""

    def __init__(self, name, made):
        self.name, self.made, self.nbytes = name, made, 0
        made.append(f"+{name}")

    def release(self):
        self.made.append(f"-{self.name}")


@pytest.fixture
def borrow(made):
    """borrow(pool, key, cache_bytes): a state of that shape."""

    def borrow(pool, key, cache_bytes=10):
        def make():
            graph = Measured(key, made)
            return State((key,), graph, [graph], cache_bytes)

        return pool.borrow((key,), cache_bytes, make)

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


def test_graphs_count_once_they_ran_and_are_expected_to_take_as_much_again(made, borrow):
    pool = Pool(100)
    pool.give_back(borrow(pool, "a"))
    large = borrow(pool, "b")
    large.graphs.nbytes = 95
    assert pool.nbytes == 105
    pool.give_back(large)
    assert made == ["+a", "+b", "-a"] and pool.nbytes == 95
    pool.give_back(borrow(pool, "c", 1))
    pool.give_back(borrow(pool, "d", 5))
    assert made[3:] == ["+c", "-b", "+d"] and pool.nbytes == 6 and pool.released == 2
    borrow(pool, "b")  # others go before it is made: it is known by now
    assert made[6:] == ["-c", "+b"]


def test_states_of_a_pool_that_is_gone_are_released_when_the_next_is_made(made, borrow):
    pool = Pool(100)
    pool.give_back(borrow(pool, "a"))
    del pool
    gc.collect()
    assert made == ["+a"]
    other = Pool(100)
    other.give_back(borrow(other, "b"))
    assert made == ["+a", "-a", "+b"]


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
    small, params = Generator(model, pool_bytes=1), []
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


def test_graphs_are_measured_and_their_memory_is_given_back(model):
    """64 MB go with a graph that is released; made anew, it gives the same."""
    ours, cell = Generator(model), LogProbability()
    scores_BV = np.random.default_rng(0).standard_normal((1 << 12, 1 << 12), np.float32)
    given = [scores_BV, np.arange(1 << 12, dtype=np.int32)]
    (first,) = ours.compute(cell, given)
    assert ours.pool.nbytes > scores_BV.nbytes // 2
    before = held()
    ours.pool.budget = 1
    assert np.array_equal(ours.compute(cell, given)[0], first) and ours.compiles == 1
    assert held() < before - scores_BV.nbytes // 2 and ours.pool.nbytes == 0
    assert np.array_equal(ours.compute(cell, given)[0], first) and ours.compiles == 2
