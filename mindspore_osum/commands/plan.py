"""`osum plan`: memory, time and layout of a training job on Ascend, before it is run."""

import json
import os
from dataclasses import asdict, replace

from mindspore_osum.commands.arguments import add_overrides
from mindspore_osum.config import did_you_mean, from_dict, merge, parse_overrides
from mindspore_osum.errors import UserError
from mindspore_osum.planning.hardware import DEVICES, parse_bytes

EXAMPLES = """\
examples:
  osum plan --config configs/osum_pangu_7b/stage1.yaml --model osum_pangu_7b --devices 8 --memory 64GB
  osum plan --config configs/osum_pangu_7b/stage3.yaml --model osum_pangu_7b --devices 24 --json
  osum plan --config configs/tiny/stage1.yaml --model tiny --dtype float32 --set batch.size=64
"""


def add_arguments(parser) -> None:
    """The arguments of `osum plan`."""
    parser.add_argument("--config", required=True, metavar="JOB.yaml", help="the job, see configs/")
    add_overrides(parser, "the job, for instance batch.size=4")
    parser.add_argument(
        "--model", metavar="NAME", help="a preset or model folder to plan with instead of model.start"
    )
    parser.add_argument(
        "--dtype",
        choices=("bfloat16", "float16", "float32"),
        help="of the weights (default: the folder's; bfloat16 with a preset)",
    )
    parser.add_argument("--devices", type=int, default=8, metavar="N", help="devices (default: %(default)s)")
    parser.add_argument(
        "--memory",
        default="64GB",
        metavar="SIZE",
        help="of a device, with its unit: 64GB, 60GiB (default: %(default)s); max_device_memory counts too",
    )
    parser.add_argument(
        "--type", choices=tuple(DEVICES), default="910B3", help="of the devices (default: %(default)s)"
    )
    parser.add_argument(
        "--answers",
        type=int,
        default=8,
        metavar="N",
        help="recordings answered together, for inference (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def run(args) -> int:
    """Print the plan; UserError, so exit status 1, if no layout that can run fits the job."""
    from mindspore_osum.inference.sampling import Sampling
    from mindspore_osum.planning import layouts
    from mindspore_osum.planning.report import inference, report
    from mindspore_osum.planning.text import text
    from mindspore_osum.training.config import read_job

    model = {"model": {"start": args.model}} if args.model else {}
    cfg = read_job(args.config, merge(parse_overrides(args.overrides), model))
    for name, value in (("--devices", args.devices), ("--answers", args.answers)):
        if value < 1:
            raise UserError(f"{name} {value}: must be at least 1")
    limit = parse_bytes(args.memory, "--memory")
    if cap := cfg.context.get("max_device_memory"):
        limit = min(limit, parse_bytes(cap, "context.max_device_memory"))
    job, device = job_of(cfg, args), DEVICES[args.type]
    batches = layouts.batches_of(cfg, job)
    alone = layouts.Layout(args.devices)
    by_batch = [layouts.choose(cfg, job, batch, alone, device) for batch in batches]
    heaviest = batches[max(range(len(batches)), key=lambda i: by_batch[i].total)]
    choices = [
        layouts.choose(cfg, job, heaviest, way, device)
        for way in layouts.layouts(job, args.devices, cfg.accumulation)
    ]
    choices.sort(key=lambda c: (c.needed > limit, bool(c.obstacle), -c.utterances))
    best = choices[0]
    if best.needed > limit or best.obstacle:
        now = max(by_batch, key=lambda c: c.total)
        raise UserError(
            f"{args.config}: {layouts.gigabytes(now.needed)} a device, margin included, do not fit "
            f"{layouts.gigabytes(limit)}; would fit: "
            + layouts.remedy(cfg, job, heaviest, args.devices, limit, device)
        )
    plan = {"config": args.config, "device": asdict(device), "devices": args.devices}
    plan |= report(cfg, job, heaviest, choices, limit)
    plan["inference"] = inference(job, heaviest, args.answers, Sampling().max_new_tokens, device, limit)
    print(json.dumps(plan) if args.json else text(plan))
    return 0


def job_of(cfg, args):
    """The job's model and what it computes."""
    from mindspore_osum.folder import read_config
    from mindspore_osum.planning.job import Job
    from mindspore_osum.planning.programs import cost_of
    from mindspore_osum.systems.registry import presets

    start, known = cfg.model.start, presets()
    if start not in known and not os.path.isdir(start):
        raise UserError(
            f"model.start: {start!r} is no folder and no preset{did_you_mean(start, known)}; "
            "give --model a preset to plan before the folder is there"
        )
    base = known[start] if start in known else read_config(start)
    model = from_dict(type(base), merge(base.to_dict(), cfg.model.overrides), f"model.overrides on {start}")
    dtype = args.dtype or ("bfloat16" if start in known else model.dtype)
    cfg.system.job.check_model(cfg, model)
    return Job(
        replace(model, dtype=dtype),
        frozenset(cfg.learn),
        dtype != "float32",
        **cost_of(model).ctc_head(cfg, model),
    )
