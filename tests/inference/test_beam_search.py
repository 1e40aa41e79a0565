"""Beam search of a model: against whole texts computed anew, one by one, and what it leaves and refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from mindspore_osum.api import OSUM
from mindspore_osum.cli import main
from mindspore_osum.errors import UserError
from mindspore_osum.inference.generate import Generator
from mindspore_osum.inference.graph_cache import FOLDER
from mindspore_osum.inference.sampling import KEEP, Sampling
from tests.inference.test_beams import by_definition
from tests.inference.test_generate import FRAMES, opened, recomputed

BEAMS, NEW, PENALTY = 3, 20, 1.2
HOW = Sampling(max_new_tokens=NEW, beams=BEAMS, repetition_penalty=PENALTY, loops=KEEP)


def log_softmax(scores):
    """In float64."""
    scores = scores.astype(np.float64)
    return (
        scores
        - scores.max(-1, keepdims=True)
        - np.log(np.exp(scores - scores.max(-1, keepdims=True)).sum(-1, keepdims=True))
    )


def scorer(forward, prompt, opening=()):
    """model(tokens) -> what each next token adds to a score, from the whole sequence at once."""
    known, last = {}, len(prompt.sequence) - 1

    def model(tokens):
        if tokens not in known:
            found_V = log_softmax(forward(prompt, list(tokens))[last + len(tokens)])
            seen = list({*tokens, *opening})
            found_V[seen] *= PENALTY  # of log-probabilities, as transformers does
            known[tokens] = found_V
        return known[tokens]

    return model


@pytest.fixture
def many_ends(generator, monkeypatch):
    """Every sixteenth token ends an answer."""
    monkeypatch.setattr(generator, "eos_ids", frozenset(range(0, 512, 16)))
    return generator.eos_ids


def test_batch_equals_one_by_one(generator, many_ends, prompt):
    """Of different lengths, without speech, and after an opening; some end, some are cut."""
    prompts = [prompt(1, 30, FRAMES), prompt(2, 20, 61), opened(prompt(16, 9, 80), [7, 300]), prompt(13, 25)]
    found = generator.generate(prompts, HOW)
    assert found == [generator.generate([one], HOW)[0] for one in prompts]
    assert {one.cut for one in found} == {True, False}
    assert [one.tokens for one in found] != [
        one.tokens for one in generator.generate(prompts, replace(HOW, beams=1))
    ]


@pytest.mark.slow
def test_it_is_the_search_in_whole_texts(model, generator, many_ends, prompt):
    """Without a cache, with the probabilities of tokens; test_transformers.py has other searches of texts."""
    prompts, forward = [prompt(1, 30, FRAMES), opened(prompt(16, 9, 80), [7, 300])], recomputed(model)
    for one, answer in zip(prompts, generator.generate(prompts, replace(HOW, confidence=True)), strict=True):
        scores = scorer(forward, one, one.opening)
        expected = by_definition(scores, 512, NEW, many_ends, BEAMS, 1.0)
        assert tuple(answer.tokens) == (expected if answer.cut else expected[:-1])
        assert answer.cut == (expected[-1] not in many_ends)
        log_p = [log_softmax(scores(expected[:n]))[token] for n, token in enumerate(expected)]
        np.testing.assert_allclose(answer.log_p, log_p[: len(answer.tokens)], atol=1e-3)
        assert answer.sum_log_p == pytest.approx(sum(log_p), abs=1e-2)


def test_more_beams_find_what_is_likelier(generator, endless, prompt):
    """The sum of log-probabilities that the search maximises, of answers of the same length."""
    prompts = [prompt(seed, 9, 80) for seed in (3, 4, 5)]
    how = replace(HOW, repetition_penalty=1.0, confidence=True)
    greedy = generator.generate(prompts, replace(how, beams=1))
    wide = generator.generate(prompts, how)
    assert [len(one.tokens) for one in wide] == [NEW] * 3
    better = [b.sum_log_p - a.sum_log_p for a, b in zip(greedy, wide, strict=True)]
    assert sum(better) > 0.5


def test_what_may_come_first(generator, prompt):
    """`first` and `denied` of a prompt hold for every hypothesis."""
    free = prompt(6, 12, 80)
    begins = {generator.generate([one], HOW)[0].tokens[0] for one in (free, replace(free, first=(17,)))}
    assert 17 in begins and len(begins) == 2
    (denied,) = generator.generate([replace(free, denied=tuple(begins))], HOW)
    assert denied.tokens[0] not in begins


def test_nothing_compiles_after_warm_up(model, prompt, monkeypatch):
    """Graphs of a shape: prefill, spread, step, move, and the candidates of prompts and of rows."""
    monkeypatch.setenv(FOLDER, "off")
    ours = Generator(model)
    ours.generate([prompt(1, 9, 80), prompt(2, 20, 100)], HOW)
    assert ours.compiles == 6
    for seed in range(4, 7):
        ours.generate([prompt(seed, 5 + seed, 18 * seed)] * 2, replace(HOW, length_penalty=0.5))
    assert ours.compiles == 6


def test_caches_are_counted_and_freed(model, prompt):
    """The rows of prompts and of hypotheses; greedy answers of the same batch have a state of their own."""
    ours, two = Generator(model), [prompt(1, 9, 80), prompt(2, 20, 100)]
    ours.generate(two, replace(HOW, beams=1))
    ours.generate(two, HOW)
    greedy, beams = ours.pool._idle
    assert beams.cache_bytes == greedy.cache_bytes * (1 + BEAMS) > 0
    ours.pool.budget = greedy.nbytes + beams.nbytes - 1
    ours.generate(two, replace(HOW, beams=1))
    assert ours.pool._idle == [greedy] and beams.graphs.step.cell.state.factor_BV.size == 1


def test_the_command(model_folder, tmp_path, capfd):
    """Through the verb, with adapters merged; words of the chosen hypothesis have its probabilities."""
    rng = np.random.default_rng(1)
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal(8000), 16_000)
    args = ["infer", str(tmp_path / "a.wav"), "--model", str(model_folder), "--confidence"]
    args += ["--max-new-tokens", "12"]
    found = []
    for beams in ("1", "4"):
        assert main([*args, "--beams", beams]) == 0
        found.append(json.loads(capfd.readouterr().out))
    assert found[0]["raw"] != found[1]["raw"]
    assert all(0 < one["confidence"] < 1 for one in found)
    assert found[1]["confidence"] > found[0]["confidence"]
    with pytest.raises(UserError, match="a.wav: beams 4: a beam search gives whole answers"):
        next(OSUM.load(model_folder).stream(str(tmp_path / "a.wav"), beams=4, gate=False))


def test_refusals(generator, prompt):
    with pytest.raises(UserError, match="gives whole answers"):
        next(generator.stream([prompt(1, 9)], HOW))
    with pytest.raises(UserError, match="too many for a vocabulary of 40 tokens"):
        ours = Generator(generator.model)
        ours.pieces = 40
        ours.generate([prompt(1, 9)], replace(HOW, beams=64))
