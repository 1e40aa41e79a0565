"""`osum data batches`: how much of a batch is padding in each form, on lengths like AISHELL's."""

from mindspore_osum.data.batches.forms import forms
from mindspore_osum.data.batches.packing import aishell_like
from mindspore_osum.errors import UserError
from mindspore_osum.systems.registry import preset


def add_arguments(parser) -> None:
    """The arguments of the command."""
    parser.add_argument(
        "--tokens",
        type=int,
        default=4096,
        metavar="N",
        help="sequence positions of a batch (default: %(default)s)",
    )
    parser.add_argument(
        "--around",
        type=int,
        default=100,
        metavar="N",
        help="tokens of prompt, tags and end (default: %(default)s for OSUM-Pangu's prompts; compact: 10)",
    )
    parser.add_argument(
        "--count", type=int, default=20000, metavar="N", help="utterances (default: %(default)s)"
    )


def run(args) -> int:
    """Print a line for each form."""
    for name, least in (("count", 1), ("around", 0)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} {getattr(args, name)}: must be {least} or more")
    model = preset("osum_pangu_7b")
    frames_N, tokens_N = aishell_like(model, args.count, around=args.around)
    if args.tokens < tokens_N.max():
        raise UserError(
            f"--tokens {args.tokens}: the longest sequence has {tokens_N.max()} positions; "
            "give as many or more"
        )
    print("share in use of    positions   mel frames   shapes")
    for name, shares in forms(model, frames_N, tokens_N, args.tokens).items():
        print(f"{name:17} {shares[0]:10.1%} {shares[1]:12.1%} {shares[2]:8d}")
    return 0
