"""Conversion between PyTorch checkpoints and model folders, both ways, one tensor in memory at a time.

Notable choices
- All conversions use one pipeline: sources -> `Plan` (our names) -> names of the target -> writer.
- The output is written atomically, to a temporary name that is renamed at the end; nothing is overwritten.
- Bytes are copied, never re-rounded; only `merge_lora` computes.
- Tensors of the published form that our model does not use are kept in `extras.safetensors`, so that
  converting back gives every tensor. Positional buffers are computed, and written back only on request.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ckpt_convert.plan import Item, Plan, adapted, make_plan
from ckpt_convert.report import Report
from ckpt_convert.settle import Settings
from ckpt_convert.sources import EXTRAS, Source, open_sources
from ckpt_convert.swap import check_replaceable, check_swap, check_widths
from ckpt_convert.torch_writer import TorchWriter
from mindspore_osum.errors import UserError
from mindspore_osum.files import check_place, ordinary, write_text
from mindspore_osum.folder import write_config
from mindspore_osum.interrupts import unfinished
from mindspore_osum.models.forms import Computed, Form
from mindspore_osum.models.table import Shapes
from mindspore_osum.systems.base import System
from mindspore_osum.systems.config import Config
from mindspore_osum.systems.registry import all_systems
from mindspore_osum.text.tokenizer import (
    BYTE_PAIRS,
    SENTENCE_PIECE,
    find_tokenizer,
    open_tokenizer,
    tokenizer_files,
)
from mindspore_osum.weights_io import (
    CODES,
    SHARD_BYTES,
    TensorInfo,
    WeightsWriter,
    check_finite,
    decode,
    encode,
)

REPORT = "conversion_report.json"
_FROM_TORCH = {"format": "pt"}  # transformers requires this in a file's header
_FILES = (".pt", ".safetensors")


def convert(
    source: str | Path | None,
    output: str | Path,
    *,
    encoder: str | Path | None = None,
    decoder: str | Path | None = None,
    aligner: str | Path | None = None,
    adapters: str | Path | None = None,
    form: str | None = None,
    settings: Settings | None = None,
    tokenizer: str | Path | None = None,
    buffers: bool = False,
    shard_bytes: int = SHARD_BYTES,
    base_name: str | None = None,
) -> Report:
    """Convert a checkpoint to a model folder, or a model folder to a checkpoint.

    Parameters
    ----------
    source : a full model: a folder of ours, or a file of the published form; None when parts are given.
    output : a new folder, or a new ``.pt`` or ``.safetensors`` file.
    encoder, decoder : parts to join (Hugging Face folder, openai-whisper ``.pt``, or any full model);
        adapter and LoRA are initialised. A decoder beside a `source` takes the place of its own (swap.py).
    aligner : of a linear aligner, file with its one linear layer, beside these parts.
    adapters : folder of PEFT adapters for the decoder; they replace any LoRA that it has.
    form : "folder" (ours; default for a folder) or a form of the system (`System.forms`; the first is the
        default for a file).
    settings : configuration values, allowed mismatches, LoRA merging, seed.
    tokenizer : folder or file of the tokenizer to put into the folder; default: that of the sources.
    buffers : also write the positional buffers of the published form, which are computed.
    shard_bytes : maximum size of a weight file in a folder.
    base_name : for the form "peft", name or path of the adapters' Hugging Face base model.

    Returns
    -------
    Report : what was done with every tensor.

    Raises
    ------
    UserError : any error in the sources or the settings; no output is left then.
    """
    started = time.monotonic()
    settings = settings or Settings()
    output = Path(output)
    form = form or ("" if output.suffix in _FILES else "folder")
    known = dict.fromkeys(name for system in all_systems().values() for name in system.forms())
    if form and form not in (*known, "folder"):
        raise UserError(f"form {form!r} is unknown; known: folder, {', '.join(known)}")
    if form == "folder" and output.suffix in _FILES:
        raise UserError(f"{output}: a model folder is a folder, not a {output.suffix} file")
    try:
        taken = output.exists() and (output.is_file() or any(output.iterdir()))
    except OSError as error:
        raise UserError(f"{output}: cannot be read ({error.strerror})") from None
    if taken:
        raise UserError(
            f"{output}: exists already; nothing is overwritten, name a new folder or file, or remove it"
        )
    check_place(output, str(output))
    if bool(source) == bool(encoder or aligner or (decoder and not source)):
        raise UserError("give one whole checkpoint, or its parts: --encoder, --decoder, --aligner")
    paths = {
        "model": source,
        "encoder": encoder,
        "decoder": decoder,
        "adapter": aligner,
        "adapters": adapters,
    }
    paths = {part: Path(path) for part, path in paths.items() if path}
    parts: dict[str, Source] = {}
    if source and decoder:
        check_replaceable(paths["model"])
    try:
        system, parts = open_sources(paths, settings.preset, settings.config)
        if source and decoder:
            check_widths(parts["model"], parts["decoder"])
        report = Report(" + ".join(str(p) for p in paths.values()), str(output))
        pieces = _find_tokenizer(tokenizer, paths)
        plan = make_plan(system, parts, settings, report)
        if "prompts" in settings.overrides:
            system.template(plan.config)  # refuses those that there are not
        if source and decoder:
            check_swap(system, parts["model"], plan.config, pieces, report)
        _check_end(system, plan.config, pieces, report.source)
        if form == "folder":
            _write_folder(plan, output, pieces, shard_bytes, report, started)
        else:
            _write_form(plan, system, form, output, buffers, shard_bytes, base_name, pieces, report)
    except OSError as error:
        raise UserError(f"{error.filename or output}: {error.strerror or error}") from None
    finally:
        for opened in parts.values():
            opened.close()
    report.seconds = time.monotonic() - started
    return report


def _find_tokenizer(given: str | Path | None, paths: dict[str, Path]) -> Path | None:
    """Folder or file of the tokenizer given, else of the one beside the sources."""
    if given:
        return Path(given)
    whole = [paths[part] for part in ("decoder", "model") if part in paths][:1]
    beside = [p if p.is_dir() else p.parent for p in whole]
    known = (SENTENCE_PIECE, BYTE_PAIRS)
    return next((folder for folder in beside if any((folder / name).is_file() for name in known)), None)


def _check_end(system: System, cfg: Config, tokenizer: Path | None, source: str) -> None:
    """Refuse a model whose end token is none of its rows, and a tokenizer that is not the model's."""
    rows, end = cfg.decoder.vocab_size, cfg.decoder.eos_id
    if not 0 <= end < rows:
        raise UserError(
            f"{source}: decoder.eos_id {end}, the token that ends an answer, is none of the {rows} rows of "
            "its embedding; give the right one with --set decoder.eos_id=N"
        )
    if tokenizer is not None:
        system.fit_tokenizer(open_tokenizer(tokenizer), cfg, source)


def _copy_tokenizer(tokenizer: Path, folder: Path) -> None:
    for name, file in tokenizer_files(tokenizer).items():
        shutil.copyfile(file, folder / name)


def _write_folder(
    plan: Plan, output: Path, tokenizer: Path | None, shard_bytes: int, report: Report, started: float
) -> None:
    def fill(folder: Path) -> None:
        _write_items(WeightsWriter(folder, _infos(plan.items), None, shard_bytes), plan.items, report)
        if plan.aside or plan.buffers:
            rows = {key: str(n) for key, n in plan.buffers.items()}
            _write_items(WeightsWriter(folder / EXTRAS, _infos(plan.aside), rows), plan.aside, report)
        if tokenizer:
            _copy_tokenizer(tokenizer, folder)
        else:
            report.notes.append("no tokenizer was found; add it with --tokenizer before the model is used")
        write_config(folder, plan.config)
        report.seconds = time.monotonic() - started
        write_text(folder / REPORT, json.dumps(report.to_dict(), indent=1, ensure_ascii=False))

    _make_folder(output, fill)


def _make_folder(output: Path, fill: Callable[[Path], None]) -> None:
    """Write a temporary folder next to `output`, then rename it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    temp = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".partial", dir=output.parent))
    unfinished.add(temp)
    try:
        fill(temp)
        temp.chmod(ordinary(0o777))
        temp.replace(output)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise
    finally:
        unfinished.discard(temp)


def _write_items(writer: WeightsWriter | TorchWriter, items: dict[str, Item], report: Report) -> None:
    with writer:
        for name, item in items.items():
            writer.write_raw(name, item.load())
            report.size_bytes += item.info.nbytes


def _infos(items: dict[str, Item]) -> dict[str, TensorInfo]:
    return {name: item.info for name, item in items.items()}


def _write_form(
    plan: Plan,
    system: System,
    name: str,
    output: Path,
    buffers: bool,
    shard_bytes: int,
    base: str | None,
    tokenizer: Path | None,
    report: Report,
) -> None:
    forms = system.forms(plan.config)
    form = forms.get(name or next(iter(forms)))
    if form is None:
        raise UserError(f"{report.source}: a {system.model_type} model has no form {name!r}")
    system.check_form(plan.config, form)
    _check_tokenizer(form, tokenizer, output, report.source)
    items, aliases = _form_items(plan, form, system.shapes(plan.config), buffers, report)
    if form.holds == "adapters" and output.suffix in _FILES:
        raise UserError(f"{output}: {form.title} are a folder, not a {output.suffix} file")
    if output.suffix == ".pt":
        beside = form.beside(plan.config) if form.beside else {}
        return _write_items(TorchWriter(output, _infos(items), aliases, beside), items, report)
    items |= {key: items[of] for key, of in aliases.items()}
    if output.suffix == ".safetensors":
        return _write_items(WeightsWriter(output, _infos(items), _FROM_TORCH), items, report)
    if form.folder is None:
        raise UserError(f"{output}: the {form.title} form is a file; name a .pt or .safetensors")
    config = form.folder.describe(plan.config, base)

    def fill(folder: Path) -> None:
        for name, values in {form.folder.config: config, **form.folder.more(plan.config)}.items():
            write_text(folder / name, json.dumps(values, indent=2))
        target = folder / form.folder.weights if form.folder.weights else folder
        _write_items(WeightsWriter(target, _infos(items), _FROM_TORCH, shard_bytes), items, report)
        if tokenizer and form.holds in ("model", "decoder"):
            _copy_tokenizer(tokenizer, folder)

    _make_folder(output, fill)


def _check_tokenizer(form: Form, tokenizer: Path | None, output: Path, source: str) -> None:
    """Refuse a tokenizer that a folder of the form cannot hold, and none where it needs one."""
    wanted = form.folder.tokenizers if form.folder and output.suffix not in _FILES else ()
    if not wanted:
        return
    found = find_tokenizer(tokenizer).name if tokenizer else "none"
    if found not in wanted:
        raise UserError(f"{source}: a {form.title} needs {' or '.join(wanted)} as its tokenizer, not {found}")


def _form_items(
    plan: Plan, form: Form, expected: Shapes, buffers: bool, report: Report
) -> tuple[dict[str, Item], dict[str, str]]:
    """Contents of the form's file: key -> item, and key -> key of the tensor that it is a copy of."""
    has_lora = any(adapted(name, expected) for name in expected)
    if has_lora and form.lora == "without":
        raise UserError(f"{form.title} has no LoRA; add --merge-lora")
    if not has_lora and form.lora == "alone":
        raise UserError("the model has no LoRA, so there are no adapters to write")
    items: dict[str, Item] = {}
    named: dict[str, str] = {}
    for name, item in plan.items.items():
        key = form.theirs(name, adapted(name, expected), peft=has_lora)
        if key is not None:
            if form.one_type:
                item = _in_type(item, plan.config.dtype, f"{report.source}: tensor {name}")
            info = TensorInfo(item.info.dtype, form.shape(name, item.info.shape))
            items[key], named[name] = Item(info, item.load), key
        elif form.holds == "model":
            raise UserError(
                f"{name} has no name in the {form.name} form, so this model cannot be written in it"
            )
    report.mapped = {source: named[name] for source, name in report.mapped.items() if name in named}
    left = len(plan.items) - len(named)
    if left:
        report.notes.append(f"{left} tensors are not part of the {form.title} form and stay behind")
    if form.holds == "model":
        aside = {key: item for key, item in plan.aside.items() if form.other(key)}
        if others := len(plan.aside) - len(aside):
            report.notes.append(f"{others} tensors that the model does not use stay behind")
        items |= aside
    for other in form.others:
        # Whisper's classes store positions as a weight; those of the full model compute them
        has_it = other.pattern in items  # a system may have the stored ones
        if other.computed and other.computed.usual and not has_it and (buffers or form.holds != "model"):
            rows = plan.buffers.get(other.pattern, other.computed.usual)
            items[other.pattern] = _buffer(form, other.computed, rows, CODES[plan.config.dtype])
    plain = {form.plain(key): key for key in items}
    return items, {
        o.pattern: plain[o.of] for o in form.others if o.kind == "copy" and o.written and o.of in plain
    }


def _in_type(item: Item, dtype: str, name: str) -> Item:
    """The item, rounded to a type of the configuration; UserError, when it is read, if it does not fit."""
    code = CODES[dtype]
    if item.info.dtype == code:
        return item

    def load() -> np.ndarray:
        with np.errstate(over="ignore"):
            raw = encode(decode(item.load(), item.info), code)
        return check_finite(raw, code, f"{name} in {dtype}")

    return Item(TensorInfo(code, item.info.shape), load)


def _buffer(form: Form, computed: Computed, rows: int, code: str) -> Item:
    shape = (rows, form.width(computed))
    info = TensorInfo(code, (1, *shape) if computed.batched else shape)
    return Item(info, lambda: np.concatenate([encode(block, code) for block in form.blocks(computed, rows)]))
