"""`osum train`: YAML jobs, run by MindFormers one after the other."""

from mindspore_osum.commands.arguments import add_overrides
from mindspore_osum.config import merge, parse_overrides
from mindspore_osum.errors import UserError

EXAMPLES = """\
examples:
  osum train --config configs/tiny/warm_up.yaml                                 # run again, it resumes
  osum train --config configs/tiny/warm_up.yaml --from-step 500                 # an earlier checkpoint
  osum train --config configs/tiny/stage1.yaml configs/tiny/stage2.yaml         # one after the other
  osum train --config configs/tiny/stage1.yaml --set steps=20 --set output_dir=output/try
"""


def add_arguments(parser) -> None:
    """The arguments of `osum train` and scripts/train.py."""
    parser.add_argument(
        "--config",
        required=True,
        nargs="+",
        metavar="JOB.yaml",
        help="the job, see configs/; or stages in order: a finished one is skipped, a stopped one goes on",
    )
    add_overrides(parser, "every job, for instance optimizer.lr=1e-4")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument(
        "--fresh", action="store_true", help="refuse to resume: the output folder must hold no checkpoint"
    )
    begin.add_argument(
        "--from-step",
        type=int,
        metavar="N",
        help="resume one job from its checkpoint of step N; default: the newest one that is whole",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="lay data.strict: true on every job: the first wrong line or recording ends it",
    )
    parser.add_argument(
        "--config-only",
        action="store_true",
        help="write config.yaml and mindformers.yaml into the output folder and train nothing",
    )


def run(args) -> int:
    """Train; 0, or 128 + signal when SIGINT (130) or SIGTERM (143) stopped it, with a checkpoint."""
    from mindspore_osum.training.config import read_stages

    strict = {"data": {"strict": True}} if args.strict else {}
    stages = read_stages(args.config, merge(parse_overrides(args.overrides), strict))
    if args.from_step is not None and len(stages) > 1:
        raise UserError("--from-step is the step of one job; give one --config")
    from mindspore_osum.training.report import say
    from mindspore_osum.training.run import run_job

    for path, cfg in stages.items():
        if len(stages) > 1:
            say(f"stage {path}: {cfg.output_dir}")
        asked = {"fresh": args.fresh, "from_step": args.from_step, "config_only": args.config_only}
        status = run_job(cfg, **asked)
        if status:
            return status
    return 0
