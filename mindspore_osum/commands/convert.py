"""`osum convert`: arguments and printing; the work is in `convert.py` and `verify.py`."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from mindspore_osum.commands.arguments import add_overrides
from mindspore_osum.errors import UserError

EXAMPLES = """\
examples:
  osum convert step_832499.pt --output model --tokenizer tokenizer.model
  osum convert model --output back.pt                       # published names again
  osum convert ASLP-lab/OSUM-Pangu/step_832499.pt --output model \\
      --tokenizer FreedomIntelligence/openPangu-Embedded-7B-V1.1   # both from a hub
  osum convert --encoder whisper-medium/ --decoder openPangu-Embedded-7B/ --output start
  osum convert model --merge-lora --output merged           # the same: osum merge-lora model merged
  osum convert model --to peft --output adapters            # LoRA alone, for the PEFT library
  osum convert model --adapters adapters --output tuned     # and back, beside any model or --decoder
  osum convert merged --to hf_decoder --output decoder      # the language model alone, for transformers
  osum convert step_832499.pt --output model --verify-only  # compare an earlier conversion
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the verb's arguments."""
    add = parser.add_argument
    add(
        "source",
        nargs="?",
        help="a whole model: published .pt or .safetensors, model folder, or owner/name on a hub",
    )
    add(
        "--encoder",
        metavar="PATH",
        help="take the encoder from here: Whisper (our folder, Hugging Face, openai .pt), or a whole model",
    )
    add("--decoder", metavar="PATH", help="take the decoder from here: Hugging Face folder, or a whole model")
    add("--aligner", metavar="FILE", help="take a linear aligner's one layer from here: its weight and bias")
    add("--adapters", metavar="PATH", help="folder of PEFT adapters: they become the decoder's LoRA")
    add("--output", "-o", required=True, metavar="PATH", help="new folder, or new .pt / .safetensors file")
    add(
        "--to",
        metavar="FORM",
        help="folder (default), published (default for a file), hf_decoder, hf_whisper, openai_whisper, peft;"
        " of a linear aligner also linear_aligner (default for a file), aligner",
    )
    add("--preset", help="where values come from that no tensor has (head counts, rope_theta, token ids)")
    add("--config", metavar="FILE", help="a config.json of ours, taken whole instead of a preset")
    add_overrides(parser, "the configuration, for instance decoder.n_heads=6")
    add(
        "--tokenizer",
        metavar="FILE",
        help="tokenizer for the folder: tokenizer.model (SentencePiece), tokenizer.json (byte-level BPE),"
        " or a folder that has one (default: the one beside the source)",
    )
    add("--merge-lora", action="store_true", help="add LoRA to the weights it belongs to")
    add(
        "--allow",
        default="",
        metavar="KINDS",
        help="go on in spite of: missing, unexpected, wrong-shape (comma-separated)",
    )
    add("--base-name", metavar="NAME", help="to peft: the Hugging Face model the adapters belong to")
    add("--buffers", action="store_true", help="to published: write the positional buffers too")
    add(
        "--shard-gb",
        type=float,
        default=4.0,
        metavar="GB",
        help="largest weights file of a folder (default 4)",
    )
    add("--seed", type=int, default=0, help="of the parts that no source has")
    add("--verify", action="store_true", help="run source and result on random input and compare")
    add("--verify-layers", type=int, metavar="N", help="verify the first N layers of encoder and decoder")
    add(
        "--reference",
        default="auto",
        choices=("auto", "torch", "mindnlp"),
        help="what runs the source to verify",
    )
    add(
        "--verify-only",
        action="store_true",
        help="compare source and an --output that exists; convert nothing",
    )


def run(args: argparse.Namespace) -> int:
    """Convert and/or verify; returns the exit status."""
    from ckpt_convert.convert import convert
    from ckpt_convert.report import TROUBLES, ConversionError
    from ckpt_convert.settle import Settings
    from mindspore_osum.config import did_you_mean, parse_overrides

    allow = frozenset(word.strip() for word in args.allow.split(",") if word.strip())
    for word in sorted(allow - set(TROUBLES)):
        raise UserError(f"--allow {word!r} is unknown{did_you_mean(word, TROUBLES)}")
    if args.verify_layers is not None and args.verify_layers < 1:
        raise UserError(f"--verify-layers must be 1 or more, not {args.verify_layers}")
    if not 0 < args.shard_gb < 1e6:
        raise UserError(f"--shard-gb must be positive, not {args.shard_gb}")
    if (args.verify or args.verify_only) and (args.adapters or args.to == "peft"):
        raise UserError("--verify compares whole models and their parts, no PEFT adapters")
    for name in ("source", "encoder", "decoder", "aligner", "adapters", "tokenizer"):
        if given := getattr(args, name):
            setattr(args, name, local(given, name == "tokenizer"))
    if not args.verify_only:
        settings = Settings(
            args.preset, args.config, parse_overrides(args.overrides), allow, args.merge_lora, args.seed
        )
        try:
            report = convert(
                args.source,
                args.output,
                encoder=args.encoder,
                decoder=args.decoder,
                aligner=args.aligner,
                adapters=args.adapters,
                form=args.to,
                settings=settings,
                tokenizer=args.tokenizer,
                buffers=args.buffers,
                shard_bytes=int(args.shard_gb * 1e9),
                base_name=args.base_name,
            )
        except ConversionError as error:
            print(error.report.table(), file=sys.stderr)
            raise
        print(report.table())
    return _verify(args) if args.verify or args.verify_only else 0


def local(name: str, tokenizer: bool) -> str:
    """The path itself, or what is downloaded of a hub's repository."""
    from mindspore_osum.folder import CONFIG
    from mindspore_osum.hub import download, parse

    if (repo := parse(name)) is None:
        return name
    if tokenizer and not repo.file:  # with one small file come all others, and no weights
        return str(download(replace(repo, file=CONFIG)).parent)
    return str(download(repo))


def _verify(args: argparse.Namespace) -> int:
    from ckpt_convert.sources import is_ours
    from ckpt_convert.verify import verify

    parts = {"model": args.source, "encoder": args.encoder, "decoder": args.decoder}
    given = {part: path for part, path in parts.items() if path}
    if not given:
        raise UserError("--verify-only compares a source with its --output; give the source")
    if args.aligner:
        print(f"{args.aligner}: not compared alone; convert to one file and verify that", file=sys.stderr)
    agree = True
    forward = is_ours(
        Path(args.output)
    )  # when converting to PyTorch the folder is the source and the checkpoint the output
    for part, path in given.items():
        pair = (path, args.output) if forward else (args.output, path)
        result = verify(*pair, part=part, by=args.reference, layers=args.verify_layers)
        print(f"{pair[0]}: {result.table()}")
        print(json.dumps(result.to_dict()))
        agree = agree and result.ok
    return 0 if agree else 1
