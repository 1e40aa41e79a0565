"""Answers from prompts: a prefill graph, a step graph, and the loop between them.

Legend: B batch, N prompts, L prompt positions, P tokens of an opening, D width, V vocabulary.

Notable choices
- Two graphs for each static shape and nothing else: prefill reads the whole prompt and scores its last
  position; a step takes the chosen tokens and scores the next ones. Greedy choices stay on the device, only
  ids leave; of draws from a large vocabulary only the best tokens (`BEST`) leave, unless others can be drawn.
- The system defines prompts and how they become embeddings (`systems.base.Generation`); its decoder defines
  the cache.
- Prompts are padded on the right. Cache slots beyond their end hold undefined values until a step
  overwrites them, and are masked until then; so neither padding nor neighbours change an answer.
- Shapes come from buckets (models/buckets.py). A new one is compiled and run once before it is timed.
"""

import time
from collections.abc import Iterator, Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.common import api

from mindspore_osum.errors import UserError
from mindspore_osum.inference import graph_cache
from mindspore_osum.inference.cache import DecodeState
from mindspore_osum.inference.pool import Pool, State
from mindspore_osum.inference.sampling import Sampling, draw, draw_of_best
from mindspore_osum.inference.tokens import ENDED, Limits, Tokens, drawn, restricted
from mindspore_osum.interrupts import steady
from mindspore_osum.models.buckets import SMALLEST_LENGTH, batch_bucket, bucket
from mindspore_osum.models.ops import segment_causal_mask
from mindspore_osum.systems.base import Generation
from mindspore_osum.systems.registry import system_of

SMALLEST_OPENING = 32  # tokens; those of all published keys
# best tokens that a draw looks at first, if they are a small part of the vocabulary: with top-k, without
BEST = (64, 1024)


def penalized(scores_BV, factor_BV):
    """Scores under the repetition penalty of each token (Keskar et al. 2019)."""
    return ops.select(scores_BV < 0, scores_BV * factor_BV, scores_BV / factor_BV)


class Prefill(nn.Cell):
    """Prompts -> scores of their first new token; fills the cache.

    The opening of an answer, which a prompt may end with, is penalised as if it had been generated.
    """

    def __init__(self, parts: Generation, state: DecodeState):
        super().__init__(auto_prefix=False)  # parameters keep their names
        self.embed, self.decoder, self.rules, self.state = parts.embed, parts.decoder, parts.rules, state

    def construct(self, length_B, opening_BP, penalty_BP, *inputs):
        read = self.embed(*inputs)
        batch, length = (read[0] if isinstance(read, tuple) else read).shape[:2]
        position_1L = ops.arange(0, length, dtype=ms.int32).expand_dims(0)
        position_BL = position_1L.broadcast_to((batch, length))
        slots = self.state.cache.slots(position_BL)
        # padding lies after the prompt, so the causal mask hides it
        h_BLD, _ = self.decoder.cached(read, position_BL, None, self.state.keys_values, slots)
        last_B = ops.arange(0, batch, dtype=ms.int32) * length + length_B - 1
        scores_BV = self.decoder.logits(ops.gather(h_BLD.reshape((batch * length, -1)), last_B, 0))
        scores_BV = penalized(scores_BV, self.state.begin(opening_BP, penalty_BP))
        ruled = (scores_BV,) if self.rules is None else self.rules.begin(scores_BV, h_BLD, read)
        return (ops.cast(ops.argmax(ruled[0], -1), ms.int32), length_B) + ruled


class Step(nn.Cell):
    """The tokens chosen last -> scores of the next ones."""

    def __init__(self, parts: Generation, state: DecodeState):
        super().__init__(auto_prefix=False)
        self.decoder, self.rules, self.state = parts.decoder, parts.rules, state
        self.last_slot = state.slots - 1

    def construct(self, token_B, position_B, penalty_B, *held):
        decoder, state = self.decoder, self.state
        position_B1 = position_B.expand_dims(1)
        x_B1D = decoder.embed(token_B.expand_dims(1))
        seen, slots = state.cache.seen(position_B), state.cache.slots(position_B1)
        h_B1D, _ = decoder.cached(x_B1D, position_B1, seen, state.keys_values, slots)
        scores_BV = decoder.logits(h_B1D.squeeze(1))
        scores_BV = penalized(scores_BV, state.remember(token_B, penalty_B))
        # a finished sequence keeps rewriting its own last slot, and never one of another
        next_B = ops.minimum(position_B + 1, self.last_slot)
        ruled = (scores_BV,) if self.rules is None else self.rules(scores_BV, token_B, *held)
        return (ops.cast(ops.argmax(ruled[0], -1), ms.int32), next_B) + ruled


class LogProbability(nn.Cell):
    """Log-probability of the chosen tokens."""

    def construct(self, scores_BV, token_B):
        log_BV = ops.log_softmax(ops.cast(scores_BV, ms.float32), -1)
        return (ops.gather_elements(log_BV, 1, token_B.expand_dims(1)).squeeze(1),)


class Best(nn.Cell):
    """The `count` best of the first `pieces` tokens, and the logarithm of all these tokens' total.

    Scores are divided by the temperature in the total only.
    """

    def __init__(self, count: int, pieces: int):
        super().__init__()
        self.count, self.pieces, self.top = count, pieces, ops.TopK(sorted=True)
        self.sizes = [count, pieces]  # that neither inputs nor parameters tell

    def construct(self, scores_BV, temperature_1):
        if self.pieces < scores_BV.shape[1]:
            scores_BV = scores_BV[:, : self.pieces]
        best_BK, ids_BK = self.top(scores_BV, self.count)
        most_B1 = best_BK[:, :1]
        total_B = ops.exp((scores_BV - most_B1) / temperature_1).sum(-1)
        return best_BK, ids_BK, ops.log(total_B) + most_B1.squeeze(1) / temperature_1


class Logits(nn.Cell):
    """Scores (B, L, V) of the token after each position, without a cache."""

    def __init__(self, embed: nn.Cell, decoder: nn.Cell):
        super().__init__(auto_prefix=False)
        self.embed, self.decoder = embed, decoder

    def construct(self, *columns):
        positions_BL, segments_BL = columns[-2], columns[-1]  # after the inputs of `embed`
        x_BLD = self.embed(*columns[:-2])
        return self.decoder.logits(self.decoder(x_BLD, positions_BL, segment_causal_mask(segments_BL)))


class Graph:
    """A cell's construct as a graph, without the overhead of calling a cell.

    Attributes
    ----------
    shapes : those of inputs that it is compiled for.
    """

    def __init__(self, cell: nn.Cell):
        # a method of one object is compiled for that object alone; a decorated class would go by addresses
        self.cell, self.call = cell, ms.jit(cell.construct)
        self.shapes: set[tuple] = set()
        self._phases: set[str] = set()  # MindSpore's names of what it compiled

    def __call__(self, *inputs):
        return self.call(*inputs)

    def keep(self, shapes: tuple) -> None:
        """Remember what has just been compiled."""
        self.shapes.add(shapes)
        self._phases.update(self.cell.phase_cache.values())

    def release(self) -> None:
        """Let MindSpore free what it has compiled, which it would keep for as long as the process lives."""
        executors = api._cell_graph_executor, api.JitExecutor_.get_instance()  # each frees a part
        for executor in executors:
            executor.del_net_res(None, self._phases)
        executors[1].set_weights_values({})  # it holds the parameters of the last cell that was compiled
        api.ms_compile_cache.difference_update(self._phases)


def on_host(x: Tensor) -> np.ndarray:
    """The values of a tensor, when they are computed."""
    with steady():
        return x.asnumpy()


class Generator(Tokens):
    """Generation with one model.

    Parameters
    ----------
    model : with its weights; put into evaluation mode here.
    eos_ids : tokens that end an answer; by default the model's own end tokens.
    waiting : called before a graph is compiled with "graph", its number, and how many the present batch needs
        with those before; other recordings may need more. After it with "".
    cache_bytes : budget of all KV caches, see `pool`.

    Attributes
    ----------
    parts : the system's `Generation` for this model.
    compiles : number of graphs compiled so far: one for each graph and static shape.
    pool : KV caches and their graphs, kept for the next request of a shape.
    """

    def __init__(
        self, model, eos_ids: Sequence[int] | None = None, waiting=None, cache_bytes: int | None = None
    ):
        model.set_train(False)
        self.model, self.cfg = model, model.cfg
        self.parts = system_of(self.cfg.model_type).generation(model)
        self.eos_ids = frozenset(self.parts.eos_ids if eos_ids is None else eos_ids)
        self.compiles, self.compile_seconds, self.waiting, self._needed = 0, 0.0, waiting, 0
        self._log_p, self._best = Graph(LogProbability()), {}  # count -> graph
        self.logits = Logits(self.parts.embed, self.parts.decoder)
        self._cells: dict[nn.Cell, Graph] = {}
        self.pool = Pool(cache_bytes)

    def stream(
        self, prompts: Sequence, sampling: Sampling | None = None, rows: int = 1
    ) -> Iterator[np.ndarray]:
        sampling = self.parts.settings(sampling or Sampling())
        limits = self.limits(prompts, sampling)
        length = bucket(max(map(len, prompts)), SMALLEST_LENGTH)
        slots = min(length + sampling.max_new_tokens, max(length, self.parts.positions))
        size = batch_bucket(max(len(prompts), rows)), bucket(slots, SMALLEST_LENGTH)
        nbytes = DecodeState.bytes_for(self.parts.decoder, *size, self.parts.states(size[0]))
        with steady():
            state = self.pool.borrow(size, nbytes, lambda: self._state(*size, nbytes))
        try:
            yield from self._steps(state.graphs, prompts, length, limits, sampling)
        finally:
            self.pool.give_back(state)

    def _steps(
        self, graphs, prompts, length: int, limits: Limits, sampling: Sampling
    ) -> Iterator[np.ndarray]:
        prefill, step, batch = graphs
        penalty_B = Tensor(np.full(batch, sampling.repetition_penalty, np.float32))
        streams = [np.random.default_rng(sampling.seed) for _ in prompts]
        inputs = self._inputs(prompts, batch, length, sampling.repetition_penalty)
        rules = self.parts.rules
        held = [] if rules is None else [Tensor(np.zeros((batch, rules.width), np.int32))]
        known = _shapes(inputs) in prefill.shapes, _shapes([penalty_B] * 3 + held) in step.shapes
        self._needed = self.compiles + known.count(False)
        token_B, position_B, scores_BV, *held = self._run(prefill, *inputs)
        self.log_p_N, self.facts_N = None, []
        if rules is not None:
            *held, facts_FB = held
            values = on_host(facts_FB)[:, : len(prompts)].T.tolist()
            self.facts_N = [self.parts.facts(one) for one in values]
        if any(prompt.first or prompt.denied for prompt in prompts):
            scores_BV = Tensor(restricted(on_host(scores_BV), prompts))
            token_B = Tensor(on_host(scores_BV).argmax(-1).astype(np.int32))
        while True:
            if sampling.greedy:
                tokens_N = on_host(token_B)[: len(prompts)].copy()
            else:
                tokens_N = self._drawn(scores_BV, sampling, streams, limits)
                token_B = Tensor(np.pad(np.maximum(tokens_N, 0), (0, batch - len(prompts))))
            if sampling.confidence or self.parts.log_probabilities:
                self.log_p_N = on_host(self._run(self._log_p, scores_BV, token_B)[0])
            tokens_N[limits.ended_N] = ENDED
            yield tokens_N
            if limits.take(tokens_N):
                return
            token_B, position_B, scores_BV, *held = self._run(step, token_B, position_B, penalty_B, *held)

    def _drawn(self, scores_BV, sampling: Sampling, streams: Sequence, limits: Limits) -> np.ndarray:
        """As tokens.drawn; scores leave the device only where the best of them do not suffice."""
        pieces = self.pieces or scores_BV.shape[1]
        count = BEST[0] if 0 < sampling.top_k <= BEST[0] else BEST[1]
        if sampling.top_k > count or pieces < 4 * count:
            return drawn(on_host(scores_BV)[:, :pieces], sampling, streams, limits)
        if count not in self._best:
            self._best[count] = Graph(Best(count, pieces))
        temperature_1 = Tensor(np.array([sampling.temperature], np.float32))
        best = self._run(self._best[count], scores_BV, temperature_1)
        best_BK, ids_BK, total_B = map(on_host, best)
        tokens_N = np.full(len(streams), ENDED, np.int32)
        for n in np.flatnonzero(~limits.ended_N):
            uniform = streams[n].random()
            token = draw_of_best(best_BK[n], ids_BK[n], total_B[n], sampling, uniform)
            if token is None:
                token = draw(on_host(scores_BV[int(n)])[:pieces], sampling, uniform)
            tokens_N[n] = token
        return tokens_N

    def room(self, prompt) -> int:
        """The positions left for an answer to `prompt`; UserError if there are none."""
        length, positions = len(prompt), self.parts.positions
        if length >= positions:
            raise UserError(
                f"{prompt}: the model has {positions}, which leaves none for the answer; shorten the "
                "recording, the request, or what was said before it"
            )
        return positions - length

    def _inputs(self, prompts, batch: int, length: int, penalty: float = 1.0) -> list[Tensor | None]:
        """The prefill's inputs; rows beyond the prompts have one token, and their results are ignored."""
        length_B = np.array([*map(len, prompts), *[1] * (batch - len(prompts))], np.int32)
        width = bucket(max(len(p.opening) for p in prompts), SMALLEST_OPENING)
        opening_BP, penalty_BP = np.zeros((batch, width), np.int32), np.ones((batch, width), np.float32)
        for row, prompt in enumerate(prompts):
            if prompt.opening:  # the rest of the row repeats its last token, which changes nothing
                opening_BP[row] = np.pad(prompt.opening, (0, width - len(prompt.opening)), mode="edge")
                penalty_BP[row] = penalty
        inputs = [length_B, opening_BP, penalty_BP, *self.parts.inputs(prompts, batch, length).values()]
        return [None if x is None else Tensor(x) for x in inputs]

    def _graphs(self, batch: int, slots: int):
        state = DecodeState(self.parts.decoder, batch, slots, self.parts.states(batch))
        prefill, step = Prefill(self.parts, state), Step(self.parts, state)
        return Graph(prefill), Graph(step), batch

    def _state(self, batch: int, slots: int, nbytes: int) -> State:
        prefill, step, _ = graphs = self._graphs(batch, slots)

        def release():
            for graph in (prefill, step):
                graph.release()
            step.cell.state.free()

        return State((batch, slots), graphs, release, nbytes)

    def compute(self, cell: nn.Cell, inputs: Sequence[np.ndarray | None]):
        """The outputs of `logits`, or of a cell of `parts`, for arrays; each static shape compiles once."""
        graph = self._cells.setdefault(cell, Graph(cell))
        return self._run(graph, *(None if x is None else Tensor(x) for x in inputs))

    def _run(self, graph: Graph, *inputs):
        shapes = _shapes(inputs)
        if shapes not in graph.shapes:
            start, number = time.perf_counter(), self.compiles + 1
            if self.waiting:
                self.waiting("graph", number, max(number, self._needed))
            about = {"config": self.cfg.to_dict(), "inputs": shapes}
            about["sizes"] = getattr(graph.cell, "sizes", None)
            with steady(), graph_cache.kept(graph.cell, about):
                graph(*inputs)[0].asnumpy()  # repeating a prefill or a step changes nothing
            self.compile_seconds += time.perf_counter() - start
            self.compiles += 1
            graph.keep(shapes)
            if self.waiting:
                self.waiting("", 0, 0)
        with steady():
            return graph(*inputs)


def _shapes(inputs: Sequence[Tensor | None]) -> tuple:
    """The static shapes of a graph's inputs, for which it is compiled once."""
    return tuple(None if x is None else x.shape for x in inputs)
