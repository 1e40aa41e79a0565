"""The three graphs of an exported model: pure functions of their inputs, with the cache going in and out.

    speech   (mel_BTF, mel_len_B)                               -> z_BZD
    prefill  (token_ids_BL, speech_row_BL, z_BZD, length_B)     -> scores_BV, keys_NBKSE, values_NBKSE
    decode   (token_B, position_B, keys_NBKSE, values_NBKSE)    -> scores_BV, keys_NBKSE, values_NBKSE

Legend: B batch, T mel frames, F mel bins, Z speech tokens, L prompt positions, S cache places, D width,
V vocabulary, N layers, K key heads, E head size.

Notable choices
- Nothing is written in place, unlike in inference/generate.py: files share no parameters, and a runtime that
  binds the cache's outputs to its inputs saves the copy.
- Elementary operators only (models/ops/plain.py), which every converter knows and fuses as its device likes.
- The repetition penalty and the choice of the token are the caller's: the graphs give scores.
"""

from dataclasses import asdict, dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindspore_osum.errors import UserError
from mindspore_osum.inference.engine import bos_policy
from mindspore_osum.models.ops import MASKED, causal_mask
from mindspore_osum.models.whisper.network import MAX_FRAMES
from mindspore_osum.speech.audio import SAMPLE_RATE
from mindspore_osum.speech.features import HOP
from mindspore_osum.systems.osum.network import OsumModel
from mindspore_osum.text.prompts import OUTPUT_TYPES
from mindspore_osum.text.sequence import build_sequence


@dataclass(frozen=True)
class Sizes:
    """The static shapes of an export."""

    batch: int  # B, recordings at a time
    frames: int  # T
    prompt: int  # L
    places: int  # S: the prompt and the longest answer

    @property
    def speech_tokens(self) -> int:
        """Z."""
        return -(-self.frames // 8)

    @property
    def seconds(self) -> float:
        """Longest recording."""
        return self.frames * HOP / SAMPLE_RATE

    @property
    def new_tokens(self) -> int:
        """Longest answer."""
        return self.places - self.prompt

    to_dict = asdict


def sizes_for(
    cfg, tokenizer, prompts, seconds: float, request_tokens: int, new_tokens: int, batch: int
) -> Sizes:
    """The shapes that hold recordings of so many seconds, requests and answers of so many tokens.

    Raises
    ------
    UserError : an impossible size, or more than the model's positions.
    """
    longest = 2 * MAX_FRAMES * HOP / SAMPLE_RATE
    if not 1 <= seconds <= longest:  # no recording is cut into parts below a second
        raise UserError(f"--seconds {seconds:g}: recordings are 1 to {longest:g} seconds at most")
    counts = {"request-tokens": request_tokens, "max-new-tokens": new_tokens, "batch-size": batch}
    for name, value in counts.items():
        if value < 1:
            raise UserError(f"--{name} {value}: must be 1 or more")
    seconds = max(seconds, cfg.encoder.pad_to_seconds)
    frames = -(-round(seconds * SAMPLE_RATE / HOP) // 8) * 8
    bos = bos_policy(prompts)
    around = max(
        len(build_sequence(tokenizer, prompts, kind, request="" if request else None, n_speech=1, bos=bos))
        for kind, (speech, request) in OUTPUT_TYPES.items()
        if speech
    )
    prompt = around - 1 + frames // 8 + request_tokens
    sizes, positions = Sizes(batch, frames, prompt, prompt + new_tokens), cfg.decoder.max_positions
    if sizes.places > positions:
        raise UserError(
            f"{sizes.places} positions ({prompt} of the prompt, {new_tokens} of the answer): the model has "
            f"{positions}; lower --seconds, --request-tokens or --max-new-tokens"
        )
    return sizes


class _Graph(nn.Cell):
    """A part of the model; parameters keep their names."""

    def __init__(self, model: OsumModel):
        super().__init__(auto_prefix=False)
        self.model = model


class Speech(_Graph):
    """Encoder and adapter."""

    def construct(self, mel_BTF, mel_len_B):
        return self.model.encode_speech(mel_BTF, mel_len_B)[0]


class _Layers(_Graph):
    """The decoder's layers with their keys and values as results."""

    def layers(self, x_BLD, position_BL, mask, new_B1S1=None, keys_NBKSE=None, values_NBKSE=None):
        """The last norm's output; keys and values that the queries saw, of all layers."""
        inner = self.model.decoder.model
        cos, sin = inner.rotary_tables(position_BL)
        keys, values = [], []
        for n, layer in enumerate(inner.layers):
            attention = layer.self_attn
            q, k, v = attention.qkv(layer.input_layernorm(x_BLD), cos, sin)
            if new_B1S1 is not None:
                k, v = _placed(new_B1S1, k, keys_NBKSE[n]), _placed(new_B1S1, v, values_NBKSE[n])
            x_BLD = x_BLD + attention.o_proj(attention.attention.attend(q, k, v, mask))
            x_BLD = x_BLD + layer.mlp(layer.post_attention_layernorm(x_BLD))
            keys.append(k)
            values.append(v)
        return inner.norm(x_BLD), ops.stack(keys), ops.stack(values)


def _placed(new_B1S1, one_BK1E, cache_BKSE):
    """The cache with the one new place of each sequence."""
    shape = cache_BKSE.shape
    return ops.select(new_B1S1.broadcast_to(shape), one_BK1E.broadcast_to(shape), cache_BKSE)


class Prefill(_Layers):
    """Prompts to the scores of their first new token."""

    def __init__(self, model: OsumModel, sizes: Sizes):
        super().__init__(model)
        self.rest = sizes.new_tokens
        self.position_1L = Tensor(np.arange(sizes.prompt, dtype=np.int32)[None])
        self.first_B = Tensor(np.arange(sizes.batch, dtype=np.int32) * sizes.prompt)

    def construct(self, token_ids_BL, speech_row_BL, z_BZD, length_B):
        batch, length = token_ids_BL.shape
        x_BLD = self.model.embed(token_ids_BL, speech_row_BL, z_BZD)
        position_BL = self.position_1L.broadcast_to((batch, length))
        # padding lies after the prompt, so the causal mask hides it
        mask = ops.cast(causal_mask(length), ms.float32) * MASKED
        h_BLD, keys, values = self.layers(x_BLD, position_BL, mask)
        last_BD = ops.gather(h_BLD.reshape((batch * length, -1)), self.first_B + length_B - 1, 0)
        rest = ops.zeros(keys.shape[:3] + (self.rest,) + keys.shape[4:], keys.dtype)
        keys, values = ops.concat((keys, rest), 3), ops.concat((values, rest), 3)
        return self.model.decoder.logits(last_BD), keys, values


class Decode(_Layers):
    """The tokens chosen last, at these positions, to the scores of the next ones."""

    def __init__(self, model: OsumModel, sizes: Sizes):
        super().__init__(model)
        self.place_1S = Tensor(np.arange(sizes.places, dtype=np.int32)[None])

    def construct(self, token_B, position_B, keys_NBKSE, values_NBKSE):
        position_B1 = position_B.expand_dims(1)
        x_B1D = self.model.decoder.embed(token_B.expand_dims(1))
        hidden_BS = ops.cast(self.place_1S > position_B1, ms.float32)
        mask = (hidden_BS * MASKED).expand_dims(1).expand_dims(1)
        new_B1S1 = (self.place_1S == position_B1).expand_dims(1).expand_dims(-1)
        h_B1D, keys, values = self.layers(x_B1D, position_B1, mask, new_B1S1, keys_NBKSE, values_NBKSE)
        return self.model.decoder.logits(h_B1D.squeeze(1)), keys, values


def graphs_of(model: OsumModel, sizes: Sizes) -> dict[str, tuple[nn.Cell, tuple[Tensor, ...]]]:
    """Name -> the graph, and inputs of its shapes and types."""
    cfg, b, places = model.cfg, sizes.batch, sizes.places
    dec, dtype = cfg.decoder, getattr(ms, cfg.dtype)

    def ints(*shape: int) -> Tensor:
        return Tensor(np.ones(shape, np.int32))

    mel_BTF = Tensor(np.zeros((b, sizes.frames, cfg.encoder.n_mels), np.float32))
    z_BZD = ops.zeros((b, sizes.speech_tokens, dec.d_model), dtype)
    cache = ops.zeros((dec.n_layers, b, dec.n_kv_heads, places, dec.head_dim), dtype)
    prompt = (ints(b, sizes.prompt), ints(b, sizes.prompt), z_BZD, ints(b))
    return {
        "speech": (Speech(model), (mel_BTF, ints(b))),
        "prefill": (Prefill(model, sizes), prompt),
        "decode": (Decode(model, sizes), (ints(b), ints(b), cache, cache)),
    }
