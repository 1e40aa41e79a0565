"""`osum plan`: memory, time and layout of a job on Ascend, before it is run."""

import json
import os
from dataclasses import replace

from mindspore_osum.commands import plan_load
from mindspore_osum.commands.arguments import add_overrides
from mindspore_osum.config import did_you_mean, from_dict, merge, parse_overrides
from mindspore_osum.errors import UserError
from mindspore_osum.planning.hardware import DEVICES, device_of, parse_bytes

EXAMPLES = """\
examples:
  osum plan --config configs/osum_pangu_7b/stage1.yaml --model osum_pangu_7b --devices 8 --device 910B3
  osum plan --config configs/osum_pangu_7b/stage3.yaml --model osum_pangu_7b --devices 24 --json
  osum plan --config configs/tiny/stage1.yaml --model tiny --dtype float32 --set batch.size=64
  osum plan --model osum_pangu_7b --device 310P3 --answers 1   # answering alone
  osum plan --config configs/osum_pangu_7b/stage1.yaml --model osum_pangu_7b --check-operators
  osum plan --annotate 100000 --model osum_pangu_7b --device 910B3 --within 24   # devices for this
  osum plan --serve 50 --seconds 8 --latency 5 --rtf output/eval/metrics.json
"""


def add_arguments(parser) -> None:
    """The arguments of `osum plan`."""
    parser.add_argument(
        "--config", metavar="JOB.yaml", help="the job, see configs/; without it, answering alone"
    )
    add_overrides(parser, "the job, for instance batch.size=4")
    parser.add_argument(
        "--model", metavar="NAME", help="a preset or model folder to plan with instead of model.start"
    )
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", "float16", "float32"),
        help="of the weights (default: the folder's; with a preset bfloat16, on a 310P float16)",
    )
    parser.add_argument("--devices", type=int, metavar="N", help="devices (default: 8, of a load 1)")
    parser.add_argument(
        "--device",
        "--type",
        choices=tuple(DEVICES),
        help="what each of them is (default: 910B3, or 910B4 with a --memory that it has)",
    )
    parser.add_argument(
        "--memory",
        metavar="SIZE",
        help="of a device, with its unit: 64GB, 60GiB (default: what such a device has)",
    )
    parser.add_argument(
        "--answers",
        type=int,
        default=8,
        metavar="N",
        help="recordings answered together, for inference (default: %(default)s)",
    )
    parser.add_argument(
        "--check-operators",
        action="store_true",
        help="no plan: compile the graphs of the job and of answers, run none, compare each operator with "
        "what Ascend's documentation allows; exit status 1 for one that it does not allow or name",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    plan_load.add_arguments(parser)


def run(args) -> int:
    """Print the plan; UserError, so exit status 1, if no layout that can run fits the job."""
    from mindspore_osum.planning.text import answering_text, text

    for name, value in (("--devices", args.devices), ("--answers", args.answers)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value}: must be at least 1")
    load = plan_load.asked(args)
    device, memory = device_of(args.device, args.memory)
    if load:
        return plan_load.run(args, device, memory, lambda: answering_model(args, device))
    args.devices = args.devices or 8
    if args.check_operators:
        from mindspore_osum.commands import plan_operators

        cfg = _read(args) if args.config else None
        model = job_of(cfg, args, device).model if cfg else answering_model(args, device)
        return plan_operators.run(args, cfg, model)
    plan = _training(args, device, memory) if args.config else _answering(args, device, memory)
    print(json.dumps(plan) if args.json else (text if args.config else answering_text)(plan))
    return 0


def _training(args, device, memory: int) -> dict:
    """The plan of a job on `memory` bytes of each device, and of answering with its model."""
    from mindspore_osum.inference.sampling import Sampling
    from mindspore_osum.planning import layouts
    from mindspore_osum.planning.report import device_facts, inference, report

    if not device.trains:
        raise UserError(
            f"--device {device.name}: does not train; leave --config away to plan answering on it"
        )
    cfg = _read(args)
    limit, said = device.pool(memory), cfg.context.get("max_device_memory")
    if said:  # MindSpore's GB are GiB
        limit = min(limit, parse_bytes(said, "context.max_device_memory", binary=True))
    job = job_of(cfg, args, device)
    batches = layouts.batches_of(cfg, job)
    alone = layouts.Layout(args.devices)
    by_batch = [layouts.choose(cfg, job, batch, alone, device) for batch in batches]
    heaviest = batches[max(range(len(batches)), key=lambda i: by_batch[i].total)]
    choices = layouts.ranked(
        [
            layouts.choose(cfg, job, heaviest, way, device)
            for way in layouts.layouts(job, args.devices, cfg.accumulation)
        ],
        limit,
    )
    best = choices[0]
    if best.needed > limit or best.obstacle:
        now = max(by_batch, key=lambda c: c.total)
        raise UserError(
            f"{args.config}: {layouts.gigabytes(now.needed)} a device, margin included, do not fit "
            f"{layouts.gigabytes(limit)}; would fit: "
            + layouts.remedy(cfg, job, heaviest, args.devices, limit, device)
        )
    plan = {"config": args.config, "device": device_facts(device, memory), "devices": args.devices}
    plan |= report(cfg, job, heaviest, choices, limit)
    plan["job_max_device_memory"] = said if said != plan["settings"]["context"]["max_device_memory"] else None
    plan["inference"] = inference(job, heaviest, args.answers, Sampling().max_new_tokens, device, limit)
    return plan


def _read(args):
    """The job, with what the arguments change of it."""
    from mindspore_osum.training.config import read_job

    model = {"model": {"start": args.model}} if args.model else {}
    return read_job(args.config, merge(parse_overrides(args.overrides), model))


def _answering(args, device, memory: int) -> dict:
    """The plan of answering recordings of 30 s on `memory` bytes of a device."""
    from mindspore_osum.inference.sampling import Sampling
    from mindspore_osum.planning.job import Job
    from mindspore_osum.planning.report import device_facts, inference, model_facts, prompt_of

    model = answering_model(args, device)
    job, limit = Job(model, frozenset(), model.dtype != "float32"), device.pool(memory)
    batch = prompt_of(model, 30.0)
    return {
        "device": device_facts(device, memory),
        "limit": limit,
        **model_facts(job),
        "inference": inference(job, batch, args.answers, Sampling().max_new_tokens, device, limit),
    }


def answering_model(args, device):
    """The configuration of --model, with what --set changes of it."""
    if not args.model:
        raise UserError("give --config JOB.yaml to plan a job, or --model NAME to plan answering alone")
    asked = parse_overrides(args.overrides)
    if others := set(asked) - {"model"} or set(asked.get("model", {})) - {"overrides"}:
        raise UserError(f"--set {sorted(others)[0]}: without --config only model.overrides can be set")
    return model_of(args.model, asked.get("model", {}).get("overrides", {}), args, device, "--model")


def job_of(cfg, args, device):
    """The job's model and what it computes."""
    from mindspore_osum.planning.job import Job
    from mindspore_osum.planning.programs import cost_of

    model = model_of(cfg.model.start, cfg.model.overrides, args, device)
    model = cfg.system.job.model(cfg, model)
    cfg.system.job.check_model(cfg, model)
    return Job(
        model, frozenset(cfg.learn), model.dtype != "float32", **cost_of(model).loss_values(cfg, model)
    )


def model_of(start: str, overrides: dict, args, device, said: str = "model.start"):
    """The configuration of a preset or folder, in the type that is planned for."""
    from mindspore_osum.folder import read_config
    from mindspore_osum.systems.registry import presets

    known = presets()
    if start not in known and not os.path.isdir(start):
        raise UserError(
            f"{said}: {start!r} is no folder and no preset{did_you_mean(start, known)}; "
            "give --model a preset to plan before the folder is there"
        )
    base = known[start] if start in known else read_config(start)
    model = from_dict(type(base), merge(base.to_dict(), overrides), f"model.overrides on {start}")
    usual = "bfloat16" if device.trains else "float16"
    dtype = args.dtype or (usual if start in known else model.dtype)
    if dtype == "bfloat16" and not device.trains:
        raise UserError(f"--dtype bfloat16: a {device.name} has no bfloat16; give --dtype float16")
    return replace(model, dtype=dtype)
