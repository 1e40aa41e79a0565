"""`osum data index MANIFEST... --output DIR --config JOB`: a scan for a job, kept as Parquet."""

import os
import shlex
from functools import partial
from pathlib import Path

from mindspore_osum.commands.arguments import add_overrides, add_sources
from mindspore_osum.commands.console import say
from mindspore_osum.config import parse_overrides
from mindspore_osum.errors import UserError


def add_arguments(parser) -> None:
    """The arguments of `osum data index`."""
    from mindspore_osum.training.indexing import SPLITS

    add_sources(parser)
    parser.add_argument(
        "--output", metavar="DIR", required=True, help="the index: a new folder, or an index to replace"
    )
    parser.add_argument(
        "--config",
        metavar="JOB.yaml",
        required=True,
        help="a training job: its model, tokenizer and data.requests say what is counted",
    )
    add_overrides(parser, "the job, as of osum train")
    parser.add_argument(
        "--split", choices=SPLITS, default=SPLITS[0], help="which of the job's data it is for (default train)"
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=len(os.sched_getaffinity(0)),
        metavar="N",
        help="that open recordings and tokenize (default: all cores)",
    )


def run(args) -> int:
    """Make the index and print what it holds; 0."""
    from mindspore_osum.data.index.building import build, check_output
    from mindspore_osum.training.config import read_job
    from mindspore_osum.training.indexing import reading_of
    from mindspore_osum.training.run import job_extractor

    if args.processes < 1:
        raise UserError(f"--processes {args.processes}: must be 1 or more")
    out, overrides = Path(args.output), parse_overrides(args.overrides)
    check_output(out)
    cfg = read_job(args.config, overrides)
    make = partial(job_extractor, args.config, overrides, args.split)
    extractor = make()
    about = {"command": _command(args), "reading": reading_of(cfg, extractor, args.split)}
    built = build(args.manifests, out, make, about, args.processes)
    for line in built.left_out.lines():
        say(line)
    hours = extractor.model.features.seconds(built.frames) / 3600
    print(f"{out}: {built.usable} utterances, {hours:.2f} h, of {built.rows} rows in {built.sources} sources")
    return 0


def _command(args) -> str:
    """The command that makes this index."""
    words = ["osum", "data", "index", *args.manifests, "--output", args.output, "--config", args.config]
    words += [word for pair in args.overrides for word in ("--set", pair)]
    words += [] if args.split == "train" else ["--split", args.split]
    return shlex.join(words)
