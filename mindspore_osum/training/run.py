"""One training run: from a job to a model folder, resuming where an earlier run of the job stopped.

Notable choices
- A run resumes automatically from the newest checkpoint in its folder; a job with other settings is refused.
- Every process reads the same manifests and takes its own share of each step (data parallel).
- The first process holds a lock in the run's folder, so that two runs cannot overwrite each other's
  checkpoints.
"""

import contextlib
import math
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mindspore_osum.allocator import keep_freed_memory
from mindspore_osum.config import did_you_mean, from_dict, merge
from mindspore_osum.data.augment import Augment
from mindspore_osum.data.batches.batching import Shape
from mindspore_osum.data.batches.extractor import Extractor
from mindspore_osum.data.batches.loader import Corpus, Loader, Steps, generator_dataset
from mindspore_osum.data.checks import Errors
from mindspore_osum.data.formats.store import Utterances
from mindspore_osum.data.index.reading import is_index
from mindspore_osum.errors import UserError
from mindspore_osum.files import write_text
from mindspore_osum.folder import read_config
from mindspore_osum.systems.config import Config
from mindspore_osum.systems.registry import preset, presets
from mindspore_osum.text.tokenizer import Tokenizer, open_tokenizer
from mindspore_osum.training import checkpoint, part_rates
from mindspore_osum.training import mindformers_job as job
from mindspore_osum.training.config import DEVICES, TrainConfig, read_job, shapes_of, to_dict
from mindspore_osum.training.indexing import reading_of, tokenizer_digest
from mindspore_osum.training.lock import locked
from mindspore_osum.training.model_files import is_written, restored, weights_digest, write_model, written_at
from mindspore_osum.training.report import say, writing
from mindspore_osum.weights_io import open_weights

# settings that do not affect the results: they may differ when a run is resumed
FREE = {
    "output_dir",
    "steps",
    "epochs",
    "log_every",
    "save_every",
    "keep_last",
    "tokenizer",
    "model",
    "context",
    "max_bad_steps",
    "callbacks",
    "monitor_config",
    "profiling",
}
FREE_DATA = {"valid", "ahead", "strict", "max_errors"}
# schedules whose rate at a step depends on the length of the whole job
ENDING = {"linear", "cosine"}


@dataclass(frozen=True)
class Run:
    """A prepared job, as training/monitor.py uses it."""

    cfg: TrainConfig
    folder: Path
    loader: Loader
    valid: Loader | None  # validation data
    first: int  # steps [first, last) are run
    last: int
    resume: Path | None  # checkpoint to start from
    fingerprint: dict  # settings that must be equal when the run is resumed
    written: int  # time of the model folder before the run; see model_files.py
    rank: int = 0  # of this process
    ranks: int = 1

    @property
    def speech(self) -> bool:
        """Whether any example has a recording."""
        return any(any(loader.corpus.frames) for loader in (self.loader, self.valid) if loader)


def run_job(
    cfg: TrainConfig, fresh: bool = False, from_step: int | None = None, config_only: bool = False
) -> int:
    """Train a job; resumes from the newest whole checkpoint of the run's folder unless `fresh`.

    Parameters
    ----------
    from_step : resume from the checkpoint of this step instead.
    config_only : write the run's YAML files and train nothing.

    Returns
    -------
    0, or 128 + the signal that stopped the run (143 SIGTERM, 130 SIGINT) after its checkpoint was written.
    While a graph runs, MindSpore turns SIGINT into SIGTERM, so Ctrl-C usually gives 143 too.

    Raises
    ------
    UserError : a mistake in the job or its data, another run in its folder, or a loss that is not finite.
    """
    if cfg.device == "CPU":
        keep_freed_memory()
    tokenizer = open_tokenizer(cfg.tokenizer)
    model, start = model_config(cfg, tokenizer)
    with locked(Path(cfg.output_dir)) if process()[0] == 0 else contextlib.nullcontext():
        run = prepare(cfg, model, start, tokenizer, fresh, from_step)
        if config_only:
            if run.rank == 0:
                write_configs(run, model, start, tokenizer.vocab_size)
                say(f"written: {run.folder / 'mindformers.yaml'}")
            return 0
        if run.first < run.last:
            return run_steps(run, model, start, tokenizer.vocab_size)
        finish(run, model, start)
        return 0


def write_configs(run: Run, model: Config, start: str, vocab: int) -> None:
    """Write the job and what MindFormers gets of it into the run's folder."""
    config = job.mindformers_config(run.cfg, model, start, vocab, run.last, run.ranks, run.speech)
    with writing(run.folder):
        run.folder.mkdir(parents=True, exist_ok=True)
        write_text(run.folder / "config.yaml", job.yaml_text(to_dict(run.cfg)))
        write_text(run.folder / "mindformers.yaml", job.yaml_text(config))


def finish(run: Run, model: Config, start: str, network=None) -> None:
    """Write the model of a run whose steps are done, if it is not written yet.

    Parameters
    ----------
    network : the training network; None if the run trained nothing in this process.
    """
    if network is None:
        say(f"{run.folder}: trained to step {run.first} already")
        if not is_written(run):
            write_model(run, lambda: restored(run.resume, model, start, run.cfg.seed, run.cfg.learn))
    else:
        parts = run.cfg.is_sharded or run.cfg.data.encoded  # of the model, in the network
        write_model(run, lambda: last_model(run, model, start) if parts else network.model)


def run_steps(run: Run, model: Config, start: str, vocab: int) -> int:
    """Train the remaining steps of a run and write its model; returns the status of `run_job`."""
    write_configs(run, model, start, vocab)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        monitor = train(run)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if monitor.signal:
        return 128 + monitor.signal
    finish(run, model, start, monitor.network)
    return 0


def last_model(run: Run, model: Config, start: str):
    """The full model of the newest checkpoint, for runs whose processes hold slices."""
    newest = checkpoint.found(run.folder / "checkpoints")[-1][1]
    return restored(newest, model, start, run.cfg.seed, run.cfg.learn)


def prepare(
    cfg: TrainConfig,
    model: Config,
    start: str,
    tokenizer: Tokenizer,
    fresh: bool,
    from_step: int | None = None,
) -> Run:
    """Scan the data, find the checkpoint to resume from, and report both."""
    folder, (rank, ranks) = Path(cfg.output_dir), process()
    if fresh and checkpoint.found(folder / "checkpoints"):
        raise UserError(f"{folder}: has checkpoints, but a fresh run is asked for; change output_dir")
    newest = checkpoint.choose(folder / "checkpoints", from_step)
    parts, rates = check_devices(cfg, ranks), part_rates.report(cfg.optimizer, cfg.learn, model)
    data, valid = corpora(cfg, model, tokenizer, parts)
    for line in data.report + data.extractor.report() + (valid.report if valid else []) + rates:
        say(line)
    augment = Augment(cfg.spec_augment, cfg.wave_augment)
    # every process of a sharded model gets the whole step at once
    split = (1, 0, 1) if cfg.is_sharded else (cfg.accumulation, rank, ranks)
    other = cfg.data.other_requests
    loader = Loader(data, cfg.seed, *split, augment, cfg.data.cache, cfg.batch.pack, other)
    say(loader.report())
    last = cfg.steps or math.ceil(cfg.epochs * loader.steps_per_epoch)
    fingerprint = job_fingerprint(cfg, model, start, loader, parts, last)
    first, resume = newest or (0, None)
    if resume:
        check_fingerprint(resume, fingerprint)
        say(f"resuming from {resume}")
        loader.resume_at(first, *checkpoint.position(resume))
    check = Loader(valid, cfg.seed, pack=cfg.batch.pack) if valid else None
    run = Run(cfg, folder, loader, check, first, last, resume, fingerprint, written_at(folder), rank, ranks)
    for name in () if run.speech else cfg.system.job.needs_speech(cfg):
        raise UserError(f"{name}.weight: {name} reads speech, and no example has a recording; leave it 0")
    return run


def train(run: Run):
    """Run `mindformers.Trainer`; returns its RunMonitor."""
    steps, monitors = Steps(run.loader, run.first, run.last), []
    try:
        with job.quiet(run.folder, run.rank):
            mindformers = job.import_mindformers(run.folder)
            from mindspore_osum.training.monitor import RunMonitor

            def data(**_):
                return generator_dataset(steps, run.cfg.data.ahead)

            def callback(**_):
                monitors.append(RunMonitor(run))
                return monitors[0]

            job.register(data, callback)
            job.check_callbacks(run.cfg)
            config = mindformers.MindFormerConfig(str(run.folder / "mindformers.yaml"))
            job.without_plugin(config)
            mindformers.build_context(config)
            mindformers.Trainer(args=config).train()
    except RuntimeError:
        if steps.error is not None:  # a worker's error, which the dataset passed on as text
            raise steps.error from None
        raise
    return monitors[0]


def process() -> tuple[int, int]:
    """(rank, number of processes), as msrun sets them in the environment.

    msrun's scheduler runs the same script, also as rank 0, until MindSpore takes it over. Here it gets the
    rank after the workers, and it writes no results. It scans the data as they do, to find out whether there
    is anything to train; otherwise it would wait for workers that never start.
    """
    if "MS_ROLE" not in os.environ:
        return 0, 1
    ranks = int(os.environ["MS_WORKER_NUM"])
    return ranks if os.environ["MS_ROLE"] == "MS_SCHED" else int(os.environ["RANK_ID"]), ranks


def model_config(cfg: TrainConfig, tokenizer: Tokenizer) -> tuple[Config, str]:
    """The model to train, and the folder its weights come from ("" for random ones)."""
    start = cfg.model.start
    is_folder = start not in presets()
    if is_folder and not Path(start).is_dir():
        raise UserError(f"model.start: {start!r} is no folder and no preset{did_you_mean(start, presets())}")
    base = read_config(start) if is_folder else preset(start)
    model = from_dict(type(base), merge(base.to_dict(), cfg.model.overrides), f"model.overrides on {start}")
    if cfg.device == "CPU" and model.dtype == "bfloat16":  # not even Reshape has a kernel of it
        raise UserError(
            "model.overrides.dtype: bfloat16 cannot be trained on CPU, whose operators lack it; give "
            "--set model.overrides.dtype=float32, or device: Ascend"
        )
    model = cfg.system.job.model(cfg, model)
    cfg.system.job.check_model(cfg, model, tokenizer)
    if is_folder:  # before a network of these sizes takes memory
        with open_weights(start) as weights:
            checkpoint.check_start(weights, cfg.system.shapes(model), cfg.system.growing)
    return model, start if is_folder else ""


def check_devices(cfg: TrainConfig, ranks: int) -> int:
    """The number of devices that the batch of a sharded model is divided among; 1 without sharding.

    Raises
    ------
    UserError : parallel_config does not use all processes, or there is only one.
    """
    if not cfg.is_sharded:
        return 1
    sizes = [cfg.parallel_config.get(name, 1) for name in DEVICES]
    if math.prod(sizes) != ranks:
        cut = " x ".join(f"{name} {size}" for name, size in zip(DEVICES, sizes, strict=True))
        raise UserError(
            f"parallel_config: {cut} = {math.prod(sizes)} devices, but {ranks} processes run; "
            "change one of them"
        )
    if ranks == 1:
        raise UserError(
            "parallel.parallel_mode: 1 shards the model over processes, and there is one; start "
            "more with scripts/msrun_launcher.sh, or give 0"
        )
    return sizes[0]


def corpora(
    cfg: TrainConfig, model: Config, tokenizer: Tokenizer, parts: int = 1
) -> tuple[Corpus, Corpus | None]:
    """Training and validation corpus; validation has its own request sentences and only the largest shape.

    Parameters
    ----------
    parts : of `check_devices`. A batch of a sharded model is the global batch of all devices, in training
        with all micro-batches.
    """
    room, shapes = cfg.batch.text_tokens, shapes_of(cfg.batch, model)
    shapes = [replace(shape, size=shape.size * parts) for shape in shapes]
    step = [replace(s, size=s.size * cfg.accumulation) for s in shapes] if cfg.is_sharded else shapes

    errors = Errors(cfg.data.max_errors, cfg.data.strict)
    encoded = encoding(cfg, model)

    def corpus(sources, split: str, shapes: list[Shape]) -> Corpus:
        manifests = [(s.name, s.path, s.weight) for s in sources]
        asked = {"requests": cfg.data.requests, "room": room, "seed": cfg.seed, "split": split}
        extractor = encoded(cfg.system.extractor(model, tokenizer, cfg, **asked))
        wave = cfg.wave_augment if split == "train" else None
        return Corpus(manifests, extractor, shapes, errors, wave, reading_of(cfg, extractor, split))

    train = corpus(cfg.data.train, "train", step)
    return train, corpus(cfg.data.valid, "valid", shapes[-1:]) if cfg.data.valid else None


def job_extractor(path: str, overrides: dict, split: str) -> Extractor:
    """The extractor of the job in a YAML file; each process of an index makes its own."""
    cfg = read_job(path, overrides)
    tokenizer = open_tokenizer(cfg.tokenizer)
    model, _ = model_config(cfg, tokenizer)
    asked = {"requests": cfg.data.requests, "room": cfg.batch.text_tokens, "seed": cfg.seed, "split": split}
    return cfg.system.extractor(model, tokenizer, cfg, **asked)


def encoding(cfg: TrainConfig, model: Config) -> Callable:
    """What makes extractors give the frames of the start's encoder, or leaves them as they are.

    Raises
    ------
    UserError : frames of an encoder of random weights, or of the recordings of an index.
    """
    if not cfg.data.encoded:
        return lambda extractor: extractor
    if index := next((s.path for s in (*cfg.data.train, *cfg.data.valid) if is_index(s.path)), None):
        raise UserError(
            f"data.encoded: reads every recording before training, which the index {index} saves; leave it "
            "out, or give the manifests instead of the index"
        )
    if cfg.model.start in presets():
        raise UserError("data.encoded: a preset has random weights; give a model folder as model.start")
    from mindspore_osum.training.encoded import EncodedExtractor, FrameStore

    store = FrameStore(model, cfg.model.start, cfg.data.encoded)
    return lambda extractor: EncodedExtractor(extractor, store)


def job_fingerprint(
    cfg: TrainConfig, model: Config, start: str, loader: Loader, parts: int, steps: int
) -> dict:
    """The settings that determine the results of a run. The layout does not, so a sharded model counts as one
    process with all rows of a step; the number of `steps` does where the schedule knows its end."""
    values = {key: value for key, value in to_dict(cfg).items() if key not in FREE}
    if cfg.is_sharded:
        rows = cfg.batch.size * parts * cfg.accumulation
        values |= {
            "batch": {**values["batch"], "size": rows},
            "accumulation": 1,
            "parallel": {},
            "parallel_config": {},
            "recompute_config": {},
        }
    values["data"] = {key: value for key, value in values["data"].items() if key not in FREE_DATA}
    if cfg.schedule.kind in ENDING:
        values["schedule"] = {**values["schedule"], "total_steps": steps}
    # as a list, of which an entry more is a difference, too
    values["optimizer"] = {**values["optimizer"], "lr_of": sorted(cfg.optimizer.lr_of.items())}
    values["data"]["train"] = [{"name": s.name, "weight": s.weight} for s in cfg.data.train]
    return job.plain(
        {
            **values,
            "ranks": loader.ranks,
            "utterances": len(loader.corpus.utterances),
            **data_digests(loader.corpus.utterances),
            "tokenizer_digest": tokenizer_digest(cfg),
            "start_weights": weights_digest(start) if start else "",
            "model": model.to_dict(),
        }
    )


def data_digests(utterances: Utterances) -> dict:
    """The hashes of a corpus: `data_digest` only where its utterances were read, not taken from an index."""
    read = {"data_digest": utterances.digest} if utterances.digest else {}
    return read | {"data_lines": utterances.lines.hexdigest()[:16]}


def check_fingerprint(resume: Path, now: dict) -> None:
    """Refuse to resume a run whose job has changed, naming what differs."""
    before = checkpoint.read_about(resume)["fingerprint"]
    if isinstance(before.get("optimizer"), dict):  # an older version had one rate
        before = {**before, "optimizer": {"lr_of": [], **before["optimizer"]}}
    if "data_digest" not in now and "data_lines" not in before:
        raise UserError(
            f"{resume}: an earlier version wrote it, whose digest of the data cannot be compared with an "
            "index; resume once with the manifests themselves in data.train"
        )
    difference = _first_difference(before, now)
    if difference.startswith("schedule.total_steps "):
        kind, old = now["schedule"]["kind"], before["schedule"]["total_steps"]
        raise UserError(
            f"{resume}: the job has changed since, {difference}: a {kind} schedule ends with its job, so the "
            f"learning rate would jump; make it {old} steps again, or train on from the finished model "
            "(model.start) with another output_dir"
        )
    if difference:
        raise UserError(
            f"{resume}: the job has changed since, {difference}; change it back, or start anew with "
            "another output_dir"
        )


def _first_difference(before: dict, now: dict) -> str:
    """'key was x, is y' for the first setting that both have and that differs; "" if there is none."""
    for key in [key for key in now if key in before]:
        old, new = before[key], now[key]
        if isinstance(old, dict) and isinstance(new, dict):
            inner = _first_difference(old, new)
            if inner:
                return f"{key}.{inner}"
        elif old != new:
            return f"{key} was {old}, is {new}"
    return ""
