"""`osum swap-llm`: another decoder in the place of a model's own; the work is in ckpt_convert."""

import argparse

EXAMPLES = """\
examples:
  osum swap-llm output/linear_aligner_align/model --decoder 01-ai/Yi-6B-Chat --output chat
  osum swap-llm output/smollm2_aligner/model --decoder SmolLM2-135M-Instruct/ --output plain   # without LoRA
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("model", help="model folder; its encoder and aligner stay")
    parser.add_argument(
        "--decoder",
        required=True,
        metavar="PATH",
        help="of the same family as its own: Hugging Face folder, owner/name on a hub, or model folder",
    )
    parser.add_argument("--output", "-o", required=True, metavar="DIR", help="new folder")
    parser.add_argument("--tokenizer", metavar="FILE", help="of the decoder (default: the one beside it)")


def run(args: argparse.Namespace) -> int:
    """Swap; returns the exit status."""
    from ckpt_convert.convert import convert
    from mindspore_osum.commands.convert import local

    decoder = local(args.decoder, False)
    print(convert(args.model, args.output, decoder=decoder, form="folder", tokenizer=args.tokenizer).table())
    return 0
