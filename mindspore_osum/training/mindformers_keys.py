"""MindFormers' keys in a job: passed on, or refused with the key that has the setting here.

Imports no MindFormers, so that a job is read quickly.
"""

from mindspore_osum.config import did_you_mean
from mindspore_osum.errors import UserError

# of MindFormers 1.8: core/callback, tools/register/template.py, trainer/trainer.py
PROFILING = (
    "profile profile_start_step profile_stop_step profile_communication profile_memory profile_output "
    "profile_rank_ids profile_pipeline profile_level profiler_level init_start_profile with_stack "
    "data_simplification mstx"
).split()
MONITOR = (
    "monitor_on dump_path target invert step_interval local_loss_format local_norm_format "
    "device_local_norm_format device_local_loss_format optimizer_state_format weight_state_format "
    "max_attention_logit_format throughput_baseline print_struct check_for_global_norm "
    "global_norm_spike_threshold global_norm_spike_count_threshold stable_rank_config"
).split()

_START = "a job starts from model.start: a preset or a model folder, which osum convert makes of a checkpoint"
_DATA = "the data are data.train and data.valid, their batches batch"
_VALID = "data.valid is validated with every checkpoint (save_every)"
_LAYOUT = "a run resumes under every layout as it is; leave it out"
REFUSED = {
    "load_checkpoint": _START,
    "pretrained_model_dir": _START,
    "load_ckpt_format": _START,
    "resume_training": "a run resumes by itself; osum train --from-step N chooses a checkpoint, --fresh none",
    "ignore_data_skip": "a run resumes at its place in the data; leave it out",
    "data_skip_steps": "a run resumes at its place in the data; leave it out",
    "auto_trans_ckpt": _LAYOUT,
    "src_strategy_path_or_dir": _LAYOUT,
    "transform_process_num": _LAYOUT,
    "only_save_strategy": _LAYOUT,
    "remove_redundancy": "each tensor is stored once in a checkpoint; leave it out",
    "use_parallel": "the number of processes says it (scripts/msrun_launcher.sh), and how is "
    "parallel.parallel_mode",
    "runner_config": "its settings are batch.size, accumulation, and steps or epochs; data are not sunk",
    "runner_wrapper": "its settings are clip_norm and accumulation",
    "lr_schedule": "its settings are optimizer.lr, schedule.kind and schedule.warmup_steps",
    "swap_config": "nothing is swapped to the host; recompute_config.recompute saves memory",
    "moe_config": "no system here has experts; leave it out",
    "layer_scale": "learning rates of parts are optimizer.lr_of",
    "lr_scale": "the learning rate is optimizer.lr",
    "grouped_lr_schedule": "learning rates of parts are optimizer.lr_of; all have one schedule",
    "trainer": "the trainer is chosen by the model; leave it out",
    "run_mode": "osum train trains, osum eval evaluates, osum infer answers; leave it out",
    "train_dataset": _DATA,
    "train_dataset_task": _DATA,
    "eval_dataset": _DATA,
    "eval_dataset_task": _DATA,
    "do_eval": _VALID,
    "eval_step_interval": _VALID,
    "eval_epoch_interval": _VALID,
    "eval_callbacks": _VALID,
    "metric": "the losses of data.valid are reported; osum eval has the metrics",
    "processor": "the tokenizer is `tokenizer`, and the features are of the model",
    "check_for_nan_in_loss_and_grad": "a loss or gradient that is not finite is always found: max_bad_steps",
    "micro_batch_interleave_num": "micro-batches are accumulation",
    "remote_save_url": "checkpoints are written to output_dir alone",
    "optimizer.type": "the optimizer is AdamW; leave it out",
    "optimizer.learning_rate": "the learning rate is optimizer.lr",
    "model.arch": "the network is that of model.start; leave it out",
    "model.model_config": "settings of the model are model.overrides",
}
REFUSED_CALLBACKS = {
    "CheckpointMonitor": "checkpoints are save_every and keep_last",
    "EvalCallBack": _VALID,
    "OsumRun": "it is added by itself",
    "TrainFaultTolerance": "it needs checkpoints of MindFormers' own form",
}


def taken(values: dict, where: str) -> dict:
    """A job's values with MindFormers' profiling keys in the section `profiling`.

    Raises
    ------
    UserError : a key of MindFormers whose setting has another name here, or none.
    """
    for key, why in REFUSED.items():
        section, _, inner = key.partition(".")
        found = values.get(section) if inner else values
        if isinstance(found, dict) and (inner or key) in found:
            raise UserError(f"{where}: {key} is a setting of MindFormers that a job does not have: {why}")
    moved = {key: values[key] for key in PROFILING if key in values}
    if not moved:
        return values
    rest = {key: value for key, value in values.items() if key not in moved}
    section = rest.get("profiling", {})
    return {**rest, "profiling": {**section, **moved} if isinstance(section, dict) else section}


def check(callbacks: list, profiling: dict, monitor_config: dict) -> None:
    """Refuse callbacks without a type or with one that works against the run, and unknown keys."""
    for i, callback in enumerate(callbacks):
        kind = callback.get("type") if isinstance(callback, dict) else None
        if not isinstance(kind, str):
            raise UserError(f"callbacks[{i}]: needs a type, such as {{type: TimeMonitor}}")
        if kind in REFUSED_CALLBACKS:
            raise UserError(f"callbacks[{i}]: {kind} is not used here: {REFUSED_CALLBACKS[kind]}")
    for section, values, known in (
        ("profiling", profiling, PROFILING),
        ("monitor_config", monitor_config, MONITOR),
    ):
        for key in values:
            if key not in known:
                raise UserError(f"{section}: unknown key {key!r}{did_you_mean(str(key), known)}")
