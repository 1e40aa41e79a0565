"""A model of encoder, adapter and decoder, exported: three graphs, pure functions with the KV cache as inputs
and outputs.

    speech   (mel_BTF, mel_len_B)                               -> z_BZD
    prefill  (token_ids_BL, speech_row_BL, z_BZD, length_B)     -> scores_BV, keys_NBKSE, values_NBKSE
    decode   (token_B, position_B, keys_NBKSE, values_NBKSE)    -> scores_BV, keys_NBKSE, values_NBKSE

Legend: B batch, T mel frames, F mel bins, Z speech tokens, L prompt positions, S cache slots, D width,
V vocabulary, N layers, K key heads, E head size; in comparisons S steps.

Notable choices
- The model is built from models/ops/carried.py: elementary operators only, which every converter supports and
  can fuse for its device. Nothing is written in place, unlike in inference/generate.py.
- The graphs return scores; the caller applies the repetition penalty and chooses the token.
"""

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindspore_osum.errors import UserError
from mindspore_osum.models.exported import STEPS, Sizes, check_counts, difference, mels
from mindspore_osum.systems.prompt import Prompt
from mindspore_osum.systems.speech_config import SpeechConfig
from mindspore_osum.systems.speech_network import SpeechModel
from mindspore_osum.text.sequence import stack_sequences
from mindspore_osum.text.template import AUDIO, Turn


class _Graph(nn.Cell):
    """A part of the model; parameters keep their names."""

    def __init__(self, model: SpeechModel):
        super().__init__(auto_prefix=False)
        self.model = model


class Speech(_Graph):
    """Encoder and adapter."""

    def construct(self, mel_BTF, mel_len_B):
        return self.model.encode_speech(mel_BTF, mel_len_B)[0]


class Prefill(_Graph):
    """Prefill: from prompts to the scores of the first new token."""

    def __init__(self, model: SpeechModel, sizes: Sizes):
        super().__init__(model)
        self.position_1L = Tensor(np.arange(sizes.prompt, dtype=np.int32)[None])
        self.first_B = Tensor(np.arange(sizes.batch, dtype=np.int32) * sizes.prompt)
        self.shape = model.decoder.new_cache(sizes.batch, sizes.places).shape

    def construct(self, token_ids_BL, speech_row_BL, z_BZD, length_B):
        decoder, (batch, length) = self.model.decoder, token_ids_BL.shape
        x_BLD = self.model.embed(token_ids_BL, speech_row_BL, z_BZD)
        position_BL = self.position_1L.broadcast_to((batch, length))
        # padding follows the prompt, so the causal mask hides it
        caches = (ops.zeros(self.shape, decoder.dtype),) * (2 * decoder.n_layers)
        h_BLD, caches = decoder.cached(x_BLD, position_BL, None, caches, None)
        last_BD = ops.gather(h_BLD.reshape((batch * length, -1)), self.first_B + length_B - 1, 0)
        return decoder.logits(last_BD), ops.stack(caches[0::2]), ops.stack(caches[1::2])


class Decode(_Graph):
    """Decode: from the tokens chosen last and their positions to the scores of the next ones."""

    def __init__(self, model: SpeechModel, sizes: Sizes):
        super().__init__(model)
        self.cache = model.decoder.new_cache(sizes.batch, sizes.places)

    def construct(self, token_B, position_B, keys_NBKSE, values_NBKSE):
        decoder, position_B1 = self.model.decoder, position_B.expand_dims(1)
        caches = ()
        for n in range(decoder.n_layers):
            caches += (keys_NBKSE[n], values_NBKSE[n])
        x_B1D, seen = decoder.embed(token_B.expand_dims(1)), self.cache.seen(position_B)
        h_B1D, caches = decoder.cached(x_B1D, position_B1, seen, caches, self.cache.slots(position_B1))
        return decoder.logits(h_B1D.squeeze(1)), ops.stack(caches[0::2]), ops.stack(caches[1::2])


class SpeechExport:
    """What `osum export` needs of a system with such models.

    Attributes
    ----------
    GRAPHS : names of the graphs. Sizes : class of their static shapes.
    """

    GRAPHS, Sizes = ("speech", "prefill", "decode"), Sizes

    def sizes_for(
        self,
        cfg: SpeechConfig,
        tokenizer,
        template,
        seconds: float,
        request_tokens: int,
        new_tokens: int,
        batch: int,
    ) -> Sizes:
        """The shapes for recordings, requests and answers of these maximum lengths (seconds, tokens).

        Raises
        ------
        UserError : an invalid size, or more positions than the model has.
        """
        hears = cfg.features
        check_counts(hears.seconds(cfg.most_frames), seconds, request_tokens, new_tokens, batch)
        speech = cfg.tokens(hears.frames_in(max(seconds, hears.pad_to_seconds)))
        frames = min(speech * cfg.frames_per_token, cfg.most_frames)
        prompt = self.around(cfg, tokenizer, template, request_tokens) + speech
        sizes, positions = Sizes(batch, frames, prompt, prompt + new_tokens), cfg.decoder.max_positions
        if sizes.places > positions:
            raise UserError(
                f"{sizes.places} positions ({prompt} of the prompt, {new_tokens} of the answer): the model "
                f"has {positions}; lower --seconds, --request-tokens or --max-new-tokens"
            )
        return sizes

    def around(self, cfg: SpeechConfig, tokenizer, template, request_tokens: int) -> int:
        """Positions of the longest prompt, without those of its recording."""
        forms = [form for form in template.forms if AUDIO in template.needs(form)]
        words = {form: dict.fromkeys(template.needs(form) - {AUDIO}, "") for form in forms}
        turns = [Turn(form, words[form], speech=1) for form in forms]
        return max(len(template.sequence(tokenizer, turn)) for turn in turns) - 1 + request_tokens

    def graphs_of(self, model: SpeechModel, sizes: Sizes) -> dict[str, tuple[nn.Cell, tuple[Tensor, ...]]]:
        """Name -> the graph, and example inputs of its shapes and types.

        Parameters
        ----------
        model : built under `models.ops.use("carried")`.
        """
        cfg, b = model.cfg, sizes.batch
        dec, dtype = cfg.decoder, getattr(ms, cfg.dtype)

        def ints(*shape: int) -> Tensor:
            return Tensor(np.ones(shape, np.int32))

        mel_BTF = Tensor(np.zeros((b, sizes.frames, cfg.features.n_mels), np.float32))

        def zeros(*shape: int) -> Tensor:
            return Tensor(np.zeros(shape, np.float32), dtype)

        z_BZD = zeros(b, cfg.tokens(sizes.frames), dec.d_model)
        shape = model.decoder.new_cache(b, sizes.places).shape
        cache = zeros(dec.n_layers, *shape)
        prompt = (ints(b, sizes.prompt), ints(b, sizes.prompt), z_BZD, ints(b))
        return {
            "speech": (Speech(model), (mel_BTF, ints(b))),
            "prefill": (Prefill(model, sizes), prompt),
            "decode": (Decode(model, sizes), (ints(b), ints(b), cache, cache)),
        }

    def compare(self, model: SpeechModel, sizes: Sizes, graphs: dict) -> dict[str, float]:
        """Graph -> largest difference from the model over the largest value, on random odd-length input.

        The reference is not the exported code but the model's forward pass over the full sequence without a
        cache, so that the comparison covers prefill, decode and the cache between them.
        """
        steps, rng = min(STEPS, sizes.new_tokens), np.random.default_rng(0)
        length_B = np.array([sizes.prompt - b % 3 for b in range(sizes.batch)], np.int32)
        mel_BTF = rng.standard_normal((sizes.batch, sizes.frames, model.cfg.features.n_mels), np.float32)
        mel_len_B = np.array([max(1, sizes.frames - 3 - 5 * b) for b in range(sizes.batch)], np.int32)
        token_ids_BL, speech_row_BL = _random_sequences(model, sizes, sizes.prompt + steps, rng)
        mel_BTF, mel_len_B = Tensor(mel_BTF), Tensor(mel_len_B)
        expected_SBV = _whole_pass(model, mel_BTF, mel_len_B, token_ids_BL, speech_row_BL, length_B, steps)

        z_BZD = graphs["speech"](mel_BTF, mel_len_B)
        compared = {"speech": difference(z_BZD, model.encode_speech(mel_BTF, mel_len_B)[0])}
        inside_BL = np.arange(sizes.prompt) < length_B[:, None]
        prompt_BL = np.where(inside_BL, token_ids_BL[:, : sizes.prompt], 0)
        row_BL = speech_row_BL[:, : sizes.prompt].copy()
        scores, *cache = graphs["prefill"](Tensor(prompt_BL), Tensor(row_BL), z_BZD, Tensor(length_B))
        compared |= {"prefill": difference(scores, expected_SBV[0]), "decode": 0.0}
        for n in range(steps):
            place_B = length_B + np.int32(n)
            token_B = np.take_along_axis(token_ids_BL, place_B[:, None], 1)[:, 0]
            scores, *cache = graphs["decode"](Tensor(token_B), Tensor(place_B), *cache)
            compared["decode"] = max(compared["decode"], difference(scores, expected_SBV[n + 1]))
        return compared

    def settings(self, cfg: SpeechConfig, sampling):
        """The settings of generation as the model needs them."""
        return sampling

    def prefill(self, run, cfg: SpeechConfig, sizes: Sizes, prompts: Sequence[Prompt], length_B) -> tuple:
        """Scores after a whole batch of prompts, what steps read and return, what they read, and no facts.

        Parameters
        ----------
        run : (name, *inputs) -> outputs of that graph.
        length_B : positions of the prompts.
        """
        mel_BTF, mel_len_B = mels(cfg, sizes, prompts)
        z_BZD = run("speech", mel_BTF, mel_len_B)
        sequences = [prompt.sequence for prompt in prompts]
        columns = stack_sequences(sequences, sizes.prompt, cfg.tokens(sizes.frames), sizes.batch)
        tokens = Tensor(columns["token_ids_BL"]), Tensor(columns["speech_row_BL"])
        scores, *cache = run("prefill", *tokens, z_BZD, Tensor(length_B))
        return scores, cache, (), []

    def eos_ids(self, cfg: SpeechConfig) -> tuple[int, ...]:
        """The tokens that end an answer."""
        return (cfg.decoder.eos_id,)


def _random_sequences(model: SpeechModel, sizes: Sizes, length: int, rng):
    """token_ids_BL and speech_row_BL: random words; all speech tokens of the row's slot follow the first."""
    token_ids_BL = rng.integers(1, model.cfg.decoder.vocab_size, (sizes.batch, length)).astype(np.int32)
    speech_row_BL, z = np.full((sizes.batch, length), -1, np.int32), model.cfg.tokens(sizes.frames)
    speech_row_BL[:, 1], speech_row_BL[:, 2 + z] = 0, 1
    speech_row_BL[:, 2 : 2 + z] = 2 + np.arange(sizes.batch * z).reshape(sizes.batch, z)
    return token_ids_BL, speech_row_BL


def _whole_pass(model, mel_BTF, mel_len_B, token_ids_BL, speech_row_BL, length_B, steps: int) -> Tensor:
    """The model's scores after the prompts and each of `steps` more words, (1 + steps, B, V)."""
    batch, length = token_ids_BL.shape
    position_BL = np.broadcast_to(np.arange(length, dtype=np.int32), (batch, length)).copy()
    inputs = (token_ids_BL, speech_row_BL, position_BL, np.ones_like(position_BL))
    h_BLD = model.hidden_states(mel_BTF, mel_len_B, *map(Tensor, inputs))
    rows_B = np.arange(batch) * length + length_B - 1
    h_BLD = h_BLD.reshape((batch * length, -1))
    rows_SB = np.arange(1 + steps)[:, None] + rows_B
    return model.decoder.logits(h_BLD[Tensor(rows_SB.astype(np.int32))])
