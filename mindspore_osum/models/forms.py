"""Checkpoint formats ("forms"): maps tensor names of other checkpoints to ours and back.

Notable choices
- Tensor names are in the rows of the model families (models/table.py). A form defines the prefixes of its
  keys, the other contents of its files and, for folders, how their description is read and written.
- PEFT's decoration (`base_model.model.`, `.base_layer`, `.default`) and what torch.compile, DDP and FSDP put
  into names are removed before the lookup; PEFT's is added after it.
- Tensors that a form has and our model does not are listed too, with the reason. A key that matches no row is
  an error of the caller.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mindspore_osum.models.table import Batched, Table, Values, Whole, size_of

PEFT_PREFIX = "base_model.model."
# what wrappers put into names, at any depth: torch.compile, DDP and DeepSpeed, FSDP, activation checkpointing
_WRAPPED = re.compile(
    r"(?:(?<=\.)|^)(?:_orig_mod|module|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.(?=.)"
)


@dataclass(frozen=True)
class Computed:
    """A buffer that checkpoints store and our model computes.

    Attributes
    ----------
    part : the part of the model whose settings determine it.
    width : its last axis, as a size in a table row.
    rows : (settings of the part, first row, number of rows) -> float32 values.
    usual : rows in published files; 0 if it is a vector, which is not written.
    batched : it has a leading axis of 1.
    relative : compare by relative difference, since its values are small.
    """

    part: str
    width: str
    rows: Callable[[Values, int, int], Any]
    usual: int = 0
    batched: bool = False
    relative: bool = False


@dataclass(frozen=True)
class Other:
    """Keys of a form without a corresponding tensor of ours.

    Attributes
    ----------
    pattern : `{i}` is a layer number, `*` anything.
    kind : "derived" (compared with `computed`, which follows from the configuration), "copy" (compared with
        `of`), "aside" (unused by the model, kept in extras.safetensors) or "dropped".
    why : reason for the report.
    of : for a copy, key of the original.
    written : whether a copy is written, too.
    """

    pattern: str
    kind: str
    why: str
    of: str = ""
    computed: Computed | None = None
    written: bool = True


@dataclass(frozen=True)
class Folder:
    """A form that is a folder with a description in JSON.

    Attributes
    ----------
    config : name of the file of the description.
    describe : (our configuration, name of a base model or None) -> its values.
    stated : (its values, the file's name) -> values nested as in our configuration; UserError for features
        that our cells do not implement.
    adapters : of a form of adapters, (its values, the file's name) -> how each module is adapted, as
        models/llama/peft.py `PeftSettings` says it.
    weights : name of the file of the weights; None for the writer's own.
    model_types : the values of `model_type` that identify this form; empty where the file name `config` does.
    beside : names of other descriptions in JSON, which `stated` gets under their names where they exist.
    more : our configuration -> name -> values of the other descriptions.
    tokenizers : names of the tokenizer files of which it needs one; empty where any will do, or none.
    """

    config: str
    describe: Callable[[Any, str | None], dict]
    stated: Callable[[dict, str], dict] | None = None
    adapters: Callable[[dict, str], Any] | None = None
    weights: str | None = None
    model_types: Collection[str] = ()
    beside: tuple[str, ...] = ()
    more: Callable[[Any], dict[str, dict]] = lambda cfg: {}
    tokenizers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Form:
    """One checkpoint format. Families list their forms without `rows` and `values`, which `of` adds.

    Attributes
    ----------
    title : display name.
    prefixes : our part -> prefix of its keys.
    holds : contents of a file of the form: "encoder", "decoder" or "adapters"; "model" for a full model.
    lora : "" (never has LoRA), "without" (LoRA must be merged), "with" (wrapped by PEFT) or "alone".
    others : other contents of its files.
    strip : optional prefixes of keys.
    inside : names of modules that may contain this form's model; they are ignored at any depth of a key.
    marks : patterns of keys that identify the form in files without a description.
    folder : layout of its folder; None for a form that is a file.
    header : (contents of a `.pt` other than tensors, file) -> values as for `Folder.stated`.
    beside : our configuration -> contents of a `.pt` beside the tensors, which are then `model_state_dict`.
    one_type : tensors are in the type of the configuration, whatever they were stored in.
    own_names : modules have our names behind the prefix of their part, whatever the rows say.
    statistics : prefix of the mean and istd of features, which a file beside may have (ckpt_convert/cmvn.py).
    rows : (our parameter, theirs) with `{i}` for a layer.
    bases : of adapters alone, such rows of the parameters that they belong to.
    values : part -> settings, for the computed buffers.
    batched : our names of the tensors that have a leading axis of 1 in the form.
    """

    name: str
    title: str
    prefixes: Mapping[str, str]
    holds: str
    lora: str = ""
    others: tuple[Other, ...] = ()
    strip: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    folder: Folder | None = None
    header: Callable[[dict, str], dict] | None = None
    beside: Callable[[Any], dict[str, dict[str, int]]] | None = None
    one_type: bool = False
    own_names: bool = False
    statistics: str = ""
    rows: tuple[tuple[str, str], ...] = ()
    bases: tuple[tuple[str, str], ...] = ()
    values: Mapping[str, Values] = field(default_factory=dict)
    batched: frozenset[str] = frozenset()
    _to_ours: list = field(default_factory=list, compare=False, repr=False, init=False)
    _to_bases: list = field(default_factory=list, compare=False, repr=False, init=False)
    _to_theirs: list = field(default_factory=list, compare=False, repr=False, init=False)

    def __post_init__(self):
        self._to_ours.extend((_regex(self.plain(theirs)), ours) for ours, theirs in self.rows)
        self._to_bases.extend((_regex(self.plain(theirs)), ours) for ours, theirs in self.bases)
        self._to_theirs.extend((_regex(ours), theirs) for ours, theirs in self.rows)

    def of(self, tables: Iterable[Table]) -> "Form":
        """The form with the rows of these tables."""
        tables = tuple(tables)
        rows, batched = [], set()
        for table in (table for table in tables if table.part in self.prefixes):
            for row in table.rows:
                if (theirs := row.ours if self.own_names else row.names.get(self.name)) is None:
                    continue
                key = f"{self.prefixes[table.part]}{theirs}"
                for param in row.params:
                    ours = f"{table.prefix}{row.ours}.{param.name}"
                    rows.append((ours, key if isinstance(theirs, Whole) else _joined(key, param.name)))
                    batched |= {ours} if isinstance(theirs, Batched) else set()
        # kinds of a part may have the same names of ours
        rows, values = tuple(dict.fromkeys(rows)), {table.part: table.values for table in tables}
        if self.lora != "alone":
            return replace(self, rows=rows, values=values, batched=frozenset(batched))
        lora = tuple(row for row in rows if ".lora_" in row[0])
        return replace(self, rows=lora, bases=tuple(row for row in rows if row not in lora), values=values)

    def shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that our tensor `name` of this shape has in the form."""
        return (1, *shape) if name in self.batched else shape

    def ours(self, key: str) -> str | None:
        """Our name of the form's `key` (plain or decorated), or None."""
        return _translate(self._to_ours, self.plain(key))

    def base(self, key: str) -> str | None:
        """Our name of a parameter of the base model, of which files of adapters may have a copy, or None."""
        return _translate(self._to_bases, self.plain(key))

    def theirs(self, name: str, adapted: bool = False, peft: bool = False) -> str | None:
        """The form's key of our tensor `name`, or None.

        Parameters
        ----------
        adapted : the tensor's module has LoRA.
        peft : the model has LoRA, so a form "with" it has the decoder wrapped by PEFT.
        """
        key = _translate(self._to_theirs, name)
        if key is None or not peft or self.lora != "with" or not name.startswith("decoder."):
            return key
        if adapted:
            module, _, parameter = key.rpartition(".")
            if module.endswith((".lora_A", ".lora_B")):
                key = f"{module}.default.{parameter}"
            else:
                key = f"{module}.base_layer.{parameter}"
        prefix = self.prefixes["decoder"]
        return f"{prefix}{PEFT_PREFIX}{key.removeprefix(prefix)}"

    def plain(self, key: str) -> str:
        """`key` without what wrappers and PEFT put into it, and the form's optional leading parts."""
        key = _WRAPPED.sub("", key)
        for part in self.inside:
            key = re.sub(rf"(?:(?<=\.)|^){part}\.(?=.)", "", key)
        key = key.replace(PEFT_PREFIX, "").replace(".base_layer.", ".", 1)
        key = re.sub(r"\.(lora_[AB])\.(?!weight$)[^.]+\.weight$", r".\1.weight", key)
        for part in self.strip:
            key = key.removeprefix(part)
        return key

    def other(self, key: str) -> Other | None:
        """The `Other` a key falls under, or None."""
        plain = self.plain(key)
        return next((o for o in self.others if _regex(o.pattern).fullmatch(plain)), None)

    def is_marked(self, keys: Iterable[str]) -> bool:
        """Whether a file with these keys is of this form."""
        marks = [_regex(mark) for mark in self.marks]
        return any(mark.fullmatch(self.plain(key)) for key in keys for mark in marks)

    def width(self, computed: Computed) -> int:
        """The last axis of a buffer that the model computes."""
        return size_of(computed.width, self.values[computed.part])

    def blocks(self, computed: Computed, rows: int, at_a_time: int = 4096):
        """The float32 values of a buffer with the given number of rows, flattened, in blocks of rows."""
        for start in range(0, rows, at_a_time):
            values = computed.rows(self.values[computed.part], start, min(at_a_time, rows - start))
            yield values.reshape(-1)


def _joined(module: str, parameter: str) -> str:
    """The key of a parameter; a file of one module alone may have no name of that."""
    return module + parameter if not module or module.endswith(".") else f"{module}.{parameter}"


def _regex(pattern: str) -> re.Pattern:
    text = re.escape(pattern).replace(r"\{i\}", r"(0|[1-9]\d{0,3})").replace(r"\*", ".*")
    return re.compile(text)


def _translate(table: list, key: str) -> str | None:
    for pattern, target in table:
        match = pattern.fullmatch(key)
        if match:
            return target.format(i=match[1]) if match.re.groups else target
    return None
