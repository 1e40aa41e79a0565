"""Repetition without end: what counts as a loop, what is kept, and what ends a sequence."""

import numpy as np
import pytest

from mindspore_osum.inference.loops import loop_at_end, without_loop
from mindspore_osum.inference.sampling import RETRY_PENALTY, Sampling
from mindspore_osum.inference.tokens import ENDED, Generated, Limits, Tokens

WORD = list(range(100, 130))


@pytest.mark.parametrize(
    ("unit", "times", "found"),
    [
        (1, 47, 0),
        (1, 48, 1),
        (2, 23, 0),
        (2, 24, 2),
        (3, 16, 3),
        (6, 7, 0),
        (6, 8, 6),
        (20, 8, 20),
        (21, 20, 0),  # longer than a loop's unit
    ],
)
def test_what_counts_as_a_loop(unit, times, found):
    tokens = [1, 2, 3, *WORD[:unit] * times]
    assert loop_at_end(tokens) == found
    assert loop_at_end([*tokens, 7]) == 0  # it has gone on
    if found:
        assert without_loop(tokens, found) == ([1, 2, 3, *WORD[:unit]], times)


@pytest.mark.parametrize(
    "said",
    [
        WORD[:1] * 4,  # ha ha ha ha
        WORD[:1] * 11,  # a telephone number of one digit
        WORD[:3] * 11,  # the same where a character is three bytes
        WORD[:2] * 20,  # haha, for half a minute
        WORD[:12] * 4,  # a refrain
    ],
)
def test_what_people_say_is_no_loop(said):
    assert all(loop_at_end(said[:n]) == 0 for n in range(len(said) + 1))


def test_a_loop_ends_its_own_sequence_alone():
    def ends(rows, loops) -> list[int]:
        """Number of tokens that each row gets."""
        limits, counts = Limits([60] * len(rows), frozenset(), loops), np.zeros(len(rows), int)
        for step in zip(*rows, strict=True):
            tokens_N = np.array(step, np.int32)
            tokens_N[limits.ended_N] = ENDED
            counts += tokens_N != ENDED
            if limits.take(tokens_N):
                break
        return counts.tolist()

    loop, text = [5] * 60, list(range(60))
    assert ends([loop, text, WORD[:2] * 30], "end") == [48, 60, 48]
    assert ends([loop], "end") == [48] and ends([loop, text], "keep") == [60, 60]


class Scripted(Tokens):
    """Tokens by repetition penalty: with the usual one the second prompt loops."""

    eos_ids = frozenset([0])

    def room(self, prompt):
        return 400

    def stream(self, prompts, sampling=None, rows=1):
        loops = sampling.repetition_penalty < RETRY_PENALTY
        rows = [[9, 8, 7, 0] if prompt == "fine" or not loops else [9] + [5] * 400 for prompt in prompts]
        limits = self.limits(prompts, sampling)
        for step in range(400):
            tokens_N = np.array([row[min(step, len(row) - 1)] for row in rows], np.int32)
            tokens_N[limits.ended_N] = ENDED
            yield tokens_N
            if limits.take(tokens_N):
                return


def test_generated_answers_say_their_loop():
    fine, loop = Scripted().generate(["fine", "loop"], Sampling())
    assert (fine, loop.cut, loop.unit, len(loop.tokens)) == (Generated([9, 8, 7], cut=False), True, 1, 49)
    kept = Scripted().generate(["loop"], Sampling(loops="keep"))[0]
    assert (kept.unit, len(kept.tokens)) == (0, 400)
