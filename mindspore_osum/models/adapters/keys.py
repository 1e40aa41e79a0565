"""Names and shapes of the parameters that every kind of adapter has; those of a kind are in its folder.

Names are those of the published OSUM code. Does not import MindSpore.
"""

from mindspore_osum.models.adapters.config import AdapterConfig
from mindspore_osum.models.adapters.kinds import kinds, module_of
from mindspore_osum.models.forms import Computed, Other
from mindspore_osum.models.positions import interleaved_sinusoids
from mindspore_osum.models.table import Param, Row, Shapes, Values, affine, axis_of, read_sizes

_D = "d_model"


def _inner(name: str, params: tuple[Param, ...], published: str | None = None) -> Row:
    """Row of a module of the Transformer."""
    names = {"published": f"speech_transformer.{published or name}"}
    return Row(f"transformer.{name}", names, params, "n_layers" if "{i}" in name else "")


_ROWS = (
    _inner("embed.0", affine(_D, _D), "embed.out.0"),
    _inner("embed.1", affine(_D), "embed.out.1"),
    *(_inner(f"encoders.{{i}}.self_attn.linear_{x}", affine(_D, _D)) for x in ("q", "k", "v", "out")),
    _inner("encoders.{i}.feed_forward.w_1", affine("d_ff", _D)),
    _inner("encoders.{i}.feed_forward.w_2", affine(_D, "d_ff")),
    _inner("encoders.{i}.norm1", affine(_D)),
    _inner("encoders.{i}.norm2", affine(_D)),
    _inner("after_norm", affine(_D)),
    Row("proj", {"published": "speech_llama_proj"}, affine("d_out", _D)),
)
POSITIONS = Other(
    "speech_transformer.embed.pos_enc.pe",
    "derived",
    "positions are computed, not stored",
    computed=Computed(
        "adapter",
        _D,
        lambda values, first, n: interleaved_sinusoids(n, values[_D], first),
        5000,
        batched=True,
    ),
)


def rows(*chosen: str) -> tuple[Row, ...]:
    """The modules of adapters of these kinds."""
    return (*(row for kind in chosen for row in module_of(kind, "keys").ROWS), *_ROWS)


def values(cfg: AdapterConfig, d_in: int, d_out: int) -> Values:
    """Values of the names in `rows`, for encoder frames of width `d_in` and a decoder of width `d_out`."""
    own = module_of(cfg.kind, "keys").values(d_in)
    return vars(cfg) | {_D: d_in, "d_out": d_out} | own


def infer(found: Shapes, prefix: str, base: AdapterConfig, width: int, given: dict, needs: list[str]) -> dict:
    """Infer `AdapterConfig` values from tensors; `width` is that of `base`, the rest as for the encoder."""
    last = f"{prefix}proj.weight"
    if last not in found:
        return {}
    d = axis_of(found, last, 1)
    if "n_heads" not in given and d != width:
        needs.append(f"adapter.n_heads (width {d}, preset {width}; the published adapter has 4)")
    kind = _nearest_kind(found, prefix)
    return {"kind": kind} | read_sizes(rows(kind), prefix, found, vars(base).keys())


def _nearest_kind(found: Shapes, prefix: str) -> str:
    """The kind whose own parameters are found; the released kind if there are none."""

    def fitting(kind: str) -> int:
        names = ((f"{prefix}{r.ours}.{p.name}", p) for r in module_of(kind, "keys").ROWS for p in r.params)
        return sum(len(found.get(name, ())) == len(param.sizes) for name, param in names)

    return max(kinds(), key=lambda kind: (fitting(kind), kind == AdapterConfig().kind))
