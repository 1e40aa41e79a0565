"""A job as a MindFormers config; registers our classes by name and sends MindFormers' messages to files.

Notable choices
- MindFormers builds network, optimizer, schedule and step cell from its config, by the names registered here;
  the config it gets is saved as mindformers.yaml in the run's folder.
- The whole run is one MindSpore "epoch"; the loader counts epochs of the data, which makes resuming exact.
- MindFormers' messages go to <run>/log, ours to stderr.
- For a model sharded over devices, MindFormers wraps the network (accumulation, pipeline) and selects its own
  step cell by name; ours is then registered under that name.
"""

import contextlib
import json
import logging
import os
from pathlib import Path

from mindspore_osum.config import did_you_mean
from mindspore_osum.errors import UserError
from mindspore_osum.systems.config import Config
from mindspore_osum.systems.registry import to_values
from mindspore_osum.training import part_rates
from mindspore_osum.training.config import TrainConfig, own_sections, to_dict

DATA, RUN, PLUGIN = "OsumData", "OsumRun", "osum_plugin"  # registered.py, and the file that names them
STEP_OF_MICRO_BATCHES = "MFPipelineWithLossScaleCell"  # the only one MindFormers names for micro-batches


def mindformers_config(
    cfg: TrainConfig, model: Config, start: str, vocab: int, steps: int, ranks: int, speech: bool
) -> dict:
    """The config of `mindformers.Trainer`.

    Parameters
    ----------
    model : the model's description; `start` its folder, or "" for random weights.
    vocab : vocabulary size of the tokenizer.
    steps : optimizer steps of the whole job, for the schedule.
    ranks : number of processes; several train data parallel unless `cfg.parallel` says otherwise.
    speech : whether any example has a recording.
    """
    inside = Path(cfg.output_dir) / "mindformers"
    return {
        "seed": cfg.seed,
        "run_mode": "train",
        "use_parallel": ranks > 1,
        "output_dir": str(inside),
        "load_checkpoint": "",  # starting and resuming are ours (training/checkpoint.py)
        "trainer": {"type": "CausalLanguageModelingTrainer", "model_name": model.model_type},
        "runner_config": {
            "epochs": 1,
            "batch_size": cfg.batch.size,
            "sink_mode": False,
            "sink_size": 1,
            "gradient_accumulation_steps": cfg.accumulation if cfg.is_sharded else 1,
        },
        "runner_wrapper": {
            "use_clip_grad": True,
            "max_grad_norm": cfg.clip_norm,
            "scale_sense": 1.0,
            **_step_cell(cfg),
        },
        "optimizer": {
            "type": "OsumAdamW" if model.dtype == "float32" else "MasterAdamW",
            "betas": cfg.optimizer.betas,
            "eps": cfg.optimizer.eps,
            "weight_decay": cfg.optimizer.weight_decay,
            **part_rates.arguments(cfg.optimizer, model.model_type),
        },
        "lr_schedule": {
            "type": "WarmupLR",
            "learning_rate": cfg.optimizer.lr,
            "warmup_steps": cfg.schedule.warmup_steps,
            "total_steps": steps,
            "kind": cfg.schedule.kind,
        },
        "model": {
            "arch": {"type": "TrainingNetwork"},
            "model_config": {
                "type": "NetworkConfig",
                "model": plain(to_values(model)),
                "start": start,
                "learn": cfg.learn,
                "sections": own_sections(cfg),
                "vocab": vocab,
                "seed": cfg.seed,
                "speech": speech,
                "encoded": bool(cfg.data.encoded),
            },
        },
        # MindFormers requires a loader section even when a dataset is passed
        "train_dataset": {
            "data_loader": {"type": "MindDataset", "dataset_dir": ""},
            "batch_size": cfg.batch.size,
        },
        "train_dataset_task": {
            "type": DATA,
            "auto_register": f"{PLUGIN}.{DATA}",
            "dataset_config": {},
            "job": to_dict(cfg),
        },
        "callbacks": _callbacks(cfg),
        **cfg.profiling,
        **({"monitor_config": cfg.monitor_config} if cfg.monitor_config else {}),
        "context": _context(cfg),
        "parallel": {
            "parallel_mode": 0,
            "full_batch": cfg.is_sharded,
            # the loss of a sharded model is already that of the global batch
            "gradients_mean": not cfg.is_sharded,
            "gradient_fp32_sync": True,
            "strategy_ckpt_save_file": str(inside / "strategy.ckpt"),
            **cfg.parallel,
        },
        # never empty: MindFormers would then drop recompute_config too
        "parallel_config": {
            **cfg.parallel_config,
            "micro_batch_num": cfg.accumulation if cfg.is_sharded else 1,
        },
        "recompute_config": cfg.recompute_config,
    }


def _context(cfg: TrainConfig) -> dict:
    """The device; on Ascend float32 convolutions are exact (device.py) unless the job says otherwise."""
    context = {"mode": 0, "device_target": cfg.device, **cfg.context}
    if cfg.device == "Ascend":
        context["ascend_config"] = {"conv_allow_hf32": False, **(context.get("ascend_config") or {})}
    return context


def _step_cell(cfg: TrainConfig) -> dict:
    """The step cell and its own arguments."""
    if not cfg.is_sharded:
        return {"type": "TrainStep", "accumulation": cfg.accumulation}
    stages = cfg.parallel_config.get("pipeline_stage", 1)
    return {"type": STEP_OF_MICRO_BATCHES, "micro_batch_num": cfg.accumulation, "stages": stages}


def _callbacks(cfg: TrainConfig) -> list[dict]:
    """MindFormers' own report into its log, the job's callbacks, and our run."""
    loss = {"type": "MFLossMonitor", "per_print_times": cfg.log_every}
    given = [callback["type"] for callback in cfg.callbacks]
    own = {"type": RUN, "auto_register": f"{PLUGIN}.{RUN}"}
    return [*([] if loss["type"] in given else [loss]), *cfg.callbacks, own]


def register(data, run) -> None:
    """Register our classes in MindFormers by name.

    Parameters
    ----------
    data, run : make the data set and the callback of the run; see registered.py.
    """
    from mindformers.tools.register import MindFormerModuleType, MindFormerRegister

    from mindspore_osum.training.adamw import MasterAdamW, OsumAdamW
    from mindspore_osum.training.network import NetworkConfig, TrainingNetwork
    from mindspore_osum.training.parallel_step import ParallelTrainStep
    from mindspore_osum.training.schedule import WarmupLR
    from mindspore_osum.training.step import TrainStep

    for kind, cls in (
        (MindFormerModuleType.CONFIG, NetworkConfig),
        (MindFormerModuleType.MODELS, TrainingNetwork),
        (MindFormerModuleType.LR, WarmupLR),
        (MindFormerModuleType.OPTIMIZER, OsumAdamW),
        (MindFormerModuleType.OPTIMIZER, MasterAdamW),
        (MindFormerModuleType.WRAPPER, TrainStep),
    ):
        MindFormerRegister.register_cls(cls, kind)
    MindFormerRegister.register_cls(data, MindFormerModuleType.DATASET, DATA)
    MindFormerRegister.register_cls(run, MindFormerModuleType.CALLBACK, RUN)
    MindFormerRegister.register_cls(ParallelTrainStep, MindFormerModuleType.WRAPPER, STEP_OF_MICRO_BATCHES)


def without_plugin(config) -> None:
    """Leave out what tells MindFormers to import our plugin: `register` was called in this process."""
    for section in (config.train_dataset_task, *config.callbacks):
        section.pop("auto_register", None)


def check_callbacks(cfg: TrainConfig) -> None:
    """Refuse callbacks that MindFormers does not know."""
    from mindformers.tools.register import MindFormerModuleType, MindFormerRegister

    known = MindFormerRegister.registry[MindFormerModuleType.CALLBACK]
    for i, callback in enumerate(cfg.callbacks):
        kind = callback["type"]
        if kind not in known:
            raise UserError(f"callbacks[{i}]: MindFormers has no {kind}{did_you_mean(kind, known)}")


def import_mindformers(folder: Path):
    """The mindformers module; its messages go to <folder>/log, its own files to <folder>/mindformers."""
    os.environ["LOG_MF_PATH"] = str(folder / "log")
    os.environ["LOCAL_DEFAULT_PATH"] = str(folder / "mindformers")
    os.environ.setdefault("GLOG_v", "3")  # MindSpore's C++ side: errors only
    import mindformers
    from mindformers.tools.logger import get_logger

    logger = get_logger()
    for handler in list(logger.handlers):
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
            logger.removeHandler(handler)
    return mindformers


@contextlib.contextmanager
def quiet(folder: Path, rank: int):
    """Redirect MindFormers' stdout to <folder>/log/stdout_<rank>.log."""
    (folder / "log").mkdir(parents=True, exist_ok=True)
    with open(folder / "log" / f"stdout_{rank}.log", "a", encoding="utf-8") as file:
        with contextlib.redirect_stdout(file):
            yield


def yaml_text(values: dict) -> str:
    """YAML text with the keys in their given order."""
    import yaml

    return yaml.safe_dump(plain(values), sort_keys=False, allow_unicode=True)


def plain(values: dict) -> dict:
    """The same values with tuples as lists, for YAML and JSON."""
    return json.loads(json.dumps(values))
