"""`osum merge-lora`: a model without LoRA that computes the same, for faster inference."""

import argparse

EXAMPLES = """\
examples:
  osum merge-lora output/model merged
  osum merge-lora step_832499.pt merged      # a published checkpoint, converted on the way
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    parser.add_argument("model", help="a model folder with LoRA, or any whole model `osum convert` reads")
    parser.add_argument("output", help="new folder; its weights are W + alpha/rank B A, summed in float64")


def run(args: argparse.Namespace) -> int:
    """Merge; returns the exit status."""
    from ckpt_convert.convert import convert
    from ckpt_convert.settle import Settings

    print(convert(args.model, args.output, form="folder", settings=Settings(merge_lora=True)).table())
    return 0
