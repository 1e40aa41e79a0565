"""`osum fit-aligner`: a linear aligner's start in closed form; the work is in training/ridge.py."""

import argparse

from mindspore_osum.commands.arguments import add_device

EXAMPLES = """\
examples:
  osum fit-aligner parts --manifest corpus/train.jsonl --output start
  osum train --config configs/real/aligner.yaml --set model.start=start
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("model", help="model folder of a linear aligner, as `osum convert` joins its parts")
    parser.add_argument(
        "--manifest",
        required=True,
        nargs="+",
        metavar="FILE",
        help="recordings of the task asr; extra.words has the times of words, else they go by letters",
    )
    parser.add_argument("--output", "-o", required=True, metavar="DIR", help="new folder: the model, fitted")
    parser.add_argument(
        "--ridge", type=float, default=100.0, metavar="X", help="the larger, the smaller the weights (100)"
    )
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Fit; returns the exit status."""
    from mindspore_osum.commands.console import say
    from mindspore_osum.device import use_device
    from mindspore_osum.training.ridge import fit_aligner

    use_device(args.device)

    def progress(recordings: int) -> None:
        if recordings % 100 == 0:
            say(f"{recordings} recordings encoded")

    fit = fit_aligner(args.model, args.output, args.manifest, args.ridge, progress)
    timed = f"{fit.timed} with times of words" if fit.timed else "words shared out by their letters"
    words = f"{fit.words} words ({fit.different} different) of {fit.recordings} recordings"
    print(f"{args.output}: fitted to {words}, {timed}")
    if fit.held_out:
        print(
            f"without every tenth recording, the right one of {fit.different} words is nearest for "
            f"{fit.nearest:.1%} of the {fit.held_out} words there, and among the five nearest for "
            f"{fit.among_five:.1%}"
        )
    return 0
