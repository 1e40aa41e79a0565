"""The parser of every verb, and the arguments that several of them share.

The parser is argparse's, whose complaints name the nearest option or choice.
"""

import argparse
import re
from difflib import get_close_matches
from pathlib import Path

from mindspore_osum.errors import UserError, one_line

BATCH_SIZE = 8
"""Recordings at a time, unless the command line says otherwise."""

_UNKNOWN = re.compile(r"unrecognized arguments: .*?(--[\w-]+)")
_CHOICE = re.compile(r"invalid choice: '(.*?)' \(choose from (.*)\)")
# what openai-whisper's command calls it: what is asked for here
_OF_WHISPER = {
    "--output_format": "--format",
    "--output_dir": "--output",
    "--initial_prompt": "--prompt",
    "--word_timestamps": "--word-times",
    "--condition_on_previous_text": "--no-condition-on-previous-text",
    "--max_line_count": "--max-lines",
    "--beam_size": "--beams",
}


class Parser(argparse.ArgumentParser):
    """A parser that keeps the line breaks of the examples below its options."""

    def __init__(self, **how):
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **how)

    def error(self, message: str):
        """Print what is wrong in one line, with a suggestion, and leave with 2."""
        line = one_line(message + self._suggestion(message))
        self.exit(2, f"{self.prog}: error: {line} ({self.prog} --help says more)\n")

    def _suggestion(self, message: str) -> str:
        if found := _UNKNOWN.search(message):
            known, own = self._options(), _OF_WHISPER.get(found[1])
            if found[1] == "--language" and "--hotwords" in known:
                return "; leave it out: the model detects the language by itself"
            near = [own] if own in known else get_close_matches(found[1], known, n=1)
        elif found := _CHOICE.search(message):
            near = get_close_matches(found[1], re.findall(r"'(.*?)'", found[2]), n=1)
        else:
            near = []
        return f"; did you mean {near[0]!r}?" if near else ""

    def _options(self) -> list[str]:
        """Long options, those of a chosen sub-verb included."""
        parsers = [self, *self.sub_parsers()]
        return [flag for parser in parsers for flag in parser._option_string_actions if flag.startswith("--")]

    def sub_parsers(self) -> list["Parser"]:
        """The parsers of the sub-verbs."""
        groups = [a.choices.values() for a in self._actions if isinstance(a, argparse._SubParsersAction)]
        return [parser for group in groups for parser in group]


def add_model_arguments(parser, batch_size: int | None = BATCH_SIZE) -> None:
    """The arguments of every verb that runs a model; without a batch size, one recording at a time."""
    from mindspore_osum.folder import BUNDLED

    parser.add_argument(
        "--model",
        default=str(BUNDLED),
        metavar="DIR",
        help="model folder, or owner/name on a hub (default: the bundled model)",
    )
    add_device(parser)
    if batch_size is not None:
        parser.add_argument(
            "--batch-size",
            type=int,
            default=batch_size,
            metavar="N",
            help=f"recordings at a time (default {batch_size})",
        )


def add_device(parser) -> None:
    """--device; the verb gets "CPU" or "Ascend"."""
    from mindspore_osum.device import device_of

    def device(text: str) -> str:
        try:
            return device_of(text)
        except UserError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    parser.add_argument(
        "--device",
        default="auto",
        type=device,
        choices=("auto", "CPU", "Ascend"),
        metavar="NAME",
        help="auto, CPU or Ascend (default auto: Ascend if there is one)",
    )


def add_new_tokens(parser, what: str = "longest answer, in tokens", default: int | None = None) -> None:
    """--max-new-tokens; without a default, that of generation."""
    from mindspore_osum.inference.sampling import Sampling

    default = default or Sampling().max_new_tokens
    parser.add_argument(
        "--max-new-tokens", type=int, default=default, metavar="N", help=f"{what} (default {default})"
    )


def add_answer_arguments(parser) -> None:
    """Options of answers; `answer_settings` reads them."""
    parser.add_argument(
        "--hotwords", default="", metavar="A,B", help="names and terms that may be said, put into the request"
    )
    parser.add_argument(
        "--retry-loops",
        action="store_true",
        help="generate an answer that repeats itself once more, with a repetition penalty of 1.2",
    )
    parser.add_argument(
        "--confidence", action="store_true", help="also how sure the model is of each answer and word"
    )
    parser.add_argument(
        "--no-fallback",
        action="store_true",
        help="keep what is doubtful, which a Whisper draws anew at temperatures from 0.2 to 1",
    )
    add_beam_arguments(parser)


def answer_settings(args) -> dict:
    """The fields of `Sampling` that `add_answer_arguments` declares."""
    from mindspore_osum.inference.sampling import END, RETRY

    return {
        "loops": RETRY if args.retry_loops else END,
        "confidence": args.confidence,
        "fallback": not args.no_fallback,
    } | beam_settings(args)


def add_beam_arguments(parser) -> None:
    """Options of a beam search; `beam_settings` reads them."""
    parser.add_argument(
        "--beams",
        type=int,
        default=0,
        metavar="N",
        help="a beam search with so many hypotheses, 1: none (default: as the model was published, which is "
        "none but for OSUM with Qwen2: draws in one of 4; openai-whisper's command takes 5)",
    )
    parser.add_argument(
        "--length-penalty",
        type=float,
        metavar="X",
        help="of a beam search: above 0 favours long answers, below 0 short ones (default: the mean counts)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=1.0,
        metavar="X",
        help="of a beam search of a Whisper: it ends when N times X hypotheses have ended (default 1)",
    )


def beam_settings(args) -> dict:
    """The fields of `Sampling` that `add_beam_arguments` declares."""
    return {name: getattr(args, name) for name in ("beams", "length_penalty", "patience")}


def add_resume(parser, what: str) -> None:
    """--resume, which leaves out what an earlier run has written to --output."""
    parser.add_argument("--resume", action="store_true", help=f"leave out recordings {what}")


def add_engine(parser, replicas: str = "", address: str = "") -> None:
    """--engine ray and its cluster: `bulk.on_ray` reads them, and serve_ray.py; more help on two of them."""
    group = parser.add_argument_group("many machines", "one model a replica, by Ray (extra `ray`)")
    group.add_argument(
        "--engine", choices=("ray",), help="compute on a Ray cluster instead of in this process"
    )
    group.add_argument(
        "--replicas",
        type=int,
        metavar="N",
        help="models at a time, each with an NPU or its share of the cores (default: one for each free NPU; "
        f"on CPU, for each machine){replicas}",
    )
    group.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="of the cluster's head, or auto for the one on this machine (default: RAY_ADDRESS, or this "
        f"machine alone, while the command runs){address}",
    )


def add_sources(parser) -> None:
    """The manifests and shards that a sub-verb of `osum data` reads."""
    parser.add_argument(
        "manifests", metavar="MANIFEST", nargs="+", help="a .jsonl manifest, a .tar shard or a list of shards"
    )


def add_derived(parser, what: str) -> None:
    """--output of a step that makes a manifest of another, and how many errors it leaves out."""
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        required=True,
        help=f"{what}: NAME.jsonl of manifests, NAME.list of shards",
    )
    add_max_errors(parser)


def add_made(parser, seed: bool = False) -> None:
    """--output of a step that makes recordings and their manifest, and --seed of what it draws."""
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        required=True,
        help="a folder for manifest.jsonl and its recordings; the same command goes on where it was stopped",
    )
    if seed:
        parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is drawn (default: 0)")
    add_max_errors(parser)


def add_max_errors(parser) -> None:
    """--max-errors; `errors_of` reads it."""
    parser.add_argument(
        "--max-errors",
        type=int,
        default=0,
        metavar="N",
        help="wrong lines and recordings that are reported and left out (default: 0)",
    )


def errors_of(args):
    """The `Errors` of --max-errors; UserError if it is negative."""
    from mindspore_osum.data.checks import Errors

    if args.max_errors < 0:
        raise UserError(f"--max-errors {args.max_errors}: must be 0 or more")

    return Errors(args.max_errors, args.max_errors < 1, "--max-errors")


def add_overrides(parser, of: str) -> None:
    """--set KEY=VALUE, any number of them: `args.overrides` for `config.parse_overrides`."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help=f"a value for {of}; may be repeated",
    )
