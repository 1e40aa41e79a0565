"""`osum data words MANIFEST...`: transcripts with the times of their words."""

from functools import partial
from pathlib import Path

from mindspore_osum.commands.arguments import (
    BATCH_SIZE,
    add_derived,
    add_device,
    add_sources,
    errors_of,
)
from mindspore_osum.commands.console import load_model, resumable
from mindspore_osum.data.checks import LeftOut
from mindspore_osum.data.formats.word_times import WORDS, WordTimes
from mindspore_osum.data.pipeline.derived import check_outputs, write_derived
from mindspore_osum.data.pipeline.journal import journal_beside
from mindspore_osum.data.pipeline.reading import Usable
from mindspore_osum.data.pipeline.words import kept, of_files, timed
from mindspore_osum.errors import UserError


def add_arguments(parser) -> None:
    """The arguments of `osum data words`."""
    add_sources(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--times",
        metavar="PATH",
        type=Path,
        nargs="+",
        help="files .ctm and .TextGrid of an aligner, or folders of these",
    )
    source.add_argument("--model", metavar="DIR", help="a Whisper, whose cross-attention finds the words")
    parser.add_argument("--tier", metavar="NAME", default=WORDS, help=f"of TextGrids (default: {WORDS})")
    parser.add_argument(
        "--language", metavar="NAME", default="", help="for --model: of lines without extra.lang, as en or zh"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=BATCH_SIZE,
        metavar="N",
        help=f"for --model: utterances at a time (default {BATCH_SIZE})",
    )
    add_device(parser)
    add_derived(parser, "the lines as examples of srwt")


def run(args) -> int:
    """Write the examples and print how many; 0."""
    usable, left_out = Usable(args.manifests, errors_of(args)), LeftOut()
    check_outputs(args.manifests, output=args.output)
    try:
        if args.times:
            found = partial(of_files, times=WordTimes(args.times, args.tier))
            count = write_derived(args.output, timed(usable, found, left_out))
        else:
            count = _by_model(args, usable, left_out)
    finally:  # also where nothing is left: it says why
        print("".join(f"{line}\n" for line in left_out.lines()), end="")
    print(f"{args.output}: {count} utterances with word times, {usable.errors.count} errors left out")
    return 0


def _by_model(args, usable: Usable, left_out: LeftOut) -> int:
    """Align what OUTPUT.begun does not have yet, then write all."""
    from mindspore_osum.inference.aligning import align, check_aligner

    if args.batch_size < 1:
        raise UserError(f"--batch-size {args.batch_size}: must be 1 or more")
    engine = load_model(args).engine
    check_aligner(engine)
    settings = {"verb": "words", "sources": args.manifests, "model": args.model, "language": args.language}
    find = partial(align, engine, language=args.language, rows=args.batch_size, failed=usable.leave_out)
    with journal_beside(args.output, settings) as journal, resumable():
        found = partial(kept, journal=journal, rows=args.batch_size, find=find)
        return write_derived(args.output, timed(usable, found, left_out))
