"""Decoding: tokens a second against PyTorch's generate, the memory's bandwidth, batches, context, the cache.

Legend: B batch, L positions, S cache slots, V vocabulary.

Notable choices
- A token's time is the median of the times between two tokens of an answer.
- Memory bandwidth is numpy's best read rate with the same threads.
- The cost of a step without reading weights is measured on a model of the same depth with minimal layers.
"""

import time
from contextlib import closing
from itertools import islice

import numpy as np

from mindspore_osum.bench import models
from mindspore_osum.bench.card import Curve, Outcome
from mindspore_osum.bench.memory import read_bandwidth
from mindspore_osum.bench.setup import Setup
from mindspore_osum.bench.timing import Run, clocked, race, show_seconds
from mindspore_osum.inference.generate import Generator
from mindspore_osum.inference.sampling import KEEP, Sampling
from mindspore_osum.systems.prompt import Prompt
from mindspore_osum.text.sequence import HybridSequence, Text, lay_out

PROMPT, ROOM = 64, 64  # tokens of the prompt, and most new ones: a cache of 128 slots
ROWS = 8  # of the larger batch
CACHE_AT = 256  # positions at which the cache is compared with recomputing
# slots of the cache, all of which a step reads -> prompt that with ROOM fills it
CONTEXTS = {128: PROMPT, 256: 192, 1024: 896}


def prompt_of(cfg, length: int, seed: int = 0) -> HybridSequence:
    """Random text tokens."""
    ids = np.random.default_rng(seed).integers(5, cfg.vocab_size, length)
    return lay_out(None, [Text(ids)])


class Decoding:
    """Greedy answers of a fixed length from one model."""

    def __init__(self, model):
        self.cfg = model.cfg.decoder
        self.generator = Generator(model, eos_ids=())

    def answers(self, count: int, rows: int = 1, length: int = PROMPT) -> list[list[int]]:
        """`count` greedy tokens after each of `rows` prompts; all counts take the same graphs."""
        with closing(self.stream(rows, length)) as steps:
            return np.stack(list(islice(steps, count)), 1).tolist()

    def stream(self, rows: int, length: int):
        """The tokens of `rows` answers, step by step."""
        sequences = [prompt_of(self.cfg, length, seed) for seed in range(rows)]
        prompts = [Prompt(sequence) for sequence in sequences]
        settings = Sampling(max_new_tokens=ROOM, repetition_penalty=1.0, loops=KEEP)  # as transformers
        return self.generator.stream(prompts, settings)

    def run(self, count: int, rows: int = 1, length: int = PROMPT) -> Run:
        """A `Run` of `answers`."""
        return clocked(lambda: self.answers(count, rows, length))

    def token_seconds(self, count: int, rounds: int, rows: int = 1, length: int = PROMPT) -> float:
        """Seconds of one step of `rows` tokens: the median over `count` of them in each round."""
        self.answers(2, rows, length)  # compiles
        between: list[float] = []
        for _ in range(rounds):
            with closing(self.stream(rows, length)) as steps:
                between += np.diff([time.perf_counter() for _ in islice(steps, count)]).tolist()
        return float(np.median(between))


def run(setup: Setup) -> Outcome:
    """Measure."""
    out, count, rounds = Outcome(), 16 if setup.quick else ROOM, 2 if setup.quick else 3
    model = models.build(models.DECODER_QUICK if setup.quick else models.DECODER_90M)
    ours = Decoding(model)
    _against_torch(setup, out, ours, count, rounds)
    token = _bandwidth(setup, out, model, ours, count, rounds)
    batch = ours.token_seconds(count, rounds, ROWS)
    out.figure("decode_batch8_tokens_s", ROWS / batch, "tokens/s, batch 8", f"{ROWS / batch:.1f}")
    out.ratio("decode_batch8_gain", ROWS * token / batch)
    _host(out, count, rounds)
    _cache(out, model, ours, rounds)
    out.notes.append(_int8(model.cfg.decoder, rounds))
    return out


def _against_torch(setup: Setup, out: Outcome, ours: Decoding, count: int, rounds: int) -> None:
    """Time of a whole answer, prompt included, on both sides."""
    ids = prompt_of(ours.cfg, PROMPT).ids_L.tolist()
    with setup.torch() as torch:
        torch.ask("load_decoder", folder=models.for_torch(ours.generator.model, "hf_decoder", setup.folder))
        theirs = torch.ask("generate", ids=ids, count=count)["tokens"]
        same = int(np.cumprod(np.equal(theirs, ours.answers(count)[0])).sum())  # rounding: they diverge
        out.figure("decode_same_tokens", same, "first tokens equal to PyTorch's", f"{same} of {count}")
        mine, other = race(ours.run(count), torch.run("generate", ids=ids, count=count), rounds=rounds)
    for key, what, timing in (("", "ours", mine), ("_torch", "transformers' generate", other)):
        rate = count / timing.median
        out.figure(f"decode_tokens_s{key}", rate, f"tokens/s, {count} tokens, {what}", f"{rate:.1f}")
    out.ratio("decode_vs_torch", other.median / mine.median)


def _bandwidth(setup: Setup, out: Outcome, model, ours: Decoding, count: int, rounds: int) -> float:
    """Seconds of a token, and the share of the memory's bandwidth that it uses."""
    token = ours.token_seconds(count, rounds)
    weights = sum(
        param.size * param.itemsize
        for name, param in model.decoder.parameters_and_names()
        if "embed_tokens" not in name
    )
    cfg, places = ours.cfg, PROMPT + ROOM
    cache = 2 * cfg.n_layers * cfg.n_kv_heads * cfg.head_dim * places * 4
    rate, limit = (weights + cache) / token, read_bandwidth(setup.threads)
    read = f"{show_seconds(token)}, reading {(weights + cache) / 1e6:.0f} MB"
    out.figure("token_s", token, "a token", read)
    out.figure("read_bandwidth", limit, "memory, best read of numpy", f"{limit / 1e9:.1f} GB/s")
    out.figure("decode_bandwidth", rate, "decoding reads", f"{rate / 1e9:.1f} GB/s")
    out.ratio("decode_bandwidth_share", rate / limit)
    return token


def _host(out: Outcome, count: int, rounds: int) -> None:
    """The time of a token without weights to read, and of the call of a graph alone.

    The latter is all that several tokens per call could save.
    """
    import mindspore as ms
    from mindspore import Tensor

    hollow = Decoding(models.build(models.DECODER_HOLLOW))
    token = hollow.token_seconds(count, rounds)
    out.figure("token_overhead_s", token, "of a token: host and launches, 12 layers", show_seconds(token))

    def nothing(token_B):
        return token_B + 1

    graph, token_B = ms.jit(nothing), Tensor(np.zeros(1, np.int32))
    call = race(clocked(lambda: graph(token_B).asnumpy()), rounds=50 * rounds)[0].median
    out.figure("call_overhead_s", call, "of it: the call of a graph", show_seconds(call))


def _cache(out: Outcome, model, ours: Decoding, rounds: int) -> None:
    """A token by recomputing everything before it, and by the cache as the context grows."""
    import mindspore as ms
    from mindspore import Tensor, ops

    def recompute(token_ids_1L, places_1L):
        h_1LD = model.decoder(model.decoder.embed(token_ids_1L), places_1L, None)
        return ops.argmax(model.decoder.logits(h_1LD[:, -1]), -1)

    graph = ms.jit(recompute)
    ids_1L = Tensor(prompt_of(ours.cfg, CACHE_AT).ids_L[None])
    places_1L = Tensor(np.arange(CACHE_AT, dtype=np.int32)[None])
    whole = race(clocked(lambda: graph(ids_1L, places_1L).asnumpy()), rounds=rounds)[0].median
    points = [(c, ours.token_seconds(ROOM // 4, rounds, length=length)) for c, length in CONTEXTS.items()]
    cached = dict(points)[CACHE_AT]
    out.figure("recompute_s", whole, f"a token at {CACHE_AT}, recomputed", show_seconds(whole))
    out.figure("cached_s", cached, f"a token at {CACHE_AT}, KV cache", show_seconds(cached))
    out.ratio("cache_gain", whole / cached)
    out.curve("decode", Curve("context", "seconds a token", points))


def _int8(cfg, rounds: int) -> str:
    """Whether weights of 8 bits would pay: one matrix of the MLP, times one row."""
    import mindspore as ms
    from mindspore import Parameter, Tensor, ops

    from mindspore_osum.models.ops import matmul_t

    rng = np.random.default_rng(0)
    w_ND = rng.integers(-127, 128, (cfg.d_ff, cfg.d_model)).astype(np.int8)
    scale_N = Parameter(Tensor(rng.random(cfg.d_ff, np.float32)), name="scale")
    small, large = Parameter(Tensor(w_ND), name="w8"), Parameter(Tensor(w_ND.astype(np.float32)), name="w32")
    x_1D = Tensor(rng.standard_normal((1, cfg.d_model), np.float32))

    def whole(x_1D):
        return matmul_t(x_1D, large)

    def quantised(x_1D):
        return matmul_t(x_1D, ops.cast(small, ms.float32)) * scale_N

    runs = [clocked(lambda graph=graph: graph(x_1D).asnumpy()) for graph in map(ms.jit, (whole, quantised))]
    plain, eight = (timing.median for timing in race(*runs, rounds=10 * rounds))
    pays = "pays" if eight < plain else "does not pay on CPU, whose operators multiply float32 alone"
    return (
        f"int8 weights, a {cfg.d_ff} x {cfg.d_model} matrix times a row: {show_seconds(eight)}, float32 "
        f"{show_seconds(plain)}: weight-only quantisation {pays}"
    )
