"""A training job as dataclasses with a comment per field; `read_job` makes one from YAML and overrides.

Notable choices
- Sections that belong to a system (losses, parts that learn) come from its `JobRules`; a job is still one
  YAML.
- The keys of `parallel`, `parallel_config`, `recompute_config` and `context` are passed on to MindFormers.
  Their names are checked, because MindFormers ignores a misspelt key.
"""

import dataclasses
import functools
import math
import os
from dataclasses import dataclass, field
from typing import ClassVar

from mindspore_osum.config import did_you_mean, from_dict, merge, read_yaml
from mindspore_osum.data.augment import SpecAugment, WaveAugment
from mindspore_osum.data.batches.batching import Shape, bucket_shapes
from mindspore_osum.errors import UserError
from mindspore_osum.folder import CONFIG, read_config
from mindspore_osum.systems.base import System
from mindspore_osum.systems.registry import DEFAULT, preset, presets, system_of
from mindspore_osum.training import mindformers_keys

MODEL = "model"  # the model's folder in a run's folder
DEVICES = ("data_parallel", "model_parallel", "context_parallel", "pipeline_stage")  # their product is all
SCHEDULES = ("inverse_sqrt", "linear", "cosine")
# MindFormers 1.8: core/config_args.py, tools/register/template.py, modules/transformer
_KNOWN_KEYS = {
    "parallel": "parallel_mode full_batch dataset_strategy gradients_mean gradient_fp32_sync search_mode "
    "auto_parallel_search_mode parameter_broadcast strategy_ckpt_load_file strategy_ckpt_save_file "
    "strategy_ckpt_config enable_parallel_optimizer enable_alltoall all_reduce_fusion_config pipeline_stages "
    "grad_accumulation_step parallel_optimizer_config comm_fusion loss_repeated_mean",
    "parallel_config": "data_parallel model_parallel context_parallel expert_parallel pipeline_stage "
    "micro_batch_num seq_split_num use_seq_parallel optimizer_shard gradient_aggregation_group vocab_emb_dp "
    "context_parallel_algo ulysses_degree_in_cp mem_coeff",
    "recompute_config": "recompute parallel_optimizer_comm_recompute mp_comm_recompute "
    "recompute_slice_activation",
    "context": "device_id max_device_memory max_call_depth memory_optimize_level mempool_block_size "
    "deterministic jit_config save_graphs save_graphs_path runtime_num_threads affinity_cpu_list "
    "ascend_config",
}

NO_SPEECH_FRAMES = 2  # of an audio slot in a text-only job: the shortest possible


@dataclass(frozen=True)
class ModelSource:
    """What to start from."""

    start: str  # a preset name (random weights) or a model folder
    overrides: dict = field(default_factory=dict)  # of its ModelConfig, for instance {lora: {rank: 0}}
    system: str = ""  # model_type of the start; needed where that folder is not there yet, unless it is osum


@dataclass(frozen=True)
class Source:
    """One manifest."""

    name: str
    path: str  # .jsonl, .tar, a list of .tar (docs/DATA.md) or an index (docs/SCALE.md)
    weight: float = 1.0  # whole numbers repeat it in every epoch, a fraction takes a random share (published)


@dataclass(frozen=True)
class Data:
    """What to train on."""

    train: list[Source]
    valid: list[Source] = field(default_factory=list)
    # the user's words: "tag" (<asr>, or the wordings of the model's prompt set), "natural" (sentences) or
    # "both" (half and half)
    requests: str = "both"
    # share of the spoken examples that get another task's request; only the text after the tags is a target
    # there, so that the answer depends on the tags and not on the wording of the request
    other_requests: float = 0.0
    cache: bool = False  # keep features in memory as float16: 16 kB per second of audio
    # folder for the frames of a frozen encoder, which reads each recording once, before training; "": none
    encoded: str = ""
    max_errors: int = 100  # wrong lines and recordings that are skipped and reported; one more ends the job
    strict: bool = False  # the first one ends it
    ahead: int = 4  # batches computed ahead of the network


@dataclass(frozen=True)
class Batch:
    """Static shapes: each length bucket compiles one graph."""

    size: int = 1  # rows per process and micro-batch: utterances, or packs
    # audio lengths of the buckets, ascending; [] for text alone
    seconds: list[float] = field(default_factory=lambda: [40.0])
    text_tokens: int = 500  # sequence positions for request, answer and marks, without the speech tokens
    max_tokens: int = 0  # above 0, positions per batch: sets the rows of each bucket; `size` is not used
    pack: int = 0  # above 0, positions of a row that holds several utterances: one shape (docs/PACKING.md)


@dataclass(frozen=True)
class Optimizer:
    """AdamW (Loshchilov & Hutter 2019); norms and biases do not decay. Defaults as published."""

    lr: float = 5e-4  # the peak, at the end of the warm-up
    # peaks of some parts or cells, {adapter: 5e-4, decoder.embed_tokens: 1e-5}; all others have lr
    lr_of: dict[str, float] = field(default_factory=dict)
    betas: list[float] = field(default_factory=lambda: [0.9, 0.99])
    eps: float = 1e-6
    weight_decay: float = 0.01


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then a decay by the optimizer's steps."""

    # published: lr * warmup^0.5 * min(step^-0.5, step * warmup^-1.5); "linear" and "cosine" end at 0
    kind: str = "inverse_sqrt"
    warmup_steps: int = 2000


@dataclass(frozen=True)
class TrainConfig:
    """The part of a job that all systems share; `job_class` adds the sections of a system."""

    system: ClassVar[System]

    output_dir: str  # the run's folder: configs, logs, metrics.jsonl, checkpoints, model
    model: ModelSource
    tokenizer: str  # tokenizer.model
    data: Data
    seed: int = 777  # of weights, data order, augmentation and dropout
    learn: list[str] = field(default_factory=list)  # parts that learn; names and default come from the system
    batch: Batch = field(default_factory=Batch)
    spec_augment: SpecAugment = field(default_factory=SpecAugment)
    wave_augment: WaveAugment = field(default_factory=WaveAugment)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    clip_norm: float = 5.0  # gradients are scaled to at most this global norm
    accumulation: int = 1  # micro-batches per optimizer step
    steps: int = 0  # optimizer steps of the whole job; give this or epochs
    epochs: float = 0.0  # passes over the weighted data
    log_every: int = 10  # steps between two progress lines
    save_every: int = 2500  # steps between two checkpoints
    keep_last: int = 3  # checkpoints that are kept
    max_bad_steps: int = 3  # consecutive steps with a non-finite loss or gradient that stop the run
    device: str = "Ascend"  # "Ascend" or "CPU"
    context: dict = field(default_factory=dict)  # MindFormers `context` keys
    parallel: dict = field(default_factory=dict)  # MindFormers `parallel` keys
    parallel_config: dict = field(default_factory=dict)  # MindFormers `parallel_config` keys
    recompute_config: dict = field(default_factory=dict)  # MindFormers `recompute_config` keys
    callbacks: list[dict] = field(default_factory=list)  # MindFormers callbacks beside ours
    monitor_config: dict = field(default_factory=dict)  # MindFormers `monitor_config` keys
    profiling: dict = field(default_factory=dict)  # MindFormers `profile*` keys, which may be at the top, too

    def __post_init__(self):
        check_job(self)

    @property
    def is_sharded(self) -> bool:
        """Whether the model is sharded over devices: MindFormers' semi-automatic parallel mode."""
        return self.parallel.get("parallel_mode", 0) in (1, "semi_auto_parallel")


@functools.cache
def job_class(system: System) -> type[TrainConfig]:
    """TrainConfig with the sections of a system."""
    return dataclass(frozen=True)(
        type(TrainConfig.__name__, (system.job.Sections, TrainConfig), {"system": system})
    )


def job_from(values: dict, where: str, system: System | None = None) -> TrainConfig:
    """Make a job from plain values; unknown keys are refused.

    Parameters
    ----------
    where : file, for errors.
    system : of its model; None for that of `model.start`, or OSUM while that folder does not exist yet.
    """
    values = mindformers_keys.taken(values, where) if isinstance(values, dict) else values
    return from_dict(job_class(system or system_of_start(values)), values, where)


def system_of_start(values: dict) -> System:
    """The system of the preset or folder named by `model.start`."""
    source = values.get("model")
    source = source if isinstance(source, dict) else {}
    start, named = source.get("start"), source.get("system") or ""
    found = ""
    if isinstance(start, str):
        if start in presets():
            found = preset(start).model_type
        elif os.path.isfile(os.path.join(start, CONFIG)):
            found = read_config(start).model_type
    if named and found not in ("", named):
        raise UserError(
            f"model.system: {named!r}, but {start} is of the system {found}; leave one of them out"
        )
    return system_of(found or named or DEFAULT, "model.system")


def read_job(path: str, overrides: dict | None = None) -> TrainConfig:
    """Read a job from a YAML file and apply `overrides` (of config.parse_overrides); strict about keys."""
    return job_from(merge(read_yaml(path), overrides or {}), path)


def read_stages(paths: list[str], overrides: dict | None = None) -> dict[str, TrainConfig]:
    """Path -> job of several YAML files with `overrides` applied, in the order they are to be run.

    Raises
    ------
    UserError : a mistake in any of them, two jobs with one output folder, or a job whose start model neither
        exists nor is written by an earlier job.
    """
    stages: dict[str, TrainConfig] = {}
    made: dict[str, str] = {}  # folder -> the stage that writes it
    models: dict[str, System] = {}  # model folder -> its system
    for path in paths:
        values = merge(read_yaml(path), overrides or {})
        source = values.get("model")
        written = os.path.normpath(str(source.get("start"))) if isinstance(source, dict) else ""
        cfg = job_from(values, path, models.get(written))
        folder, start = os.path.normpath(cfg.output_dir), cfg.model.start
        if folder in made:
            raise UserError(f"{path}: output_dir {folder} is that of {made[folder]} too; give it its own")
        known = start in presets() or os.path.isdir(start)
        if not known and os.path.normpath(start) not in models:
            names = {*presets(), *models}
            raise UserError(
                f"{path}: model.start: {start!r} is no folder, no preset, and no earlier stage writes it"
                f"{did_you_mean(start, names)}"
            )
        made[folder], models[os.path.join(folder, MODEL)], stages[path] = path, cfg.system, cfg
    return stages


def to_dict(cfg: TrainConfig) -> dict:
    """Plain dictionaries and lists, as saved in the run's folder."""
    return dataclasses.asdict(cfg)


def own_sections(cfg: TrainConfig) -> dict:
    """The sections that belong to the system, as plain values, without those that all jobs have."""
    shared = {f.name for f in dataclasses.fields(TrainConfig)}
    return {name: values for name, values in to_dict(cfg).items() if name not in shared}


def check_job(cfg: TrainConfig) -> None:
    """Refuse values that cannot work, naming the key."""

    def need(ok: bool, what: str):
        if not ok:
            raise UserError(what)

    def one_of(name: str, value: str, known):
        need(value in known, f"{name}: {value!r} is unknown{did_you_mean(str(value), known)}")

    check_finite(to_dict(cfg))
    parts = cfg.system.job.parts
    need(bool(cfg.learn), "learn: names no part; give some of " + ", ".join(parts))
    for part in cfg.learn:
        one_of("learn", part, parts)
    one_of("schedule.kind", cfg.schedule.kind, SCHEDULES)
    one_of("data.requests", cfg.data.requests, ("tag", "natural", "both"))
    one_of("device", cfg.device, ("Ascend", "CPU"))
    need((cfg.steps > 0) != (cfg.epochs > 0), "steps, epochs: give exactly one of them, above 0")
    seconds = cfg.batch.seconds
    ascending = seconds == sorted(set(seconds)) and all(s > 0 for s in seconds)
    need(ascending, f"batch.seconds: {seconds} must be ascending lengths above 0")
    check_data(cfg.data)
    check_batch(cfg.batch)
    for name in (
        "batch.size",
        "batch.text_tokens",
        "accumulation",
        "log_every",
        "save_every",
        "keep_last",
        "max_bad_steps",
        "data.ahead",
        "schedule.warmup_steps",
        "spec_augment.time_max",
        "spec_augment.freq_max",
        "spec_augment.sub_max",
    ):
        need(_value(cfg, name) >= 1, f"{name}: {_value(cfg, name)} must be at least 1")
    for name in ("optimizer.lr", "optimizer.eps", "clip_norm"):
        need(_value(cfg, name) > 0, f"{name}: {_value(cfg, name)} must be above 0")
    for name in (
        "optimizer.weight_decay",
        "seed",
        "spec_augment.time_masks",
        "spec_augment.freq_masks",
        "spec_augment.subs",
        "data.max_errors",
    ):
        need(_value(cfg, name) >= 0, f"{name}: {_value(cfg, name)} must not be negative")
    check_rates(cfg)
    betas = cfg.optimizer.betas
    valid = len(betas) == 2 and all(0 < b < 1 for b in betas)
    need(valid, f"optimizer.betas: {betas} must be two numbers in (0, 1)")
    cached = cfg.data.cache and cfg.wave_augment.active
    need(not cached, "data.cache: keeps features, which wave_augment changes each time; give one of them up")
    if cfg.data.encoded:
        check_encoded(cfg)
    cfg.system.job.check(cfg)
    check_passed_on(cfg)
    mindformers_keys.check(cfg.callbacks, cfg.profiling, cfg.monitor_config)
    if cfg.is_sharded:
        check_sharded(cfg)


def check_rates(cfg: TrainConfig) -> None:
    """Refuse learning rates of parts that do not learn; cells are looked up in the model (part_rates.py)."""
    for key, rate in cfg.optimizer.lr_of.items():
        if rate <= 0:
            raise UserError(f"optimizer.lr_of.{key}: {rate} must be above 0; a part that learns is in learn")
        if "." not in key and key not in cfg.learn:
            raise UserError(
                f"optimizer.lr_of: {key!r} is no part that learns{did_you_mean(key, cfg.learn)} (learn), or "
                "cells within them, such as decoder.embed_tokens"
            )


def check_finite(values, path: str = "") -> None:
    """Refuse infinity and NaN anywhere in a job's mappings and lists, naming the key."""
    if isinstance(values, float) and not math.isfinite(values):
        raise UserError(f"{path}: {values} must be a finite number")
    if isinstance(values, dict):
        for key, value in values.items():
            check_finite(value, f"{path}.{key}" if path else str(key))
    if isinstance(values, list):
        for i, value in enumerate(values):
            check_finite(value, f"{path}[{i}]")


def check_data(data: Data) -> None:
    """Refuse data without manifests, or weights that leave no example of a manifest."""
    if not data.train:
        raise UserError("data.train: names no manifest")
    for split, sources in (("train", data.train), ("valid", data.valid)):
        for source in sources:
            if source.weight <= 0:
                raise UserError(f"data.{split}: weight {source.weight} of {source.name!r} must be above 0")
    if not 0 <= data.other_requests <= 1:
        raise UserError(f"data.other_requests: {data.other_requests} is a share, from 0 to 1")


def check_encoded(cfg: TrainConfig) -> None:
    """Refuse what changes the input of an encoder, or the encoder, whose frames are kept."""
    masks = cfg.spec_augment
    changed = {
        "learn": "encoder" in cfg.learn or "encoder" not in cfg.system.job.parts,
        "wave_augment": cfg.wave_augment.active,
        "spec_augment": masks.time_masks + masks.freq_masks + masks.subs > 0,
        "data.cache": cfg.data.cache,
        "parallel.parallel_mode": cfg.is_sharded,
    }
    for key in (key for key, is_so in changed.items() if is_so):
        raise UserError(f"{key}: data.encoded keeps what a frozen encoder makes of recordings; turn this off")


def check_passed_on(cfg: TrainConfig) -> None:
    """Refuse MindFormers keys that do not exist there, or values that cannot work here."""
    for section, words in _KNOWN_KEYS.items():
        known = words.split()
        for key in getattr(cfg, section):
            if key not in known:
                raise UserError(f"{section}: unknown key {key!r}{did_you_mean(str(key), known)}")
    mode = cfg.parallel.get("parallel_mode", 0)
    if not cfg.is_sharded and mode not in (0, "data_parallel"):
        raise UserError(
            f"parallel.parallel_mode: {mode!r} is not supported; 0 is data parallel, 1 semi-automatic"
        )
    for name in (*DEVICES, "micro_batch_num"):
        size = cfg.parallel_config.get(name, 1)
        if type(size) is not int or size < 1:
            raise UserError(f"parallel_config.{name}: {size!r} must be a whole number of at least 1")
    recompute = cfg.recompute_config.get("recompute", False)
    if not isinstance(recompute, bool):
        raise UserError(f"recompute_config.recompute: {recompute!r} must be true (all layers) or false")


def check_sharded(cfg: TrainConfig) -> None:
    """Refuse what a model that is sharded over devices cannot do, naming the key."""
    unsupported = {
        "batch.pack": cfg.batch.pack > 0,
        "parallel.full_batch": cfg.parallel.get("full_batch") is False,
        "parallel.gradients_mean": cfg.parallel.get("gradients_mean") is True,
    }
    for key in (*cfg.system.job.unsharded(cfg), *(key for key, is_set in unsupported.items() if is_set)):
        raise UserError(
            f"{key}: cannot be used with parallel.parallel_mode 1; leave it out, or give "
            "parallel_mode 0 (data parallel)"
        )
    stages = cfg.parallel_config.get("pipeline_stage", 1)
    if stages > cfg.accumulation:
        raise UserError(
            f"accumulation: {cfg.accumulation} micro-batches do not fill {stages} stages of a "
            f"pipeline; give {stages} or more"
        )
    if stages > 1 and cfg.data.valid:
        raise UserError(
            "data.valid: cannot be measured in a pipeline; leave it out, and measure checkpoints "
            "with `osum merge-checkpoint` and `osum eval`"
        )
    if cfg.parallel_config.get("micro_batch_num", cfg.accumulation) != cfg.accumulation:
        raise UserError(
            "parallel_config.micro_batch_num: leave it out; the micro-batches of a step are "
            f"accumulation, {cfg.accumulation}"
        )


def check_batch(batch: Batch) -> None:
    """Refuse batch settings that exclude each other."""
    if batch.max_tokens < 0 or batch.pack < 0:
        raise UserError("batch.max_tokens, batch.pack: must not be negative")
    if batch.pack and (batch.max_tokens or len(batch.seconds) > 1):
        raise UserError(
            "batch.pack: packs have one shape; leave max_tokens out and give one length, that of "
            "the longest recording, in seconds"
        )


def shapes_of(batch: Batch, model) -> list[Shape]:
    """The static shapes of a job, one for each length, for a model with this Config.

    Raises
    ------
    UserError : packs too short for the longest example.
    """
    frames = [model.features.frames_in(seconds) for seconds in batch.seconds]
    longest = bucket_shapes(model, 1, frames[-1:] or [0], batch.text_tokens)[0].length
    if 0 < batch.pack < longest:
        raise UserError(
            f"batch.pack: {batch.pack} positions are less than the {longest} that batch.seconds "
            "and batch.text_tokens allow one utterance; raise it or lower them"
        )
    return bucket_shapes(model, batch.size, frames or [NO_SPEECH_FRAMES], batch.text_tokens, batch.max_tokens)


def _value(cfg: TrainConfig, path: str):
    node = cfg
    for name in path.split("."):
        node = getattr(node, name)
    return node
