"""`osum export`: a model folder as MindIR graphs, loaded again and compared with the model, or for vLLM."""

from pathlib import Path

from mindspore_osum.commands.arguments import add_model_arguments
from mindspore_osum.commands.console import clean_stdout, loading
from mindspore_osum.errors import UserError
from mindspore_osum.quiet import quiet_libraries

EXAMPLES = """\
examples:
  osum export --output deploy                                   # the bundled model
  osum export --model DIR --output deploy --seconds 10 --max-new-tokens 128
  osum export --model DIR --output deploy --device Ascend --batch-size 4
  osum export --model DIR --output deploy --dtype float16       # for a 310P
  osum export --model DIR --output deploy --format vllm --dtype bfloat16    # for vLLM-MindSpore; docs/VLLM.md
  python examples/deployment/answer.py deploy a.wav --task asr  # answers from the exported folder
"""


# of graphs alone: flag -> type, default, what it is
SIZES = {
    "--seconds": (float, 30.0, "longest recording; what is longer is split at pauses"),
    "--request-tokens": (int, 64, "longest request, in tokens"),
    "--max-new-tokens": (int, 400, "longest answer, in tokens"),
}


def add_arguments(parser) -> None:
    """The arguments of `osum export`."""
    add_model_arguments(parser, batch_size=1)
    parser.add_argument(
        "--format",
        default="mindir",
        choices=("mindir", "vllm"),
        help="mindir (default): graphs; vllm: a folder for vLLM-MindSpore, with LoRA merged into the weights",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        help="of weights and computation (default: the model's, graphs on CPU: float32); 310P: float16; "
        "bfloat16 is for vllm",
    )
    parser.add_argument(
        "--output", metavar="DIR", required=True, help="to write; an export of graphs is replaced"
    )
    for flag, (kind, value, what) in SIZES.items():
        parser.add_argument(flag, type=kind, default=value, metavar="N", help=f"{what} (default {value:g})")


def run(args) -> int:
    """Export, load again, compare; 0."""
    quiet_libraries()
    return (_vllm if args.format == "vllm" else _mindir)(args)


def _mindir(args) -> int:
    from mindspore_osum.export.write import check_target, export

    check_target(Path(args.output))
    if args.dtype == "bfloat16":
        raise UserError("--dtype bfloat16 is of --format vllm; readers of MindIR take float32 or float16")
    loading(args)
    with clean_stdout() as stdout:
        facts = export(
            args.model,
            args.output,
            device=args.device,
            dtype=args.dtype,
            seconds=args.seconds,
            batch=args.batch_size,
            request_tokens=args.request_tokens,
            new_tokens=args.max_new_tokens,
        )
        for name, difference in facts["compared"].items():
            print(f"{name:<8} differs by {difference:.1e} of the largest value", file=stdout)
        size = sum(facts["files"].values())
        print(f"{args.output}: {len(facts['files'])} files, {size / 1e6:.1f} MB", file=stdout)
    return 0


def _vllm(args) -> int:
    """Write weights, description and tokenizer; vLLM has no fixed sizes."""
    from ckpt_convert.convert import convert
    from ckpt_convert.settle import Settings
    from mindspore_osum.folder import read_config
    from mindspore_osum.hub import model_folder

    others = {"--batch-size": (None, 1), **SIZES}
    for flag, (_, default, *_) in others.items():
        if getattr(args, flag[2:].replace("-", "_")) != default:
            raise UserError(f"{flag} is of --format mindir; leave it out, and give vLLM its own settings")
    folder = model_folder(args.model)
    lora = getattr(read_config(folder), "lora", None)
    overrides = {"dtype": args.dtype} if args.dtype else {}
    settings = Settings(merge_lora=lora is not None and lora.rank > 0, overrides=overrides)
    print(convert(folder, args.output, form="vllm", settings=settings).table())
    return 0
