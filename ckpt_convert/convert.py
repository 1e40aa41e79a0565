"""Conversion between PyTorch checkpoints and model folders, both ways, one tensor in memory at a time.

Notable choices
- Every way is one pipeline: sources -> `Plan` (our names) -> names of the target -> writer.
- The output appears whole or not at all: it is written beside its place and renamed; nothing is overwritten.
- Bytes are copied, never re-rounded; only `merge_lora` computes.
- What the published form has and our model does not use stays in `extras.safetensors`, so that the way back
  gives every tensor; positional buffers are computed, and written back only when asked for.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ckpt_convert import hf_config, peft_folder
from ckpt_convert.derived import POSITIONS, derived_blocks
from ckpt_convert.key_tables import FORMS, HF_DECODER, HF_WHISPER, OPENAI_WHISPER, PEFT, PUBLISHED, Form
from ckpt_convert.plan import Item, Plan, make_plan
from ckpt_convert.report import Report
from ckpt_convert.settle import Settings
from ckpt_convert.shapes import adapted
from ckpt_convert.sources import EXTRAS, Source, open_source
from ckpt_convert.torch_writer import TorchWriter
from mindspore_osum.errors import UserError
from mindspore_osum.files import ordinary, write_text
from mindspore_osum.folder import CONFIG, TOKENIZER, write_config
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.weights_io import CODES, SHARD_BYTES, TensorInfo, WeightsWriter, encode

# forms that are folders: file of the description, file of the weights (None: the writer's own), description
_FOLDERS = {
    HF_DECODER: (CONFIG, None, lambda c, _: hf_config.decoder_hf_config(c.decoder) | {"dtype": c.dtype}),
    HF_WHISPER: (CONFIG, None, lambda c, _: hf_config.encoder_hf_config(c.encoder) | {"dtype": c.dtype}),
    PEFT: (
        peft_folder.ADAPTER_CONFIG,
        peft_folder.ADAPTER_WEIGHTS,
        lambda c, base: peft_folder.adapter_config(c.lora, base),
    ),
}
REPORT = "conversion_report.json"
_FROM_TORCH = {"format": "pt"}  # transformers wants to read this in a file's header
_FILES = (".pt", ".safetensors")


def convert(
    source: str | Path | None,
    output: str | Path,
    *,
    encoder: str | Path | None = None,
    decoder: str | Path | None = None,
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
    source : a whole model: a folder of ours, or a file of the published form; None when parts are given.
    output : a new folder, or a new ``.pt`` or ``.safetensors`` file.
    encoder, decoder : parts to join (Hugging Face folder, openai-whisper ``.pt``, or any whole model);
        adapter and LoRA are initialised.
    adapters : folder of PEFT adapters for the decoder; they take the place of any LoRA that it has.
    form : "folder" (ours; default for a folder), "published" (default for a file) or another of `FORMS`.
    settings : configuration values, what is allowed to be wrong, LoRA merging, seed.
    tokenizer : tokenizer.model to put into the folder; default: that of the sources.
    buffers : write the published form's positional buffers too, computed.
    shard_bytes : largest file of a folder.
    base_name : name or path of the Hugging Face model that adapters written as "peft" belong to.

    Returns
    -------
    Report : what became of every tensor.

    Raises
    ------
    UserError : anything wrong with the sources or the settings; nothing is left behind then.
    """
    started = time.monotonic()
    settings = settings or Settings()
    output = Path(output)
    form = form or ("published" if output.suffix in _FILES else "folder")
    if form not in (*FORMS, "folder"):
        raise UserError(f"form {form!r} is unknown; known: folder, {', '.join(FORMS)}")
    if form == "folder" and output.suffix in _FILES:
        raise UserError(f"{output}: a model folder is a folder, not a {output.suffix} file")
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise UserError(f"{output}: exists already; nothing is overwritten, name a new place or remove it")
    if bool(source) == bool(encoder or decoder):
        raise UserError("give one whole checkpoint, or --encoder and/or --decoder")
    paths = {"model": source, "encoder": encoder, "decoder": decoder, "adapters": adapters}
    paths = {part: Path(path) for part, path in paths.items() if path}
    parts: dict[str, Source] = {}
    try:
        for part, path in paths.items():
            parts[part] = open_source(path)
            parts[part].label = f"{part}:" if len(paths) > 1 else ""
            _check_part(part, parts[part])
        report = Report(" + ".join(str(p) for p in paths.values()), str(output))
        plan = make_plan(parts, settings, report)
        if form == "folder":
            _write_folder(plan, output, _find_tokenizer(tokenizer, paths), shard_bytes, report, started)
        else:
            _write_form(plan, FORMS[form], output, buffers, shard_bytes, base_name, report)
    except OSError as error:
        raise UserError(f"{error.filename or output}: {error.strerror or error}") from None
    finally:
        for opened in parts.values():
            opened.close()
    report.seconds = time.monotonic() - started
    return report


def _check_part(part: str, source: Source) -> None:
    """Refuse a checkpoint given as what it is not."""
    holds = {HF_DECODER: "decoder", HF_WHISPER: "encoder", OPENAI_WHISPER: "encoder", PEFT: "adapters"}
    if part == "adapters" and source.form is not PEFT:
        raise UserError(f"{source.path}: no PEFT adapters (their folder has {peft_folder.ADAPTER_CONFIG})")
    holds = holds.get(source.form, part)
    if holds != part:
        raise UserError(f"{source.path}: a {source.form.title} checkpoint; give it with --{holds}")


def _find_tokenizer(given: str | Path | None, paths: dict[str, Path]) -> Path | None:
    if given:
        if not Path(given).is_file():
            raise UserError(f"{given}: no such tokenizer file")
        return Path(given)
    whole = [paths[part] for part in ("model", "decoder") if part in paths]
    beside = [(p if p.is_dir() else p.parent) / TOKENIZER for p in whole]
    return next((p for p in beside if p.is_file()), None)


def _write_folder(
    plan: Plan, output: Path, tokenizer: Path | None, shard_bytes: int, report: Report, started: float
) -> None:
    def fill(folder: Path) -> None:
        _write_items(WeightsWriter(folder, _infos(plan.items), None, shard_bytes), plan.items, report)
        if plan.aside or plan.buffers:
            rows = {key: str(n) for key, n in plan.buffers.items()}
            _write_items(WeightsWriter(folder / EXTRAS, _infos(plan.aside), rows), plan.aside, report)
        if tokenizer:
            shutil.copyfile(tokenizer, folder / TOKENIZER)
        else:
            report.notes.append(f"no {TOKENIZER} was found; add it with --tokenizer before the model is used")
        write_config(folder, plan.config)
        report.seconds = time.monotonic() - started
        write_text(folder / REPORT, json.dumps(report.to_dict(), indent=1, ensure_ascii=False))

    _make_folder(output, fill)


def _make_folder(output: Path, fill: Callable[[Path], None]) -> None:
    """Fill a folder beside `output`, then give it its name."""
    output.parent.mkdir(parents=True, exist_ok=True)
    temp = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".partial", dir=output.parent))
    try:
        fill(temp)
        temp.chmod(ordinary(0o777))
        temp.replace(output)
    except BaseException:
        shutil.rmtree(temp, ignore_errors=True)
        raise


def _write_items(writer: WeightsWriter | TorchWriter, items: dict[str, Item], report: Report) -> None:
    with writer:
        for name, item in items.items():
            writer.write_raw(name, item.load())
            report.size_bytes += item.info.nbytes


def _infos(items: dict[str, Item]) -> dict[str, TensorInfo]:
    return {name: item.info for name, item in items.items()}


def _write_form(
    plan: Plan, form: Form, output: Path, buffers: bool, shard_bytes: int, base: str | None, report: Report
) -> None:
    items, aliases = _form_items(plan, form, buffers, report)
    if form is PEFT and output.suffix in _FILES:
        raise UserError(f"{output}: {form.title} are a folder, not a {output.suffix} file")
    if output.suffix == ".pt":
        return _write_items(TorchWriter(output, _infos(items), aliases), items, report)
    items |= {key: items[of] for key, of in aliases.items()}
    if output.suffix == ".safetensors":
        return _write_items(WeightsWriter(output, _infos(items), _FROM_TORCH), items, report)
    if form not in _FOLDERS:
        raise UserError(f"{output}: the {form.title} form is a file; name a .pt or .safetensors")
    name, weights, describe = _FOLDERS[form]
    config = describe(plan.config, base)

    def fill(folder: Path) -> None:
        write_text(folder / name, json.dumps(config, indent=2))
        target = folder / weights if weights else folder
        _write_items(WeightsWriter(target, _infos(items), _FROM_TORCH, shard_bytes), items, report)

    _make_folder(output, fill)


def _form_items(
    plan: Plan, form: Form, buffers: bool, report: Report
) -> tuple[dict[str, Item], dict[str, str]]:
    """What the form's file holds: key -> item, and key -> key of the tensor it is a copy of."""
    cfg = plan.config
    if cfg.lora.rank and form is HF_DECODER:
        raise UserError("a Hugging Face decoder has no LoRA; add --merge-lora")
    if not cfg.lora.rank and form is PEFT:
        raise UserError("the model has no LoRA, so there are no adapters to write")
    items: dict[str, Item] = {}
    named: dict[str, str] = {}
    for name, item in plan.items.items():
        key = form.theirs(name, adapted(name, cfg), peft=cfg.lora.rank > 0)
        if key is not None:
            items[key], named[name] = item, key
        elif form is PUBLISHED:
            raise UserError(f"{name} has no name in the published form (adapter.kind {cfg.adapter.kind})")
    report.mapped = {source: named[name] for source, name in report.mapped.items() if name in named}
    left = len(plan.items) - len(named)
    if left:
        report.notes.append(f"{left} tensors are not part of the {form.title} form and stay behind")
    if form is PUBLISHED:
        items |= plan.aside
    for other in form.others:
        # Whisper's classes hold their positions as a weight, the published ones compute them
        if other.pattern in POSITIONS and (buffers or form is not PUBLISHED):
            rows = plan.buffers.get(other.pattern, POSITIONS[other.pattern])
            items[other.pattern] = _buffer(other.pattern, rows, cfg)
    plain = {form.plain(key): key for key in items}
    return items, {o.pattern: plain[o.of] for o in form.others if o.kind == "copy" and o.of in plain}


def _buffer(key: str, rows: int, cfg: ModelConfig) -> Item:
    shape = (rows, cfg.encoder.d_model)
    info = TensorInfo(CODES[cfg.dtype], (1, *shape) if key.endswith(".pe") else shape)

    def load() -> np.ndarray:
        return np.concatenate([encode(block, info.dtype) for block in derived_blocks(key, info.shape, cfg)])

    return Item(info, load)
