"""`osum data noise MANIFEST... --noise LIST --snr DB...`: copies of recordings with noise."""

from mindspore_osum.commands.arguments import add_made, add_sources, errors_of
from mindspore_osum.commands.console import resumable
from mindspore_osum.data.augment import read_noise_list
from mindspore_osum.data.pipeline.making import MANIFEST, make_all
from mindspore_osum.data.pipeline.noise import check_ratios, noise_jobs
from mindspore_osum.data.pipeline.reading import Usable


def add_arguments(parser) -> None:
    """The arguments of `osum data noise`."""
    add_sources(parser)
    parser.add_argument(
        "--noise", metavar="LIST", required=True, help="a file with the path of a recording of noise a line"
    )
    parser.add_argument(
        "--snr",
        metavar="DB",
        type=float,
        nargs="+",
        required=True,
        help="signal-to-noise ratios in dB; each gives a copy of every utterance",
    )
    add_made(parser, seed=True)


def run(args) -> int:
    """Write the copies and print how many; 0."""
    check_ratios(args.snr)
    noises = read_noise_list(args.noise)
    usable = Usable(args.manifests, errors_of(args))
    settings = {
        "verb": "noise",
        "sources": args.manifests,
        "noise": noises,
        "snr": args.snr,
        "seed": args.seed,
    }
    with resumable():
        count = make_all(
            args.output, settings, noise_jobs(usable, noises, args.snr, args.seed), usable.leave_out
        )
    print(f"{args.output / MANIFEST}: {count} utterances, {usable.errors.count} errors left out")
    return 0
