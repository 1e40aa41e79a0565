"""Names, shapes and forms of the decoder's parameters and of its LoRA; does not import MindSpore.

Modules of the decoder have the same names everywhere, those of transformers' Llama. Sources: modules of the
published OSUM code, transformers' Llama, Qwen2, Qwen3, openPangu-Embedded's modeling file, peft 0.17.
"""

from mindspore_osum.models.forms import PEFT_PREFIX, Computed, Folder, Form, Other
from mindspore_osum.models.llama import peft
from mindspore_osum.models.llama.config import PROJECTIONS, DecoderConfig, LoraConfig
from mindspore_osum.models.llama.hugging_face import ATTENTION, decoder_hf_config, decoder_values
from mindspore_osum.models.positions import inverse_frequencies
from mindspore_osum.models.table import Param, Row, Shapes, Values, affine, axis_of, read_sizes


def _row(ours: str, params: tuple[Param, ...], tied: str = "") -> Row:
    names = dict.fromkeys(("published", "hf_decoder", "peft"), ours)
    return Row(ours, names, params, "n_layers" if "{i}" in ours else "", tied)


def _projection(ours: str, d_out: str, d_in: str, bias: bool | str = False) -> Row:
    has_lora = "lora." + ours.rpartition(".")[2]
    lora = (
        Param("lora_A.weight", ("rank", d_in), has_lora),
        Param("lora_B.weight", (d_out, "rank"), has_lora),
    )
    return _row(f"model.layers.{{i}}.{ours}", (*affine(d_out, d_in, bias=bias), *lora))


def _norm(ours: str, size: str = "d_model", when: str = "") -> Row:
    return _row(ours, (Param("weight", (size,), when),))


_D, _Q, _KV = "d_model", "n_heads*head_dim", "n_kv_heads*head_dim"
ROWS = (
    _row("model.embed_tokens", affine("vocab_size", _D, bias=False)),
    _projection("self_attn.q_proj", _Q, _D, "qkv_bias"),
    _projection("self_attn.k_proj", _KV, _D, "qkv_bias"),
    _projection("self_attn.v_proj", _KV, _D, "qkv_bias"),
    _projection("self_attn.o_proj", _D, _Q, "o_bias"),
    _projection("mlp.gate_proj", "d_ff", _D),
    _projection("mlp.up_proj", "d_ff", _D),
    _projection("mlp.down_proj", _D, "d_ff"),
    _norm("model.layers.{i}.self_attn.q_norm", "head_dim", "qk_norm"),
    _norm("model.layers.{i}.self_attn.k_norm", "head_dim", "qk_norm"),
    _norm("model.layers.{i}.input_layernorm"),
    _norm("model.layers.{i}.post_attention_layernorm"),
    _norm("model.norm"),
    _row("lm_head", (Param("weight", ("vocab_size", _D), "has_head"),), tied="model.embed_tokens"),
)

INV_FREQ = Other(
    "*.rotary_emb.inv_freq",
    "derived",
    "rotary frequencies are computed from rope_theta",
    computed=Computed(
        "decoder",
        "half_head",
        lambda values, first, n: inverse_frequencies(values["head_dim"], values["rope_theta"]),
        relative=True,
    ),
)
HUGGING_FACE = Form(
    "hf_decoder",
    "Hugging Face decoder (openPangu, Qwen2, Qwen3, Llama, Yi)",
    {"decoder": ""},
    "decoder",
    lora="without",
    others=(INV_FREQ,),
    folder=Folder(
        "config.json",
        lambda cfg, base: decoder_hf_config(cfg.decoder) | {"dtype": cfg.dtype},
        lambda values, where: {"decoder": decoder_values(values, where)},
        model_types=ATTENTION.keys(),
    ),
)
# as the PEFT library saves them: with its prefix, without `.default`
PEFT = Form(
    "peft",
    "PEFT adapters",
    {"decoder": PEFT_PREFIX},
    "adapters",
    lora="alone",
    strip=("model.",),  # adapters of the model without its head have no such prefix
    inside=("language_model", "llama_model", "llm"),
    folder=Folder(
        peft.CONFIG,
        lambda cfg, base: peft.adapter_config(cfg.lora, base),
        adapters=peft.read_settings,
        weights=peft.WEIGHTS,
    ),
)


def values(cfg: DecoderConfig, lora: LoraConfig) -> Values:
    """Values of the names in `ROWS`."""
    adapted = {f"lora.{name}": lora.rank > 0 and name in lora.targets for name in PROJECTIONS}
    own = {"has_head": not cfg.tie_embeddings, "half_head": cfg.head_dim // 2, "rank": lora.rank}
    return vars(cfg) | own | adapted


def infer(found: Shapes, prefix: str, base: DecoderConfig, given: dict, needs: list[str]) -> dict:
    """Infer `DecoderConfig` values from tensors; arguments and result as for the encoder."""
    if f"{prefix}model.embed_tokens.weight" not in found:
        return {}
    sizes = read_sizes(ROWS, prefix, found, vars(base).keys())
    return sizes | _infer_heads(found, prefix, base, given, needs)


def _infer_heads(found: Shapes, prefix: str, base: DecoderConfig, given: dict, needs: list[str]) -> dict:
    attention = f"{prefix}model.layers.0.self_attn"
    q, kv = axis_of(found, f"{attention}.q_proj.weight", 0), axis_of(found, f"{attention}.k_proj.weight", 0)
    e = given.get("head_dim")
    if f"{attention}.q_norm.weight" in found:
        e = axis_of(found, f"{attention}.q_norm.weight", 0)
    elif e is None and given.get("n_heads"):
        e = q // given["n_heads"]
    elif e is None and given.get("n_kv_heads"):
        e = kv // given["n_kv_heads"]
    elif e is None and (base.n_heads * base.head_dim, base.n_kv_heads * base.head_dim) == (q, kv):
        e = base.head_dim
    if not e or q % e or kv % e:
        needs.append(
            f"decoder.n_heads (q_proj has {q} rows, k_proj {kv}; head size {e or base.head_dim} does not fit)"
        )
        return {}
    return {"n_heads": q // e, "n_kv_heads": kv // e, "head_dim": e}


def infer_lora(found: Shapes, base: LoraConfig, given: dict, needs: list[str]) -> dict:
    """Infer `LoraConfig` values from tensors; empty if there are no adapters in `found`."""
    names = [name for name in found if name.endswith(".lora_A.weight")]
    if not names:
        return {}
    rank = axis_of(found, names[0], 0)
    if rank != base.rank and "alpha" not in given:
        needs.append(f"lora.alpha (rank {rank}, preset {base.rank}; OSUM and OSUM-Pangu have alpha 32)")
    return {"rank": rank, "targets": peft.in_order({name.split(".")[-3] for name in names}, base.targets)}


def misfit(decoder: dict, base: DecoderConfig, assumed: str) -> list[str]:
    """A line on what is undetermined if sizes read from tensors differ from those of an assumed preset."""
    keys = [
        k for k in ("d_model", "n_layers", "vocab_size") if decoder.get(k, vars(base)[k]) != vars(base)[k]
    ]
    if not keys:
        return []
    sizes = "; ".join(f"{k} {decoder[k]}, preset {vars(base)[k]}" for k in keys)
    return [f"the preset that has the decoder's rope_theta, norm_eps and token ids (not {assumed}: {sizes})"]
