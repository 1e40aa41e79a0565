"""Every setting of a model once, as frozen dataclasses with a comment per field.

Notable choices
- A model is described by `ModelConfig` alone; it is saved as `config.json` beside the weights, and
  training, inference, conversion and the benchmark all read that.
- `from_dict` is strict: an unknown key is refused with the nearest known one, a wrong type with its path.
- Job settings (training runs) are dataclasses of their own package and use the same `from_dict`.
"""

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mindspore_osum.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class EncoderConfig:
    """Whisper encoder (Radford et al. 2022); defaults are Whisper-medium."""

    n_mels: int = 80  # mel bins of the log-mel front end: 80, or 128 for large-v3
    d_model: int = 1024  # width
    n_layers: int = 24
    n_heads: int = 16
    d_ff: int = 4096  # inner width of the feed-forward
    norm_eps: float = 1e-5
    dropout: float = 0.0  # on the residual branches, in training only
    pad_to_seconds: float = (
        0.0  # audio is padded to this before the log-mel; 0 = as published for OSUM, 30 = stock Whisper
    )


@dataclass(frozen=True)
class AdapterConfig:
    """Convolutions (4x shorter in time), Transformer layers, a projection to the decoder's width."""

    kind: str = "conv1d"  # "conv1d": the released 3 x Conv1d; "conv2d": the paper's 2 x Conv2d
    n_layers: int = 4  # Transformer layers
    n_heads: int = 4
    d_ff: int = 2560
    norm_eps: float = 1e-5
    conv_channels: int = 32  # channels of the 2-D convolutions; not used by "conv1d"
    dropout: float = 0.0  # in training only


@dataclass(frozen=True)
class DecoderConfig:
    """openPangu-Embedded and its Llama-shaped relatives; defaults are openPangu-Embedded-7B-V1.1."""

    vocab_size: int = 153376
    d_model: int = 4096
    n_layers: int = 34
    n_heads: int = 32
    n_kv_heads: int = 8  # grouped-query attention (Ainslie et al. 2023)
    head_dim: int = 128
    d_ff: int = 12800
    rope_theta: float = 1.6e7  # base of the rotary angles
    norm_eps: float = 1e-5  # RMSNorm
    qkv_bias: bool = True
    o_bias: bool = True
    qk_norm: bool = False  # RMSNorm on each head of q and k (Qwen3)
    tie_embeddings: bool = False  # lm_head shares embed_tokens
    max_positions: int = 32768
    bos_id: int = 1
    eos_id: int = 45892  # [unused10]
    pad_id: int = 0


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (Hu et al. 2022) beside the decoder's projections: W x + alpha/rank * B (A x)."""

    rank: int = 64  # 0 = no adapters: they are merged, or the model never had any
    alpha: float = 32.0
    dropout: float = 0.1  # on the adapter's input, in training only
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "down_proj")

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return self.alpha / self.rank


@dataclass(frozen=True)
class ModelConfig:
    """One speech language model: encoder -> adapter -> decoder with LoRA."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    speech_token_num: int = 4097  # rows of the speech-token embedding before the speech begin and end rows
    prompts: str = "osum_pangu"  # prompt set the model was trained with (text/prompts.yaml)
    dtype: str = "float32"  # of the weights and activations: float32, bfloat16 or float16

    def __post_init__(self):
        check_model(self)

    def to_dict(self) -> dict:
        """Plain dictionaries and lists, as saved in config.json."""
        return dataclasses.asdict(self)


def check_model(cfg: ModelConfig) -> None:
    """Refuse sizes that cannot be built, naming the key."""

    def need(ok: bool, what: str):
        if not ok:
            raise UserError(f"model config: {what}")

    for name in ("encoder", "adapter", "decoder"):
        for key, value in vars(getattr(cfg, name)).items():
            if isinstance(value, int) and not isinstance(value, bool) and not key.endswith("_id"):
                need(value > 0, f"{name}.{key} must be positive, not {value}")
    enc, ada, dec = cfg.encoder, cfg.adapter, cfg.decoder
    need(
        enc.d_model % enc.n_heads == 0, f"encoder.d_model {enc.d_model} must divide by n_heads {enc.n_heads}"
    )
    need(enc.d_model % 2 == 0, f"encoder.d_model {enc.d_model} must be even (sinusoids)")
    need(
        enc.d_model % ada.n_heads == 0,
        f"encoder.d_model {enc.d_model} must divide by adapter.n_heads {ada.n_heads}",
    )
    need(ada.kind in ("conv1d", "conv2d"), f"adapter.kind must be conv1d or conv2d, not {ada.kind!r}")
    need(
        dec.n_heads % dec.n_kv_heads == 0,
        f"decoder.n_heads {dec.n_heads} must divide by n_kv_heads {dec.n_kv_heads}",
    )
    need(dec.head_dim % 2 == 0, f"decoder.head_dim {dec.head_dim} must be even (rotary)")
    need(cfg.lora.rank >= 0, f"lora.rank must be 0 or more, not {cfg.lora.rank}")
    for name, part in (("encoder", enc), ("adapter", ada), ("lora", cfg.lora)):
        need(0 <= part.dropout < 1, f"{name}.dropout must be 0 or more and below 1, not {part.dropout}")
    known = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    unknown = sorted(set(cfg.lora.targets) - known)
    need(not unknown, f"lora.targets {unknown} unknown; known: {sorted(known)}")
    need(
        cfg.dtype in ("float32", "bfloat16", "float16"),
        f"dtype must be float32, bfloat16 or float16, not {cfg.dtype!r}",
    )


def from_dict(cls: type[T], values: Any, where: str) -> T:
    """Build dataclass `cls` from plain dictionaries, strictly.

    Parameters
    ----------
    cls : a dataclass; nested dataclasses, lists of them, tuples, optionals and plain types are understood.
    values : what YAML or JSON gave.
    where : file (and key path so far), for the error.

    Raises
    ------
    UserError : not a mapping, an unknown key (with the nearest known one), a missing key or a wrong type.
    """
    if not isinstance(values, dict):
        raise UserError(
            f"{where}: expected a mapping of {cls.__name__} settings, found {type(values).__name__}"
        )
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    for key in values:
        if key not in fields:
            raise UserError(f"{where}: unknown key {key!r}{did_you_mean(str(key), fields)}")
    out = {}
    for name, f in fields.items():
        if name in values:
            out[name] = _convert(
                hints[name], values[name], f"{where}: {name}" if ": " not in where else f"{where}.{name}"
            )
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise UserError(f"{where}: missing key {name!r}")
    try:
        return cls(**out)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def did_you_mean(word: str, known) -> str:
    """'; did you mean X?' for the nearest known word, else the list of what is known."""
    known = sorted(str(k) for k in known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise UserError(f"{where}: expected a list, found {value!r}")
        return origin(_convert(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is dict or hint is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where}: expected a mapping, found {value!r}")
        return dict(value)
    if hint is float and isinstance(value, str):
        # YAML 1.1 reads 1e-6 (no dot) as a string
        try:
            return float(value)
        except ValueError:
            raise UserError(f"{where}: expected a number, found {value!r}") from None
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Any or (isinstance(value, hint) and not (hint is int and isinstance(value, bool))):
        return value
    raise UserError(f"{where}: expected {hint.__name__}, found {value!r}")


def parse_overrides(pairs: list[str]) -> dict:
    """``["a.b=1", "c=x"]`` -> ``{"a": {"b": 1}, "c": "x"}``; values are read as YAML."""
    import yaml

    out: dict = {}
    for pair in pairs:
        path, sep, text = pair.partition("=")
        if not sep or not path:
            raise UserError(f"--set {pair!r}: expected key.path=value, for instance --set optimizer.lr=1e-4")
        *parents, last = path.split(".")
        node = out
        for key in parents:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise UserError(f"--set {pair!r}: {key!r} was already set to a value")
        try:
            node[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"--set {pair!r}: the value is not readable as YAML") from None
    return out


def merge(base: dict, over: dict) -> dict:
    """`over` laid on `base`, mappings merged key by key; neither is changed."""
    out = dict(base)
    for key, value in over.items():
        out[key] = (
            merge(out[key], value) if isinstance(value, dict) and isinstance(out.get(key), dict) else value
        )
    return out


def read_yaml(path: str) -> dict:
    """A YAML file's mapping, by safe_load; UserError with file:line for what cannot be read."""
    import yaml

    try:
        with open(path, encoding="utf-8") as f:
            values = yaml.safe_load(f)
    except OSError as error:
        raise UserError(f"{path}: cannot read the config ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(
            f"{path}{line}: not valid YAML ({getattr(error, 'problem', None) or error})"
        ) from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of settings at the top level")
    return values
