"""A job run by `mindformers.Trainer`: translation of TrainConfig, registration of our classes, the run itself.

Notable choices
- MindFormers builds network, optimizer, schedule and step cell from its config, by the names registered here; the
  config it gets is saved as mindformers.yaml in the run's folder.
- The whole run is one MindSpore "epoch"; epochs of the data are the loader's business, which makes resuming exact.
- MindFormers' messages go to <run>/log, ours to stderr.

Legend: see data/batching.py.
"""

import contextlib
import json
import logging
import math
import os
from pathlib import Path

from mindspore_osum.config import ModelConfig, from_dict, merge
from mindspore_osum.data.batching import Shape, Texts
from mindspore_osum.data.loader import Augment, Corpus, Loader, Steps, generator_dataset
from mindspore_osum.errors import UserError
from mindspore_osum.folder import read_config, save_folder
from mindspore_osum.models.presets import PRESETS, preset
from mindspore_osum.text.prompts import load_prompt_set
from mindspore_osum.text.tokenizer import Tokenizer
from mindspore_osum.training import checkpoint
from mindspore_osum.training.config import TrainConfig, to_dict
from mindspore_osum.weights_io import write_text


def model_config(cfg: TrainConfig, tokenizer: Tokenizer) -> tuple[ModelConfig, str]:
    """The model to train, and the folder its weights come from ("" for random ones)."""
    start = cfg.model.start
    is_preset = start in PRESETS
    if not is_preset and not Path(start).is_dir():
        preset(start)  # says which preset may be meant
    base = preset(start) if is_preset else read_config(start)
    model = from_dict(ModelConfig, merge(base.to_dict(), cfg.model.overrides), f"model.overrides on {start}")
    if tokenizer.vocab_size > model.decoder.vocab_size:
        raise UserError(f"{cfg.tokenizer}: {tokenizer.vocab_size} pieces, but the model's decoder.vocab_size is "
                        f"{model.decoder.vocab_size}; set model.overrides.decoder.vocab_size")
    for name in ("bos_id", "eos_id"):
        if getattr(tokenizer, name) != getattr(model.decoder, name):
            raise UserError(f"{cfg.tokenizer}: {name} is {getattr(tokenizer, name)}, the model's decoder.{name} is "
                            f"{getattr(model.decoder, name)}; they must agree")
    if "lora" in cfg.learn and not model.lora.rank:
        raise UserError("learn: names lora, but the model's lora.rank is 0; set model.overrides.lora.rank")
    return model, "" if is_preset else start


def corpora(cfg: TrainConfig, model: ModelConfig, tokenizer: Tokenizer) -> tuple[Corpus, Corpus | None]:
    """Training and validation corpus; validation asks by the tag and uses the largest shape only."""
    prompts = load_prompt_set(model.prompts)
    shapes = [Shape(cfg.batch.size, round(s * 100), cfg.batch.text_tokens) for s in cfg.batch.seconds]

    def corpus(sources, kind, shapes):
        return Corpus([(s.name, s.path, s.weight) for s in sources], Texts(tokenizer, prompts, kind), shapes,
                      model.encoder, cfg.ctc.at if cfg.ctc.weight > 0 else "", cfg.data.strict)

    return (corpus(cfg.data.train, cfg.data.requests, shapes),
            corpus(cfg.data.valid, "tag", shapes[-1:]) if cfg.data.valid else None)


def mindformers_config(cfg: TrainConfig, model: ModelConfig, start: str, vocab: int, steps: int, parallel: bool) -> dict:
    """The job in MindFormers' words."""
    return {
        "seed": cfg.seed,
        "run_mode": "train",
        "use_parallel": parallel,
        "output_dir": str(Path(cfg.output_dir) / "mindformers"),
        "load_checkpoint": "",
        "trainer": {"type": "CausalLanguageModelingTrainer", "model_name": "osum"},
        "runner_config": {"epochs": 1, "batch_size": cfg.batch.size, "sink_mode": False, "sink_size": 1},
        "runner_wrapper": {"type": "OsumTrainOneStepCell", "use_clip_grad": True, "max_grad_norm": cfg.clip_norm,
                           "scale_sense": 1.0, "accumulation": cfg.accumulation},
        "optimizer": {"type": "AdamW", "betas": cfg.optimizer.betas, "eps": cfg.optimizer.eps,
                      "weight_decay": cfg.optimizer.weight_decay},
        "lr_schedule": {"type": "WarmupLR", "learning_rate": cfg.optimizer.lr, "warmup_steps": cfg.schedule.warmup_steps,
                        "total_steps": steps, "kind": cfg.schedule.kind},
        "model": {
            "model_config": {"type": "OsumTrainingConfig", "model": json.loads(json.dumps(model.to_dict())),
                             "start": start, "learn": cfg.learn, "ctc_weight": cfg.ctc.weight, "ctc_at": cfg.ctc.at,
                             "ctc_vocab": vocab, "seed": cfg.seed},
            "arch": {"type": "OsumForTraining"},
        },
        # MindFormers asks for a loader section even when a dataset is handed over
        "train_dataset": {"data_loader": {"type": "MindDataset", "dataset_dir": ""}, "batch_size": cfg.batch.size},
        "train_dataset_task": {"type": "CausalLanguageModelDataset", "dataset_config": {}},
        "callbacks": [{"type": "MFLossMonitor", "per_print_times": cfg.log_every}],
        "context": {"mode": 0, "device_target": cfg.device, **cfg.context},
        "parallel": {"parallel_mode": 0, "full_batch": False, "gradients_mean": True,
                     "strategy_ckpt_save_file": str(Path(cfg.output_dir) / "mindformers" / "strategy.ckpt"),
                     **cfg.parallel},
        "parallel_config": cfg.parallel_config,
        "recompute_config": cfg.recompute_config,
    }


def register() -> None:
    """Tell MindFormers our classes by name."""
    from mindformers.tools.register import MindFormerModuleType, MindFormerRegister

    from mindspore_osum.training.network import OsumForTraining, OsumTrainingConfig
    from mindspore_osum.training.schedule import WarmupLR
    from mindspore_osum.training.step import OsumTrainOneStepCell

    for kind, cls in ((MindFormerModuleType.CONFIG, OsumTrainingConfig), (MindFormerModuleType.MODELS, OsumForTraining),
                      (MindFormerModuleType.LR, WarmupLR), (MindFormerModuleType.WRAPPER, OsumTrainOneStepCell)):
        MindFormerRegister.register_cls(cls, kind)


def prepare_logs(folder: Path) -> None:
    """Send MindFormers' messages to the run's folder; must come before MindFormers is imported."""
    os.environ.setdefault("LOG_MF_PATH", str(folder / "log"))
    os.environ.setdefault("LOCAL_DEFAULT_PATH", str(folder / "mindformers"))
    os.environ.setdefault("GLOG_v", "3")  # MindSpore's C++ side: errors only


def run_job(cfg: TrainConfig, fresh: bool = False) -> int:
    """Train; resumes from the newest checkpoint of the run's folder unless `fresh`.

    Returns
    -------
    0, or 128 + the signal that stopped the run (130 SIGINT, 143 SIGTERM) after its checkpoint was written.

    Raises
    ------
    UserError : a mistake in the job or its data, or a loss that is not finite.
    """
    folder = Path(cfg.output_dir)
    tokenizer = Tokenizer(cfg.tokenizer)
    model, start = model_config(cfg, tokenizer)
    newest = checkpoint.found(folder / "checkpoints")[-1:]
    if newest and fresh:
        raise UserError(f"{folder}: holds checkpoints, but a fresh run was asked for; remove the folder or give another "
                        "output_dir")
    parallel = "MS_ROLE" in os.environ  # set by msrun
    prepare_logs(folder)
    from mindspore_osum.training.monitor import RunMonitor, say

    train, valid = corpora(cfg, model, tokenizer)
    for line in train.report + (valid.report if valid else []):
        say(line)
    say("importing MindFormers")
    config = None
    with quiet(folder):
        import mindformers

        register()
        silence_console()
        ranks = int(os.environ.get("MS_WORKER_NUM", "1")) if parallel else 1
        loader = Loader(train, cfg.seed, cfg.accumulation, 0, ranks, augment(cfg), cfg.data.cache)
        last = cfg.steps or math.ceil(cfg.epochs * loader.steps_per_epoch)
        text = yaml_text(mindformers_config(cfg, model, start, tokenizer.vocab_size, last, parallel))
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "config.yaml", yaml_text(to_dict(cfg)))
        write_text(folder / "mindformers.yaml", text)
        config = mindformers.MindFormerConfig(str(folder / "mindformers.yaml"))
        mindformers.build_context(config)
        if parallel:
            from mindspore.communication import get_rank

            loader.rank = get_rank()
    first, resume, fingerprint = 0, None, job_fingerprint(cfg, model, start, loader)
    if newest:
        first, resume = newest[0]
        check_fingerprint(resume, fingerprint)
        say(f"resuming from {resume}")
    if first >= last:
        say(f"{folder}: already trained to step {first}")
        return 0
    steps = Steps(loader, first, last)
    monitor = RunMonitor(cfg, folder, loader, first, last, resume=resume, fingerprint=fingerprint,
                         main=loader.rank == 0, valid=Loader(valid, cfg.seed) if valid else None)
    with quiet(folder):
        trainer = mindformers.Trainer(args=config, train_dataset=generator_dataset(steps, cfg.data.ahead),
                                      callbacks=[monitor])
        try:
            trainer.train()
            if loader.rank == 0 and not monitor.signal:
                save_folder(folder / "model", monitor.network.model, cfg.tokenizer)
                say(f"the model: {folder / 'model'}")
        except Exception:
            if steps.error is not None:
                raise steps.error from None
            raise
    return 128 + monitor.signal if monitor.signal else 0


def augment(cfg: TrainConfig) -> Augment:
    """SpecAugment of the job."""
    return Augment(**vars(cfg.spec_augment))


def yaml_text(values: dict) -> str:
    """YAML in the order of the fields."""
    import yaml

    return yaml.safe_dump(json.loads(json.dumps(values)), sort_keys=False, allow_unicode=True)


def job_fingerprint(cfg: TrainConfig, model: ModelConfig, start: str, loader: Loader) -> dict:
    """What decides the numbers of a run: the same in a run and in its resumption."""
    job = to_dict(cfg)
    for free in ("output_dir", "steps", "epochs", "log_every", "save_every", "keep_last", "tokenizer", "model", "context"):
        del job[free]
    for free in ("valid", "ahead", "strict"):
        del job["data"][free]
    for source in job["data"]["train"]:
        del source["path"]
    job["ranks"] = loader.ranks
    job["utterances"] = len(loader.corpus.utterances)
    job["start"] = start
    job["model"] = model.to_dict()
    return json.loads(json.dumps(job))


def check_fingerprint(resume: Path, fingerprint: dict) -> None:
    """Refuse to resume a run whose job has changed, naming what differs."""
    before = checkpoint.read_about(resume)["fingerprint"]
    for key in sorted({*before, *fingerprint}):
        if before.get(key) != fingerprint.get(key):
            raise UserError(f"{resume}: the job has changed since: {key} was {before.get(key)}, is now "
                            f"{fingerprint.get(key)}; change it back, or start anew with another output_dir")


@contextlib.contextmanager
def quiet(folder: Path):
    """What MindFormers prints goes to <run>/log/stdout.log."""
    (folder / "log").mkdir(parents=True, exist_ok=True)
    with open(folder / "log" / "stdout.log", "a", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        yield


def silence_console() -> None:
    """Leave MindFormers' log its files only."""
    from mindformers.tools.logger import get_logger

    logger = get_logger()
    for handler in list(logger.handlers):
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            logger.removeHandler(handler)
