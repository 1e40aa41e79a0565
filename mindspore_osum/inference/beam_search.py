"""Beam search, on the device: several hypotheses of each recording as rows of one batch.

Legend: B batch, N prompts, K beams, R = B*K rows, C candidates of a row, M = B rows that move at once,
V vocabulary, S cache slots.

Notable choices
- A prompt is read once; its caches are then copied to the K rows of its recording. What a decoder keeps of a
  recording itself (the frames of a Whisper) is not: the rows of a recording share it.
- Scores add up log-probabilities under the repetition penalty, as Hugging Face's `generate` does it (it
  penalises log-probabilities, not logits). A system with rules of its own normalises what they leave, as
  openai-whisper does.
- Of each row the K best tokens leave the device, and one for each end token; what happens to them is decided
  on the host (beams.py).
- Where two hypotheses go on from one, the caches of one row are copied over those of a row that has died: one
  graph moves a row of each recording, and runs as often as the recording with most moves needs. No copy is
  made of what stays.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from mindspore import Tensor, nn, ops

from mindspore_osum.errors import UserError
from mindspore_osum.inference.beams import Beams
from mindspore_osum.inference.cache import DecodeState
from mindspore_osum.inference.cells import Prefill, Step
from mindspore_osum.inference.graph import Graph, on_host
from mindspore_osum.inference.pool import State
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.inference.tokens import Generated, restricted
from mindspore_osum.interrupts import steady
from mindspore_osum.models.buckets import SMALLEST_LENGTH, batch_bucket, bucket


class Candidates(nn.Cell):
    """Scores -> the best tokens, (R, C): what they add to a score, ids, and log-probabilities.

    Parameters
    ----------
    count : C.
    pieces : only the first so many tokens are candidates.
    ruled : what counts is the log-probability among the tokens that rules have left.
    """

    def __init__(self, count: int, pieces: int, ruled: bool):
        super().__init__()
        self.count, self.pieces, self.ruled, self.top = count, pieces, ruled, ops.TopK(sorted=True)
        self.sizes = [count, pieces, ruled]  # that neither inputs nor parameters tell

    def construct(self, scores_RV):
        log_RV = ops.log_softmax(scores_RV, -1)
        own_RV = log_RV if self.ruled else scores_RV
        if self.pieces < scores_RV.shape[1]:
            own_RV = own_RV[:, : self.pieces]
        best_RC, ids_RC = self.top(own_RV, self.count)
        return best_RC, ids_RC, ops.gather_elements(log_RV, 1, ids_RC)


class Spread(nn.Cell):
    """Copy what the prompts left behind to the rows of their hypotheses."""

    def __init__(self, prompts: DecodeState, state: DecodeState, caches: int):
        super().__init__(auto_prefix=False)
        self.prompts, self.state, self.caches = prompts, state, caches
        self.beams = state.batch // prompts.batch
        self.row_R = Tensor(np.arange(state.batch, dtype=np.int32) // self.beams)

    def construct(self, *held):
        """What is held of the prompts (B, ...) -> of the rows (R, ...)."""
        prompts, state = self.prompts, self.state
        for i in range(self.caches):
            ops.assign(state.keys_values[i], self.spread(prompts.keys_values[i], state.keys_values[i].shape))
        ops.assign(state.factor_BV, self.spread(prompts.factor_BV, state.factor_BV.shape))
        found = ()
        for x in held:
            found += (ops.gather(x, self.row_R, 0),)
        return found

    def spread(self, x, shape):
        """The rows of the hypotheses, in a shape whose first axis begins with the row."""
        return ops.gather(x.reshape((self.prompts.batch, -1)), self.row_R, 0).reshape(shape)


class Move(nn.Cell):
    """Copy rows of the state over others."""

    def __init__(self, state: DecodeState, caches: int):
        super().__init__(auto_prefix=False)
        self.state, self.caches, self.write = state, caches, ops.ScatterUpdate()
        self.row_R = Tensor(np.arange(state.batch, dtype=np.int32))

    def construct(self, from_M, to_M, parent_R, *held):
        """Rows to copy, some on themselves, and the parent of every row -> what is held by the parents."""
        state = self.state
        slots, rows = state.cache.rows(to_M), state.batch
        for i in range(self.caches):
            cache = state.keys_values[i]
            moved = ops.gather(cache.reshape((rows, -1)), from_M, 0)
            self.write(cache, slots, moved.reshape(slots.shape + cache.shape[1:]))
        factor_RV = ops.gather(state.factor_BV.reshape((rows, -1)), parent_R, 0)
        ops.assign(state.factor_BV, factor_RV.reshape((-1,)))
        found = ()
        for x in held:
            found += (ops.gather(x, parent_R, 0),)
        return found


class Graphs(NamedTuple):
    """What a search runs, in its order, for a batch of so many rows of prompts."""

    prefill: Graph
    spread: Graph
    step: Graph
    move: Graph
    batch: int


def make_graphs(parts, batch: int, slots: int, beams: int) -> Graphs:
    """The graphs of a shape, with their states.

    Parameters
    ----------
    parts : the system's `Generation`.
    """
    decoder, caches = parts.decoder, 2 * parts.decoder.n_layers
    prompts = DecodeState(decoder, batch, slots, parts.states(batch))
    shared = list(prompts.keys_values)[caches:]
    state = DecodeState(decoder, batch * beams, slots, shared=shared, prefix="beam_")
    cells = (
        Prefill(parts, prompts, log=True),
        Spread(prompts, state, caches),
        Step(parts, state, log=True),
        Move(state, caches),
    )
    return Graphs(*map(Graph, cells), batch)


class Search:
    """Beam searches with one `Generator`."""

    def __init__(self, generator):
        self.generator, self.parts = generator, generator.parts
        self._candidates: dict[tuple, Graph] = {}

    def generate(self, prompts: Sequence, sampling: Sampling, rows: int) -> list[Generated]:
        """As `Tokens.generate`; `sampling` has beams."""
        generator, beams = self.generator, sampling.beams
        limits_N = generator.limits(prompts, sampling).limits_N.tolist()
        length = self.parts.length(max(map(len, prompts)))
        slots = min(length + sampling.max_new_tokens, max(length, self.parts.positions))
        key = batch_bucket(max(len(prompts), rows)), bucket(slots, SMALLEST_LENGTH), beams
        nbytes = self._bytes(*key)
        with steady():
            state = generator.pool.borrow(key, nbytes, lambda: self._state(*key, nbytes))
        try:
            searches = [Beams(self.parts.beams, n, generator.eos_ids, sampling) for n in limits_N]
            facts = self._run(state.graphs, prompts, length, searches, sampling)
        finally:
            generator.pool.give_back(state)
        found = [one.generated(sampling.confidence, self.parts.log_probabilities) for one in searches]
        for one, about in zip(found, facts or [{}] * len(found), strict=True):
            one.facts = about
            one.find_loop(sampling)
        return found

    def _bytes(self, batch: int, slots: int, beams: int) -> int:
        decoder = self.parts.decoder
        of_prompts = DecodeState.bytes_for(decoder, batch, slots, self.parts.states(batch))
        return of_prompts + DecodeState.bytes_for(decoder, batch * beams, slots)

    def _state(self, batch: int, slots: int, beams: int, nbytes: int) -> State:
        graphs = make_graphs(self.parts, batch, slots, beams)

        def free():
            graphs.step.cell.state.free()
            graphs.prefill.cell.state.free()

        return State((batch, slots, beams), graphs, graphs[:-1], nbytes, free)

    def _run(
        self, graphs: Graphs, prompts, length: int, searches: Sequence[Beams], sampling: Sampling
    ) -> list[dict[str, object]]:
        """Search until all is over; the facts of each prompt, if there are any."""
        run, batch, beams = self.generator._run, graphs.batch, sampling.beams
        inputs = self.generator._inputs(prompts, batch, length, sampling.repetition_penalty)
        _, position_B, scores_BV, *held = run(graphs.prefill, *inputs)
        facts = []
        if self.parts.rules is not None:
            *held, facts_FB = held
            facts = self.generator.facts(facts_FB, len(prompts))
        if any(prompt.first or prompt.denied for prompt in prompts):
            scores_BV = Tensor(restricted(on_host(scores_BV), prompts))
        self._take(scores_BV, searches)
        position_R, *held = run(graphs.spread, position_B, *held)
        penalty_R = Tensor(np.full(batch * beams, sampling.repetition_penalty, np.float32))
        while not all(one.over for one in searches):
            token_R = Tensor(_tokens(searches, batch * beams))
            _, position_R, scores_RV, *held = run(graphs.step, token_R, position_R, penalty_R, *held)
            parents = self._take(scores_RV, searches)
            for from_M, to_M, parent_R in _moves(parents, batch, beams):
                arrays = (from_M, to_M, parent_R)
                position_R, *held = run(graphs.move, *map(Tensor, arrays), position_R, *held)
        return facts

    def _take(self, scores: Tensor, searches: Sequence[Beams]) -> list[list[int]]:
        """Give each search its candidates; the parents of its rows."""
        arrays = [on_host(x) for x in self.generator._run(self._graph(scores, searches[0]), scores)]
        parents = []
        for n, one in enumerate(searches):
            own = slice(n * len(one.rows), (n + 1) * len(one.rows))
            unmoved = list(range(one.beams))
            parents.append(unmoved if one.over else one.take(*(x[own] for x in arrays)))
        return parents

    def _graph(self, scores: Tensor, search: Beams) -> Graph:
        vocabulary = scores.shape[1]
        pieces, count = self.generator.pieces or vocabulary, search.candidates
        if count > pieces:
            raise UserError(f"beams {search.beams}: too many for a vocabulary of {pieces} tokens")
        key = count, min(pieces, vocabulary), self.parts.rules is not None
        if key not in self._candidates:
            self._candidates[key] = Graph(Candidates(*key))
        return self._candidates[key]


def _tokens(searches: Sequence[Beams], rows: int) -> np.ndarray:
    """The last token of each row, int32; 0 for the rows of padding."""
    tokens = [one.tokens[-1] for search in searches for one in search.rows]
    return np.array(tokens + [0] * (rows - len(tokens)), np.int32)


def _moves(
    parents: Sequence[Sequence[int]], batch: int, beams: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What the graph `Move` is given, as often as it has to run: int32 arrays."""
    moves = [[(p, row) for row, p in enumerate(own) if p != row] for own in parents]
    for turn in range(max(map(len, moves))):
        pairs = [own[turn] if turn < len(own) else (0, 0) for own in moves]
        pairs = np.array(pairs + [(0, 0)] * (batch - len(pairs)), np.int32)
        pairs += np.arange(batch, dtype=np.int32)[:, None] * beams
        parent_R = np.arange(batch * beams, dtype=np.int32)
        parent_R[pairs[:, 1]] = pairs[:, 0]
        yield np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1]), parent_R
