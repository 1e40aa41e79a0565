"""`osum download`: a model from a hub to this machine."""

from mindspore_osum.errors import UserError

EXAMPLES = """\
examples:
  osum download owner/name                            # into the hub library's cache; prints the folder
  osum download owner/name@v1.0 --output models/name  # a revision, into a folder of its own
  osum download ASLP-lab/OSUM-Pangu/step_832499.pt    # one of several checkpoints
  osum download modelscope:owner/name                 # from modelscope.cn
  osum infer a.wav --model owner/name                 # downloads by itself, and converts once if need be
"""


def add_arguments(parser) -> None:
    """The arguments of `osum download`."""
    parser.add_argument(
        "name", help="owner/name, with /file, @revision, modelscope: or huggingface: where needed"
    )
    parser.add_argument("--output", metavar="DIR", help="a folder for the files (default: the hub's cache)")


def run(args) -> int:
    """Download, or find in the cache; 0."""
    from mindspore_osum.hub import download, parse

    if (repo := parse(args.name)) is None:
        raise UserError(f"{args.name}: not a name on a hub, which has two parts: owner/name")
    print(download(repo, args.output))
    return 0
