"""Whisper as an exported model: three graphs, pure functions with the KV cache as inputs and outputs.

    speech   (mel_BTF, mel_len_B)
                                                    -> frame_keys_NBHUE, frame_values_NBHUE, frames_B
    prefill  (token_ids_BL, about_BR, frame_keys, frame_values, frames_B, length_B)
                                                    -> scores_BV, keys_NBHSE, values_NBHSE, held_BR, facts_FB
    decode   (token_B, position_B, keys, values, held_BR, frame_keys, frame_values, frames_B)
                                                    -> scores_BV, keys, values, held_BR

Legend: B batch, T mel frames, U encoder frames, L prompt positions, S cache slots, V vocabulary, N layers,
H heads, E head size, R values that the rules remember, F facts about a recording; in comparisons P steps.

Notable choices
- As of systems/speech_export.py: elementary operators, nothing in place, the caller chooses the token.
- Language detection and the rules of what may follow (generation.py `Rules`) are in the graphs; `about` is
  what they take beside a prompt: whether it has timestamps, the slot of <|startoftranscript|>, the language.
"""

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindspore_osum.errors import UserError
from mindspore_osum.models.exported import STEPS, Sizes, check_counts, difference, mels
from mindspore_osum.systems.prompt import Prompt
from mindspore_osum.systems.whisper_asr.config import WhisperConfig
from mindspore_osum.systems.whisper_asr.generation import Embed, Rules, WhisperInputs
from mindspore_osum.systems.whisper_asr.network import WhisperModel

GRAPHS = ("speech", "prefill", "decode")
FIXED = 5  # tokens of a prompt beside those of a request: of the text before, of the transcript


def sizes_for(
    cfg: WhisperConfig, tokenizer, template, seconds: float, request_tokens: int, new_tokens: int, batch: int
) -> Sizes:
    """The shapes for recordings, texts before them and answers of these maximum lengths (seconds, tokens).

    Recordings are padded to the model's window, whatever their length.

    Raises
    ------
    UserError : an invalid size, or more positions than the model has.
    """
    check_counts(cfg.features.seconds(cfg.most_frames), seconds, request_tokens, new_tokens, batch)
    positions, prompt = cfg.decoder.max_positions, FIXED + request_tokens
    new_tokens = min(new_tokens, positions // 2)
    if prompt + new_tokens > positions:
        raise UserError(
            f"{prompt + new_tokens} positions ({prompt} of the prompt, {new_tokens} of the answer): the "
            f"model has {positions}; lower --request-tokens or --max-new-tokens"
        )
    return Sizes(batch, cfg.most_frames, prompt, prompt + new_tokens)


class Speech(nn.Cell):
    """Encoder, and keys and values of its frames for each layer."""

    def __init__(self, model: WhisperModel):
        super().__init__(auto_prefix=False)
        self.encoder, self.decoder = model.encoder, model.decoder

    def construct(self, mel_BTF, mel_len_B):
        frames_BUD, frames_B = self.encoder(mel_BTF, mel_len_B)
        kept = self.decoder.memory(frames_BUD)
        return ops.stack(kept[0::2]), ops.stack(kept[1::2]), frames_B


class Prefill(nn.Cell):
    """From prompts to the scores of the first new token."""

    def __init__(self, model: WhisperModel, sizes: Sizes):
        super().__init__(auto_prefix=False)
        self.embed, self.decoder, self.rules = Embed(model), model.decoder, Rules(model.decoder, model.cfg)
        self.position_1L = Tensor(np.arange(sizes.prompt, dtype=np.int32)[None])
        self.first_B = Tensor(np.arange(sizes.batch, dtype=np.int32) * sizes.prompt)
        self.shape = model.decoder.new_cache(sizes.batch, sizes.places).shape

    def construct(self, token_ids_BL, about_BR, frame_keys, frame_values, frames_B, length_B):
        decoder, (batch, length) = self.decoder, token_ids_BL.shape
        kept = _layers_of(frame_keys, frame_values, decoder.n_layers)
        read = self.embed.prompted(kept, frames_B, token_ids_BL, about_BR)
        position_BL = self.position_1L.broadcast_to((batch, length))
        caches = (ops.zeros(self.shape, decoder.dtype),) * (2 * decoder.n_layers)
        mask = decoder.attention_mask(None, length)  # padding follows the prompt
        h_BLD, caches = decoder.layers(read[0], position_BL, mask, kept, frames_B, caches, None)
        last_BD = ops.gather(h_BLD.reshape((batch * length, -1)), self.first_B + length_B - 1, 0)
        scores_BV, held_BR, facts_FB = self.rules.begin(decoder.logits(last_BD), h_BLD, read)
        return scores_BV, ops.stack(caches[0::2]), ops.stack(caches[1::2]), held_BR, facts_FB


class Decode(nn.Cell):
    """From the tokens chosen last and their positions to the scores of the next ones."""

    def __init__(self, model: WhisperModel, sizes: Sizes):
        super().__init__(auto_prefix=False)
        self.decoder, self.rules = model.decoder, Rules(model.decoder, model.cfg)
        self.cache = model.decoder.new_cache(sizes.batch, sizes.places)

    def construct(self, token_B, position_B, keys, values, held_BR, frame_keys, frame_values, frames_B):
        decoder, position_B1 = self.decoder, position_B.expand_dims(1)
        caches = _layers_of(keys, values, decoder.n_layers)
        kept = _layers_of(frame_keys, frame_values, decoder.n_layers)
        x_B1D, seen = decoder.embed(token_B.expand_dims(1)), self.cache.seen(position_B)
        slots = self.cache.slots(position_B1)
        h_B1D, caches = decoder.layers(x_B1D, position_B1, seen, kept, frames_B, caches, slots)
        scores_BV, held_BR = self.rules(decoder.logits(h_B1D.squeeze(1)), token_B, held_BR)
        return scores_BV, ops.stack(caches[0::2]), ops.stack(caches[1::2]), held_BR


def _layers_of(keys, values, count: int):
    """(k_0, v_0, k_1, v_1, ...) of stacked layers."""
    found = ()
    for n in range(count):
        found += (keys[n], values[n])
    return found


def graphs_of(model: WhisperModel, sizes: Sizes) -> dict[str, tuple[nn.Cell, tuple[Tensor, ...]]]:
    """As systems/speech_export.py `graphs_of`."""
    cfg, b = model.cfg, sizes.batch
    layers, heads, e = cfg.decoder.n_layers, cfg.decoder.n_heads, cfg.decoder.d_model // cfg.decoder.n_heads

    def ints(*shape: int) -> Tensor:
        return Tensor(np.ones(shape, np.int32))

    def stacked(positions: int) -> Tensor:
        return Tensor(np.zeros((layers, b, heads, positions, e), np.float32), getattr(ms, cfg.dtype))

    mel_BTF = Tensor(np.zeros((b, sizes.frames, cfg.features.n_mels), np.float32))
    kept, cache = (stacked(cfg.positions),) * 2, (stacked(sizes.places),) * 2
    return {
        "speech": (Speech(model), (mel_BTF, ints(b))),
        "prefill": (Prefill(model, sizes), (ints(b, sizes.prompt), ints(b, 3), *kept, ints(b), ints(b))),
        "decode": (Decode(model, sizes), (ints(b), ints(b), *cache, ints(b, Rules.width), *kept, ints(b))),
    }


def compare(model: WhisperModel, sizes: Sizes, graphs: dict) -> dict[str, float]:
    """As systems/speech_export.py `compare`; of scores those that the rules leave."""
    cfg, rng, steps = model.cfg, np.random.default_rng(0), min(STEPS, sizes.new_tokens)
    b, words = sizes.batch, cfg.vocabulary
    length_B = np.array([sizes.prompt - n % 3 for n in range(b)], np.int32)
    mel_BTF = Tensor(rng.standard_normal((b, sizes.frames, cfg.features.n_mels), np.float32))
    mel_len_B = Tensor(np.array([max(1, sizes.frames - 3 - 5 * n) for n in range(b)], np.int32))
    token_ids_BL = rng.integers(1, words.eot, (b, sizes.prompt + steps)).astype(np.int32)
    about_BR = np.tile(np.array([0, 0, words.first_language], np.int32), (b, 1))
    place_BL = np.tile(np.arange(sizes.prompt + steps, dtype=np.int32), (b, 1))
    scores_BLV = model(mel_BTF, mel_len_B, Tensor(token_ids_BL), Tensor(place_BL))

    def expected(step: int) -> Tensor:
        rows_B = np.arange(b) * (sizes.prompt + steps) + length_B - 1 + step
        return scores_BLV.reshape((-1, scores_BLV.shape[-1]))[Tensor(rows_B.astype(np.int32))]

    kept = graphs["speech"](mel_BTF, mel_len_B)
    memory = model.decoder.memory(model.encoder(mel_BTF, mel_len_B)[0])
    pairs = zip(kept[:2], (memory[0::2], memory[1::2]), strict=True)
    compared = {"speech": max(difference(got, ops.stack(want)) for got, want in pairs)}
    prompt_BL = Tensor(token_ids_BL[:, : sizes.prompt])  # what is behind a prompt does not matter
    scores, *state, _ = graphs["prefill"](prompt_BL, Tensor(about_BR), *kept, Tensor(length_B))
    compared |= {"prefill": difference(scores, expected(0)), "decode": 0.0}
    for n in range(steps):
        place_B = length_B + np.int32(n)
        token_B = np.take_along_axis(token_ids_BL, place_B[:, None], 1)[:, 0]
        scores, *state = graphs["decode"](Tensor(token_B), Tensor(place_B), *state, *kept)
        compared["decode"] = max(compared["decode"], difference(scores, expected(n + 1)))
    return compared


def settings(cfg: WhisperConfig, sampling):
    """As systems/speech_export.py `settings`."""
    return WhisperInputs(cfg).settings(sampling)


def prefill(run, cfg: WhisperConfig, sizes: Sizes, prompts: Sequence[Prompt], length_B) -> tuple:
    """As systems/speech_export.py `prefill`; with what is known of each recording."""
    parts = WhisperInputs(cfg)
    columns = parts.inputs(prompts, sizes.batch, sizes.prompt)
    tokens = Tensor(columns["token_ids_BL"]), Tensor(columns["about_BR"])
    kept = run("speech", *mels(cfg, sizes, prompts))
    scores, *state, facts_FB = run("prefill", *tokens, *kept, Tensor(length_B))
    return scores, state, kept, [parts.facts(values) for values in facts_FB.asnumpy().T.tolist()]


def eos_ids(cfg: WhisperConfig) -> tuple[int, ...]:
    """As systems/speech_export.py `eos_ids`."""
    return (cfg.decoder.eos_id,)
