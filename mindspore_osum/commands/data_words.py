"""`osum data words MANIFEST...`: transcripts with the times of their words."""

from pathlib import Path

from mindspore_osum.commands.arguments import add_derived, add_sources, errors_of
from mindspore_osum.data.checks import LeftOut
from mindspore_osum.data.formats.word_times import WORDS, WordTimes
from mindspore_osum.data.pipeline.derived import write_derived
from mindspore_osum.data.pipeline.reading import Usable
from mindspore_osum.data.pipeline.words import timed


def add_arguments(parser) -> None:
    """The arguments of `osum data words`."""
    add_sources(parser)
    parser.add_argument(
        "--times",
        metavar="PATH",
        type=Path,
        nargs="+",
        required=True,
        help="files .ctm and .TextGrid of an aligner, or folders of these",
    )
    parser.add_argument("--tier", metavar="NAME", default=WORDS, help=f"of TextGrids (default: {WORDS})")
    add_derived(parser, "the lines as examples of srwt")


def run(args) -> int:
    """Write the examples and print how many; 0."""
    usable, left_out = Usable(args.manifests, errors_of(args)), LeftOut()
    count = write_derived(args.output, timed(usable, WordTimes(args.times, args.tier), left_out))
    print(f"{args.output}: {count} utterances with word times, {usable.errors.count} errors left out")
    print("".join(f"{line}\n" for line in left_out.lines()), end="")
    return 0
