"""The rules of timestamps against their definition, read token by token."""

from dataclasses import replace

import numpy as np
import pytest

from mindspore_osum.systems.registry import preset
from mindspore_osum.systems.whisper_asr.descriptions import suppressed

BASE = preset("whisper_base")
WORDS = BASE.vocabulary
TEXT, ZERO, LAST = 1000, WORDS.first_time, WORDS.last_time
HIDDEN = -1e8


def allowed(ids: list[int], scores_V: np.ndarray, timed: bool) -> np.ndarray:
    """Which tokens may follow `ids`, an answer after its first token (openai-whisper, decoding.py)."""
    ok_V = np.ones(len(scores_V), bool)
    ok_V[[*suppressed(BASE)]] = False
    if not timed:
        return ok_V
    is_time_V = np.zeros(len(ok_V), bool)
    is_time_V[ZERO : LAST + 1] = True
    ok_V[WORDS.no_timestamps] = False
    times = [i for i in ids if ZERO <= i <= LAST]
    if ids[-1] in times:
        if len(ids) == 1 or ZERO <= ids[-2] <= LAST:
            ok_V[is_time_V] = False
        else:
            ok_V[: WORDS.eot] = False
    if times:
        opened = ids[-1] in times and not (len(ids) == 1 or ZERO <= ids[-2] <= LAST)
        ok_V[ZERO : times[-1] + (0 if opened else 1)] = False
    x_V = np.where(ok_V, scores_V.astype(np.float64), -np.inf)
    with np.errstate(divide="ignore"):
        together = np.log(np.exp(x_V[is_time_V]).sum())
    if together > x_V[~is_time_V].max():
        ok_V[~is_time_V] = False
    return ok_V


@pytest.mark.parametrize("more", [0, 7])
def test_what_may_follow(more):
    ms = pytest.importorskip("mindspore")
    from mindspore import Tensor, nn

    from mindspore_osum.device import use_device
    from mindspore_osum.systems.whisper_asr.generation import Rules

    use_device("CPU")
    cfg = replace(BASE, decoder=replace(BASE.decoder, vocab_size=BASE.decoder.vocab_size + more))
    rules, rng = Rules(nn.Cell(), cfg), np.random.default_rng(0)
    graph = ms.jit(rules.construct)
    answers = [  # (tokens, with times): of equal length, in one batch
        ([ZERO + 5, TEXT, TEXT + 1, ZERO + 50, ZERO + 50, TEXT, ZERO + 90], True),
        ([ZERO, TEXT, ZERO + 50, ZERO + 60, TEXT, ZERO + 61, LAST], True),
        ([TEXT, TEXT + 1, WORDS.eot - 1, TEXT, TEXT, TEXT, TEXT], False),
        ([TEXT, ZERO + 3, TEXT, ZERO, ZERO + 1, TEXT, TEXT], False),
        ([ZERO + 1, TEXT, TEXT, TEXT, TEXT, TEXT, ZERO + 7], True),
    ]
    memory = Tensor(np.array([[timed, 1, 1, 0] for _, timed in answers], np.int32))
    only = 0
    for n in range(len(answers[0][0])):
        scores_BV = rng.standard_normal((len(answers), cfg.decoder.vocab_size)).astype(np.float32)
        scores_BV[:, ZERO : LAST + 1] += rng.choice([-9.0, -3.0, 0.0], (len(answers), 1)).astype(np.float32)
        token_B = Tensor(np.array([ids[n] for ids, _ in answers], np.int32))
        found, memory = graph(Tensor(scores_BV), token_B, memory)
        found = found.asnumpy()
        for row, (ids, timed) in enumerate(answers):
            ok_V = allowed(ids[: n + 1], scores_BV[row], timed)
            assert np.array_equal(found[row] > HIDDEN, ok_V), (row, n)
            assert np.array_equal(found[row][ok_V], scores_BV[row][ok_V])
            only += timed and not ok_V[: WORDS.eot].any() and not ok_V[WORDS.eot]
    assert only  # timestamps together were likelier at least once
