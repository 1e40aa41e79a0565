"""`osum data pack MANIFEST OUT`: a manifest and its recordings as published shards."""

from pathlib import Path

from mindspore_osum.commands.arguments import add_max_errors, errors_of
from mindspore_osum.data.formats.shard_writer import LIST, pack
from mindspore_osum.errors import UserError


def add_arguments(parser) -> None:
    """The arguments of `osum data pack`."""
    parser.add_argument("manifest", metavar="MANIFEST", type=Path, help="a .jsonl manifest")
    parser.add_argument(
        "out", metavar="OUT", type=Path, help=f"a new folder for the shards and their list, OUT/{LIST}"
    )
    parser.add_argument(
        "--per-shard",
        type=int,
        default=1000,
        metavar="N",
        help="utterances a shard (default: 1000, as published)",
    )
    add_max_errors(parser)


def run(args) -> int:
    """Pack and print how much it was; 0."""
    if args.per_shard < 1:
        raise UserError(f"--per-shard {args.per_shard}: must be 1 or more")
    errors = errors_of(args)
    utterances, shards = pack(args.manifest, args.out, args.per_shard, errors)
    print(f"{args.out / LIST}: {shards} shards, {utterances} utterances, {errors.count} errors left out")
    return 0
