"""Generation against the model computed anew for every token, and against its own batches."""

from dataclasses import replace

import numpy as np
import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.inference import generate
from mindspore_osum.inference.generate import Generator
from mindspore_osum.inference.graph_cache import FOLDER
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.inference.tokens import ENDED, log_probabilities
from mindspore_osum.models.buckets import batch_bucket, bucket
from mindspore_osum.systems.prompt import Prompt
from mindspore_osum.text.sequence import HybridSequence, stack_sequences


def penalized(scores_V, tokens, penalty):
    """Keskar et al. 2019 in the form of Hugging Face, on the tokens generated so far."""
    scores_V = scores_V.copy()
    for token in set(tokens):
        scores_V[token] = scores_V[token] * penalty if scores_V[token] < 0 else scores_V[token] / penalty
    return scores_V


def opened(prompt, tokens) -> Prompt:
    """The prompt, followed by the first tokens of its answer."""
    ids_L = np.concatenate([prompt.sequence.ids_L, np.array(tokens, np.int32)])
    pad = np.zeros(len(ids_L), np.int32)
    return Prompt(HybridSequence(ids_L, pad, pad, prompt.sequence.recordings), prompt.mel_TF, tuple(tokens))


STEPS, FRAMES, LENGTH = 256, 100, 320  # of each answer; of the longest recording; positions of all


def recomputed(model):
    """forward(prompt, tokens) -> scores_LV: the whole sequence through the model, which keeps nothing."""
    import mindspore as ms
    from mindspore import Tensor

    positions_BL = Tensor(np.arange(LENGTH, dtype=np.int32)[None])
    segments_BL = Tensor(np.ones((1, LENGTH), np.int32))

    @ms.jit
    def run(mel_BTF, mel_len_B, ids_BL, speech_BL):
        return model.decoder.logits(
            model.hidden_states(mel_BTF, mel_len_B, ids_BL, speech_BL, positions_BL, segments_BL)
        )

    def forward(prompt, tokens):
        frames, start = len(prompt.mel_TF), len(prompt.sequence)
        rows = stack_sequences([prompt.sequence], LENGTH, -(-FRAMES // 8), 1)
        rows["token_ids_BL"][0, start : start + len(tokens)] = tokens
        mel_BTF = Tensor(np.pad(prompt.mel_TF[None], ((0, 0), (0, FRAMES - frames), (0, 0))))
        lengths_B = Tensor(np.array([frames], np.int32))
        return run(mel_BTF, lengths_B, Tensor(rows["token_ids_BL"]), Tensor(rows["speech_row_BL"])).asnumpy()[
            0
        ]

    return forward


def test_cache_equals_full_recompute_over_256_steps(model, generator, endless, prompt, record_property):
    """Each token is the best after all before it, which the whole answer run at once has for every step."""
    prompts = [prompt(1, 30, FRAMES), prompt(2, 20, 61)]  # of different lengths, in one batch
    answers = generator.generate(prompts, Sampling(max_new_tokens=STEPS, repetition_penalty=1.05))
    forward = recomputed(model)
    for one, answer in zip(prompts, answers, strict=True):
        tokens, last = answer.tokens, len(one.sequence) - 1
        scores_LV, margins = forward(one, tokens), []
        for step, token in enumerate(tokens):
            scores_V = penalized(scores_LV[last + step], tokens[:step], 1.05)
            second, best = np.sort(scores_V)[-2:]
            margins.append(best - second)
            assert scores_V.argmax() == token, step
        record_property("smallest_margin", float(min(margins)))
        assert min(margins) > 1e-4, "the test is at the mercy of rounding: take other weights"
        assert len(tokens) == STEPS and answer.cut
        assert len(set(tokens)) > 50, "the test says nothing about text that repeats itself"
        for step in (0, 100, 255):  # what comes later decides nothing before it
            shorter_LV = forward(one, tokens[:step])
            np.testing.assert_allclose(shorter_LV[last + step], scores_LV[last + step], atol=1e-5)


def test_batch_equals_one_by_one(generator, prompt):
    """Different lengths of text and speech, a prompt without speech, and rows of padding."""
    prompts = [prompt(11, 9, 80), prompt(12, 40, 128), prompt(13, 25), prompt(14, 8, 7), prompt(15, 33, 41)]
    sampling = Sampling(max_new_tokens=24)
    together = generator.generate(prompts, sampling)
    assert together == [generator.generate([p], sampling)[0] for p in prompts]
    assert len({tuple(a.tokens) for a in together}) == len(prompts)
    assert together[::-1] == generator.generate(prompts[::-1], sampling)


def test_an_opening_is_as_if_the_model_had_written_it(generator, endless, prompt):
    """Given its own first tokens, 0, 1 or 7 of them, an answer goes on as it did, penalty included."""
    prompts = [prompt(16, 9, 80), prompt(17, 20, 61), prompt(18, 12)]
    sampling = Sampling(max_new_tokens=24, repetition_penalty=1.3)
    free = [a.tokens for a in generator.generate(prompts, sampling)]
    counts = (7, 0, 1)
    given = [opened(p, tokens[:n]) for p, tokens, n in zip(prompts, free, counts, strict=True)]
    for answer, tokens, n in zip(generator.generate(given, sampling), free, counts, strict=True):
        assert answer.tokens[: 24 - n] == tokens[n:]


def test_probabilities_of_the_chosen_tokens(model, generator, endless, prompt):
    """Those of the whole answer run at once, after the penalty; they change no token, nor do neighbours."""
    prompts = [prompt(16, 9, 80), prompt(17, 20, 61)]
    plain = Sampling(max_new_tokens=24)
    answers = generator.generate(prompts, replace(plain, confidence=True))
    forward = recomputed(model)
    for one, answer, free in zip(prompts, answers, generator.generate(prompts, plain), strict=True):
        assert answer.tokens == free.tokens and free.log_p == []
        scores_LV, last = forward(one, answer.tokens), len(one.sequence) - 1
        for step, (token, log_p) in enumerate(zip(answer.tokens, answer.log_p, strict=True)):
            scores_V = penalized(scores_LV[last + step], answer.tokens[:step], 1.05).astype(np.float64)
            assert log_p == pytest.approx(scores_V[token] - np.log(np.exp(scores_V).sum()), abs=1e-3)
            assert log_p == pytest.approx(log_probabilities(scores_V[None], np.array([token]))[0], abs=1e-3)


def test_speech_is_heard(generator, prompt):
    """The same text with another recording is answered differently."""
    first, second = prompt(21, 9, 80), prompt(22, 9, 80)
    mixed = type(first)(first.sequence, second.mel_TF)
    answers = generator.generate([first, mixed], Sampling(max_new_tokens=24))
    assert answers[0] != answers[1]


def test_each_sequence_stops_alone(generator, endless, monkeypatch, prompt):
    prompts = [prompt(31, 9, 80), prompt(32, 20, 100), prompt(33, 12, 60)]
    sampling = Sampling(max_new_tokens=24)
    free = [a.tokens for a in generator.generate(prompts, sampling)]
    ends = {free[0][5], free[1][11]}
    expected = [next((i for i, t in enumerate(tokens) if t in ends), None) for tokens in free]
    assert len(set(expected)) == 3, "take other prompts: these end at the same step"
    monkeypatch.setattr(generator, "eos_ids", frozenset(ends))
    steps = list(generator.stream(prompts, sampling))
    answers = generator.generate(prompts, sampling)
    for n, (tokens, end) in enumerate(zip(free, expected, strict=True)):
        assert answers[n].tokens == tokens[:end]
        assert answers[n].cut == (end is None)
        column = [int(step[n]) for step in steps]
        shown = tokens if end is None else tokens[: end + 1]  # the stream shows the end token, then nothing
        assert column == shown + [ENDED] * (len(steps) - len(shown))


def test_stops_when_all_have_ended(generator, endless, monkeypatch, prompt):
    one, sampling = prompt(41, 9, 80), Sampling(max_new_tokens=24)
    tokens = generator.generate([one], sampling)[0].tokens
    monkeypatch.setattr(generator, "eos_ids", frozenset([tokens[3]]))
    assert len(list(generator.stream([one], sampling))) == tokens.index(tokens[3]) + 1


def test_limit_of_the_models_positions(generator, endless, prompt):
    """An answer ends where the model's positions end, whoever else is in the batch."""
    long, short = prompt(51, 500), prompt(52, 9)
    sampling = Sampling(max_new_tokens=40)
    alone = [generator.generate([p], sampling)[0] for p in (long, short)]
    assert [len(a.tokens) for a in alone] == [12, 40]
    assert all(a.cut for a in alone)
    assert generator.generate([long, short], sampling) == alone
    with pytest.raises(UserError, match="512, which leaves none for the answer"):
        generator.generate([short, prompt(53, 512)], sampling)


def test_repetition_penalty_changes_only_what_was_generated(generator, endless, prompt):
    plain, strong = (
        generator.generate([prompt(61, 9, 80)], Sampling(max_new_tokens=48, repetition_penalty=penalty))[
            0
        ].tokens
        for penalty in (1.0, 50.0)
    )
    assert plain[0] == strong[0]  # nothing has been generated before the first
    assert len(set(strong)) == 48 > len(set(plain))


def test_interleaved_streams_do_not_share_a_cache(generator, prompt):
    first, second = prompt(71, 9, 80), prompt(72, 20, 100)
    sampling = Sampling(max_new_tokens=12)
    alone = [np.concatenate(list(generator.stream([p], sampling))) for p in (first, second)]
    pairs = list(zip(generator.stream([first], sampling), generator.stream([second], sampling), strict=False))
    for n in range(2):
        together = np.concatenate([pair[n] for pair in pairs])
        assert together.tolist() == alone[n][: len(together)].tolist()


def test_an_abandoned_stream_leaves_no_trace(generator, prompt):
    one, other = prompt(81, 9, 80), prompt(82, 20, 100)
    sampling = Sampling(max_new_tokens=12)
    expected = generator.generate([one], sampling)
    stream = generator.stream([other], sampling)
    next(stream), next(stream)
    stream.close()
    assert generator.generate([one], sampling) == expected


def test_nothing_compiles_after_warm_up(model, prompt, monkeypatch):
    """Neither by our count nor by MindSpore's: its compiler parses no function any more."""
    from mindspore._extends.parse import parser

    monkeypatch.setenv(FOLDER, "off")  # graphs from disk are not parsed
    parsed = []
    parse = parser.Parser.parse

    def counted(self):
        parsed.append(self)
        return parse(self)

    monkeypatch.setattr(parser.Parser, "parse", counted)
    ours = Generator(model)
    ours.generate([prompt(1, 9, 80), prompt(2, 20, 100), prompt(3, 11, 30)], Sampling(max_new_tokens=8))
    assert ours.compiles == 2 and parsed and ours.compile_seconds > 0
    parsed.clear()
    seconds = ours.compile_seconds
    for seed in range(4, 8):
        greedy, drawn = (
            Sampling(max_new_tokens=9, repetition_penalty=1.3),
            Sampling(max_new_tokens=10, temperature=0.7),
        )
        ours.generate([prompt(seed, 5 + seed, 18 * seed) for _ in range(3 + seed % 2)], greedy)
        ours.generate([prompt(seed, 10, 128) for _ in range(4)], drawn)
    assert (ours.compiles, ours.compile_seconds, parsed) == (2, seconds, [])
    ours.generate([prompt(9, 9)], greedy)
    assert ours.compiles == 4 and parsed


def test_drawing(generator, prompt):
    prompts = [prompt(91, 9, 80), prompt(92, 20, 100)]
    warm = Sampling(max_new_tokens=16, temperature=1.0, seed=3)
    drawn = generator.generate(prompts, warm)
    assert drawn == generator.generate(prompts, warm)
    assert drawn == [generator.generate([p], warm)[0] for p in prompts]
    assert drawn != generator.generate(prompts, Sampling(max_new_tokens=16, temperature=1.0, seed=4))
    greedy = generator.generate(prompts, Sampling(max_new_tokens=16))
    assert drawn != greedy
    assert greedy == generator.generate(prompts, Sampling(max_new_tokens=16, temperature=1.0, top_k=1))


@pytest.mark.parametrize("sampling", [{"top_k": 20, "top_p": 0.9}, {"top_p": 0.8}, {}], ids=str)
def test_the_device_draws_what_the_host_draws(generator, prompt, monkeypatch, sampling):
    """From the best tokens alone, and from all scores, which leave the device for that."""
    prompts = [prompt(93, 9, 80), prompt(94, 20, 100)]
    warm = Sampling(max_new_tokens=16, temperature=1.5, seed=5, **sampling)
    monkeypatch.setattr(generate, "BEST", (64, 128))
    device = generator.generate(prompts, warm)
    monkeypatch.setattr(generate, "BEST", (512, 512))  # too large a part of the vocabulary
    assert device == generator.generate(prompts, warm)


@pytest.mark.parametrize("smallest", [64, 128])
def test_buckets(smallest):
    sizes = [bucket(n, smallest) for n in range(1, 6001)]
    assert all(n <= size for n, size in enumerate(sizes, 1))
    assert sizes == sorted(sizes)
    assert all(size - n < max(smallest, n / 4) for n, size in enumerate(sizes, 1))
    assert len(set(sizes)) < 40
    assert all(bucket(size, smallest) == size for size in set(sizes))
    assert [batch_bucket(n) for n in range(1, 10)] == [1, 2, 4, 4, 8, 8, 8, 8, 16]
