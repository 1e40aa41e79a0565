"""Answers from prompts: a prefill graph, a step graph, and the loop between them.

Legend: B batch, N prompts, L prompt positions, P tokens of an opening, D width, V vocabulary.

Notable choices
- Two graphs for each static shape and nothing else: prefill reads the whole prompt and scores its last
  position; a step takes the chosen tokens and scores the next ones. Greedy choices stay on the device, only
  ids leave; of draws from a large vocabulary only the best tokens (`BEST`) leave, unless others can be drawn.
- The system defines prompts and how they become embeddings (`systems.generation`); its decoder defines the
  cache.
- Prompts are padded on the right. Cache slots beyond their end hold undefined values until a step
  overwrites them, and are masked until then; so neither padding nor neighbours change an answer.
- Shapes come from buckets (models/buckets.py). A new one is compiled and run once before it is timed.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from mindspore import Tensor, nn

from mindspore_osum.errors import UserError
from mindspore_osum.inference import graph_cache
from mindspore_osum.inference.beam_search import Search
from mindspore_osum.inference.cache import DecodeState
from mindspore_osum.inference.cells import Best, Logits, LogProbability, Prefill, Step
from mindspore_osum.inference.graph import Graph, on_host, shapes_of
from mindspore_osum.inference.pool import Pool, State
from mindspore_osum.inference.sampling import Sampling, draw, draw_of_best
from mindspore_osum.inference.tokens import ENDED, Generated, Limits, Tokens, drawn, no_beams, restricted
from mindspore_osum.interrupts import steady
from mindspore_osum.models.buckets import SMALLEST_LENGTH, batch_bucket, bucket
from mindspore_osum.systems.registry import system_of

SMALLEST_OPENING = 32  # tokens; those of all published keys
# best tokens that a draw looks at first, if they are a small part of the vocabulary: with top-k, without
BEST = (64, 1024)


class Generator(Tokens):
    """Generation with one model.

    Parameters
    ----------
    model : with its weights; put into evaluation mode here.
    eos_ids : tokens that end an answer; by default the model's own end tokens.
    waiting : called before a graph is compiled with "graph", its number, and how many the present batch needs
        with those before; other recordings may need more. After it with "".
    pool_bytes : budget of all KV caches and graphs, see `pool`.

    Attributes
    ----------
    parts : the system's `Generation` for this model.
    compiles : number of graphs compiled so far: one for each graph and static shape.
    pool : KV caches and graphs, kept for the next request of a shape.
    """

    def __init__(
        self, model, eos_ids: Sequence[int] | None = None, waiting=None, pool_bytes: int | None = None
    ):
        model.set_train(False)
        self.model, self.cfg = model, model.cfg
        self.parts = system_of(self.cfg.model_type).generation(model)
        self.eos_ids = frozenset(self.parts.eos_ids if eos_ids is None else eos_ids)
        self.compiles, self.compile_seconds, self.waiting, self._needed = 0, 0.0, waiting, 0
        self._log_p, self._best = Graph(LogProbability()), {}  # count -> graph
        self.logits = Logits(self.parts.embed, self.parts.decoder)
        self.pool = Pool(pool_bytes)
        self._search = Search(self)

    def generate(self, prompts: Sequence, sampling: Sampling | None = None, rows: int = 1) -> list[Generated]:
        sampling = self._settings(sampling or Sampling())
        if sampling.beams > 1:
            return self._search.generate(prompts, sampling, rows)
        return super().generate(prompts, sampling, rows)

    def stream(
        self, prompts: Sequence, sampling: Sampling | None = None, rows: int = 1
    ) -> Iterator[np.ndarray]:
        sampling = sampling or Sampling()
        sampling = self._settings(replace(sampling, beams=sampling.beams or 1))  # beams give no single tokens
        no_beams(sampling)
        limits = self.limits(prompts, sampling)
        length = self.parts.length(max(map(len, prompts)))
        slots = min(length + sampling.max_new_tokens, max(length, self.parts.positions))
        size = batch_bucket(max(len(prompts), rows)), bucket(slots, SMALLEST_LENGTH)
        nbytes = DecodeState.bytes_for(self.parts.decoder, *size, self.parts.states(size[0]))
        with steady():
            state = self.pool.borrow(size, nbytes, lambda: self._state(*size, nbytes))
        try:
            yield from self._steps(state.graphs, prompts, length, limits, sampling)
        finally:
            self.pool.give_back(state)

    def _settings(self, sampling: Sampling) -> Sampling:
        sampling = self.parts.settings(sampling)
        return sampling if sampling.beams else replace(sampling, beams=1)

    def _steps(
        self, graphs, prompts, length: int, limits: Limits, sampling: Sampling
    ) -> Iterator[np.ndarray]:
        prefill, step, batch = graphs
        penalty_B = Tensor(np.full(batch, sampling.repetition_penalty, np.float32))
        streams = [np.random.default_rng(sampling.seed) for _ in prompts]
        inputs = self._inputs(prompts, batch, length, sampling.repetition_penalty)
        rules = self.parts.rules
        held = [] if rules is None else [Tensor(np.zeros((batch, rules.width), np.int32))]
        known = shapes_of(inputs) in prefill.shapes, shapes_of([penalty_B] * 3 + held) in step.shapes
        self._needed = self.compiles + known.count(False)
        token_B, position_B, scores_BV, *held = self._run(prefill, *inputs)
        self.log_p_N, self.facts_N = None, []
        if rules is not None:
            *held, facts_FB = held
            self.facts_N = self.facts(facts_FB, len(prompts))
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

    def facts(self, facts_FB: Tensor, prompts: int) -> list[dict[str, object]]:
        """What the rules say of each prompt's recording, by name."""
        return [self.parts.facts(one) for one in on_host(facts_FB)[:, :prompts].T.tolist()]

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

    def step_inputs(self, rows: int) -> list[Tensor]:
        """Inputs of a step of `rows` rows, of the right shapes and types: to look at its graph."""
        ints, rules = np.zeros(rows, np.int32), self.parts.rules
        held = [] if rules is None else [np.zeros((rows, rules.width), np.int32)]
        return [Tensor(x) for x in (ints, ints, np.ones(rows, np.float32), *held)]

    def _graphs(self, batch: int, slots: int):
        state = DecodeState(self.parts.decoder, batch, slots, self.parts.states(batch))
        prefill, step = Prefill(self.parts, state), Step(self.parts, state)
        return Graph(prefill), Graph(step), batch

    def _state(self, batch: int, slots: int, nbytes: int) -> State:
        prefill, step, _ = graphs = self._graphs(batch, slots)
        return State((batch, slots), graphs, (prefill, step), nbytes, step.cell.state.free)

    def compute(self, cell: nn.Cell, inputs: Sequence[np.ndarray | None]):
        """The output of `logits` or of another cell of the model for arrays, as an array or a list of them.

        Each static shape compiles once, unless the pool had to release it.
        """
        tensors = [None if x is None else Tensor(x) for x in inputs]
        key = cell, shapes_of(tensors)

        def make():
            graph = Graph(cell)
            return State(key, graph, [graph])

        state = self.pool.borrow(key, 0, make)
        try:
            found = self._run(state.graphs, *tensors)
            return on_host(found) if isinstance(found, Tensor) else [on_host(x) for x in found]
        finally:
            self.pool.give_back(state)

    def _run(self, graph: Graph, *inputs):
        """The outputs of a graph; a new shape of inputs is compiled."""
        shapes = shapes_of(inputs)
        if shapes not in graph.shapes:
            start, number = time.perf_counter(), self.compiles + 1
            if self.waiting:
                self.waiting("graph", number, max(number, self._needed))
            about = {"config": self.cfg.to_dict(), "inputs": shapes}
            about["sizes"] = getattr(graph.cell, "sizes", None)
            with steady(), graph_cache.kept(graph.cell, about):
                graph.compile(shapes, inputs)  # repeating a prefill or a step changes nothing
            self.compile_seconds += time.perf_counter() - start
            self.compiles += 1
            if self.waiting:
                self.waiting("", 0, 0)
        with steady():
            return graph(*inputs)
