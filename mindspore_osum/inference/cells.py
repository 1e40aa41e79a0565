"""The cells of generation: what reads a prompt, what takes a step, and what looks at scores.

Legend: B batch, L prompt positions, P tokens of an opening, D width, V vocabulary, K best tokens.
"""

import mindspore as ms
from mindspore import nn, ops

from mindspore_osum.inference.cache import DecodeState
from mindspore_osum.models.ops import segment_causal_mask
from mindspore_osum.systems.generation import Generation


def penalized(scores_BV, factor_BV):
    """Scores under the repetition penalty of each token (Keskar et al. 2019)."""
    return ops.select(scores_BV < 0, scores_BV * factor_BV, scores_BV / factor_BV)


class Prefill(nn.Cell):
    """Prompts -> scores of their first new token; fills the cache.

    The opening of an answer, which a prompt may end with, is penalised as if it had been generated.

    Parameters
    ----------
    log : scores are log-probabilities before the penalty and the rules, as a beam search adds them up.
    """

    def __init__(self, parts: Generation, state: DecodeState, log: bool = False):
        super().__init__(auto_prefix=False)  # parameters keep their names
        self.log, self.sizes = (
            log,
            ["log"] if log else None,
        )  # `sizes`: what inputs and parameters do not tell
        self.embed, self.decoder, self.rules, self.state = parts.embed, parts.decoder, parts.rules, state

    def construct(self, length_B, opening_BP, penalty_BP, *inputs):
        read = self.embed(*inputs)
        batch, length = (read[0] if isinstance(read, tuple) else read).shape[:2]
        position_1L = ops.arange(0, length, dtype=ms.int32).expand_dims(0)
        position_BL = position_1L.broadcast_to((batch, length))
        slots = self.state.cache.slots(position_BL)
        # padding lies after the prompt, so the causal mask hides it
        h_BLD = self.decoder.cached(read, position_BL, None, self.state.keys_values, slots)[0]
        last_B = ops.arange(0, batch, dtype=ms.int32) * length + length_B - 1
        scores_BV = self.decoder.logits(ops.gather(h_BLD.reshape((batch * length, -1)), last_B, 0))
        if self.log:
            scores_BV = ops.log_softmax(scores_BV, -1)
        scores_BV = penalized(scores_BV, self.state.begin(opening_BP, penalty_BP))
        ruled = (scores_BV,) if self.rules is None else self.rules.begin(scores_BV, h_BLD, read)
        return (ops.cast(ops.argmax(ruled[0], -1), ms.int32), length_B) + ruled


class Step(nn.Cell):
    """The tokens chosen last -> scores of the next ones; `log` as for `Prefill`."""

    def __init__(self, parts: Generation, state: DecodeState, log: bool = False):
        super().__init__(auto_prefix=False)
        self.log, self.sizes = log, ["log"] if log else None
        self.decoder, self.rules, self.state = parts.decoder, parts.rules, state
        self.last_slot = state.slots - 1

    def construct(self, token_B, position_B, penalty_B, *held):
        decoder, state = self.decoder, self.state
        position_B1 = position_B.expand_dims(1)
        x_B1D = decoder.embed(token_B.expand_dims(1))
        seen, slots = state.cache.seen(position_B), state.cache.slots(position_B1)
        h_B1D = decoder.cached(x_B1D, position_B1, seen, state.keys_values, slots)[0]
        scores_BV = decoder.logits(h_B1D.squeeze(1))
        if self.log:
            scores_BV = ops.log_softmax(scores_BV, -1)
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
