"""Which tensor of another checkpoint is which of ours: each module is named once, for both directions.

Notable choices
- A row names a module on both sides; `{i}` stands for a layer number. Encoder rows carry a column for every
  form an encoder comes in, so that a correction is made in one place.
- PEFT's decoration (`base_model.model.`, `.base_layer`, `.default`) and `module.` are taken off before the
  lookup and put on after it: they are spelling, not names.
- What a form has and we do not is listed too, with the reason. A key that no row knows is the caller's error.

Sources: modules of the published OSUM code, transformers' Whisper and Llama, openai-whisper's model.py.
"""

import re
from dataclasses import dataclass, field

_WB = ("weight", "bias")
_W = ("weight",)

# ours and published                      Hugging Face Whisper               openai-whisper          params
ENCODER = (
    ("embed.conv.0", "conv1", "conv1", _WB),
    ("embed.conv.2", "conv2", "conv2", _WB),
    ("encoders.{i}.self_attn.linear_q", "layers.{i}.self_attn.q_proj", "blocks.{i}.attn.query", _WB),
    ("encoders.{i}.self_attn.linear_k", "layers.{i}.self_attn.k_proj", "blocks.{i}.attn.key", _W),
    ("encoders.{i}.self_attn.linear_v", "layers.{i}.self_attn.v_proj", "blocks.{i}.attn.value", _WB),
    ("encoders.{i}.self_attn.linear_out", "layers.{i}.self_attn.out_proj", "blocks.{i}.attn.out", _WB),
    ("encoders.{i}.feed_forward.w_1", "layers.{i}.fc1", "blocks.{i}.mlp.0", _WB),
    ("encoders.{i}.feed_forward.w_2", "layers.{i}.fc2", "blocks.{i}.mlp.2", _WB),
    ("encoders.{i}.norm1", "layers.{i}.self_attn_layer_norm", "blocks.{i}.attn_ln", _WB),
    ("encoders.{i}.norm2", "layers.{i}.final_layer_norm", "blocks.{i}.mlp_ln", _WB),
    ("after_norm", "layer_norm", "ln_post", _WB),
)

_LAYER = [
    f"encoders.{{i}}.{m}"
    for m in (
        "self_attn.linear_q",
        "self_attn.linear_k",
        "self_attn.linear_v",
        "self_attn.linear_out",
        "feed_forward.w_1",
        "feed_forward.w_2",
        "norm1",
        "norm2",
    )
]

# ours                           published                         parameters
ADAPTER = (
    ("adapter.conv.0", "down_sample_2.conv.1", _WB),
    ("adapter.conv.1", "down_sample_2.conv.4", _WB),
    ("adapter.conv.2", "down_sample_2.conv.7", _WB),
    ("adapter.transformer.embed.0", "speech_transformer.embed.out.0", _WB),
    ("adapter.transformer.embed.1", "speech_transformer.embed.out.1", _WB),
    *((f"adapter.transformer.{m}", f"speech_transformer.{m}", _WB) for m in (*_LAYER, "after_norm")),
    ("adapter.proj", "speech_llama_proj", _WB),
    ("speech_token_embed", "speech_token_emded", _W),
)

_LORA = ("lora_A.weight", "lora_B.weight")
_PEFT_PREFIX = "base_model.model."

# modules of the decoder have one name on all sides; only the prefix differs
DECODER = (
    ("model.embed_tokens", _W),
    *((f"model.layers.{{i}}.self_attn.{m}_proj", (*_WB, *_LORA)) for m in "qkvo"),
    *((f"model.layers.{{i}}.self_attn.{m}_norm", _W) for m in "qk"),
    *((f"model.layers.{{i}}.mlp.{m}_proj", (*_W, *_LORA)) for m in ("gate", "up", "down")),
    *((f"model.layers.{{i}}.{m}_layernorm", _W) for m in ("input", "post_attention")),
    ("model.norm", _W),
    ("lm_head", _W),
)


@dataclass(frozen=True)
class Other:
    """Keys of a form that have no tensor of ours.

    Attributes
    ----------
    pattern : `{i}` is a layer number, `*` anything.
    kind : "derived" (computed from the configuration, and compared with that), "copy" (of `of`, and compared
        with it), "aside" (unused by the model, kept in extras.safetensors) or "dropped".
    why : reason for the report.
    of : key of the form that a copy copies.
    """

    pattern: str
    kind: str
    why: str
    of: str = ""


_ALIAS = "alias of the decoder's"
_POSITIONS = "positions are computed, not stored"
_INV_FREQ = Other("*.rotary_emb.inv_freq", "derived", "rotary frequencies are computed from rope_theta")
_NO_TEXT_DECODER = "Whisper's text decoder has no place in this model"


@dataclass(frozen=True)
class Form:
    """One form of checkpoint: rows (ours, theirs) with `{i}`, and what else its files hold."""

    name: str
    title: str
    rows: tuple[tuple[str, str], ...]
    others: tuple[Other, ...] = ()
    strip: tuple[str, ...] = ()  # leading parts of a key that some files have and some have not
    decoder_prefix: str = ""  # of the language model's keys, without PEFT's part
    _to_ours: list = field(default_factory=list, compare=False, repr=False)
    _to_theirs: list = field(default_factory=list, compare=False, repr=False)

    def __post_init__(self):
        self._to_ours.extend((_regex(self.plain(theirs)), ours) for ours, theirs in self.rows)
        self._to_theirs.extend((_regex(ours), theirs) for ours, theirs in self.rows)

    def ours(self, key: str) -> str | None:
        """Our name of the form's `key` (plain or decorated), or None."""
        return _translate(self._to_ours, self.plain(key))

    def theirs(self, name: str, adapted: bool = False, peft: bool = False) -> str | None:
        """The form's key of our tensor `name`, or None.

        Parameters
        ----------
        adapted : the tensor's module has LoRA beside it.
        peft : the language model is wrapped by PEFT.
        """
        key = _translate(self._to_theirs, name)
        if key is None or not peft or not name.startswith("decoder.") or key.startswith(_PEFT_PREFIX):
            return key
        if adapted:
            module, _, parameter = key.rpartition(".")
            if module.endswith((".lora_A", ".lora_B")):
                key = f"{module}.default.{parameter}"
            else:
                key = f"{module}.base_layer.{parameter}"
        return f"{self.decoder_prefix}{_PEFT_PREFIX}{key.removeprefix(self.decoder_prefix)}"

    def plain(self, key: str) -> str:
        """`key` without `module.`, PEFT's decoration and the form's optional leading parts."""
        key = key.removeprefix("module.")
        key = key.replace(_PEFT_PREFIX, "", 1).replace(".base_layer.", ".", 1)
        key = re.sub(r"\.(lora_[AB])\.(?!weight$)[^.]+\.weight$", r".\1.weight", key)
        for part in self.strip:
            key = key.removeprefix(part)
        return key

    def other(self, key: str) -> Other | None:
        """The `Other` a key falls under, or None."""
        plain = self.plain(key)
        return next((o for o in self.others if _regex(o.pattern).fullmatch(plain)), None)


def _regex(pattern: str) -> re.Pattern:
    text = re.escape(pattern).replace(r"\{i\}", r"(0|[1-9]\d{0,3})").replace(r"\*", ".*")
    return re.compile(text)


def _translate(table: list, key: str) -> str | None:
    for pattern, target in table:
        match = pattern.fullmatch(key)
        if match:
            return target.format(i=match[1]) if match.re.groups else target
    return None


def _rows(pairs) -> tuple[tuple[str, str], ...]:
    """(our module, their module, parameters) -> one row a parameter."""
    return tuple((f"{ours}.{p}", f"{theirs}.{p}") for ours, theirs, parameters in pairs for p in parameters)


def _decoder_rows(prefix: str) -> tuple[tuple[str, str], ...]:
    return _rows((f"decoder.{m}", f"{prefix}{m}", parameters) for m, parameters in DECODER)


def _encoder_rows(column: int) -> tuple[tuple[str, str], ...]:
    return _rows((f"encoder.{row[0]}", f"encoder.{row[column]}", row[3]) for row in ENCODER)


PUBLISHED = Form(
    "published",
    "published OSUM / OSUM-Pangu",
    (*_encoder_rows(0), *_rows(ADAPTER), *_decoder_rows("llama_model.")),
    (
        Other("embed_tokens.weight", "copy", _ALIAS, of="llama_model.model.embed_tokens.weight"),
        Other("lm_head.weight", "copy", _ALIAS, of="llama_model.lm_head.weight"),
        Other("encoder.embed.pos_enc.pe", "derived", _POSITIONS),
        Other("speech_transformer.embed.pos_enc.pe", "derived", _POSITIONS),
        Other("ln_speech.*", "aside", "constructed but never used by the published model"),
        Other("speech_head.*", "aside", "output of speech tokens, not used for text"),
        Other("speaker_head.*", "aside", "output of speech tokens (OSUM), not used for text"),
        _INV_FREQ,
    ),
    decoder_prefix="llama_model.",
)

HF_DECODER = Form(
    "hf_decoder",
    "Hugging Face decoder (openPangu, Qwen2, Qwen3, Llama, Yi)",
    _decoder_rows(""),
    (_INV_FREQ,),
)

HF_WHISPER = Form(
    "hf_whisper",
    "Hugging Face Whisper",
    _encoder_rows(1),
    (
        Other("encoder.embed_positions.weight", "derived", _POSITIONS),
        Other("decoder.*", "dropped", _NO_TEXT_DECODER),
        Other("proj_out.weight", "dropped", _NO_TEXT_DECODER),
    ),
    strip=("model.",),
)

OPENAI_WHISPER = Form(
    "openai_whisper",
    "openai-whisper",
    _encoder_rows(2),
    (
        Other("encoder.positional_embedding", "derived", _POSITIONS),
        Other("decoder.*", "dropped", _NO_TEXT_DECODER),
    ),
)

# as PEFT saves them: behind its prefix, without `.default`
PEFT = Form(
    "peft",
    "PEFT adapters",
    tuple(row for row in _decoder_rows(_PEFT_PREFIX) if ".lora_" in row[0]),
)

FORMS = {form.name: form for form in (PUBLISHED, HF_DECODER, HF_WHISPER, OPENAI_WHISPER, PEFT)}
