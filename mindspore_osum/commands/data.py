"""`osum data`: one table from sub-verb to module.

Each module offers `add_arguments(parser)` and `run(args) -> int`; only the chosen one is imported.
"""

import importlib
from typing import NamedTuple

from mindspore_osum.commands.arguments import Parser


class SubVerb(NamedTuple):
    """The module of a sub-verb, its line of help, and examples (without the leading `osum data`)."""

    module: str
    help: str
    examples: tuple[str, ...]


SUBVERBS = {
    "batches": SubVerb(
        "mindspore_osum.commands.data_batches",
        "padding in each form of a batch, as on AISHELL",
        ("batches", "batches --tokens 8192 --around 10"),
    ),
    "import": SubVerb(
        "mindspore_osum.commands.data_import",
        "manifests from the folders of a published corpus",
        ("import --list", "import aishell1 corpora/aishell1 manifests --split train"),
    ),
    "validate": SubVerb(
        "mindspore_osum.commands.data_validate",
        "everything that is wrong with manifests and shards",
        ("validate set.jsonl", "validate shards/*.tar --decode --json"),
    ),
    "stats": SubVerb(
        "mindspore_osum.commands.data_stats",
        "durations, tasks, labels and tokens of manifests and shards",
        ("stats set.jsonl", "stats set.jsonl --tokenizer tokenizer.model --plot set.png"),
    ),
    "pack": SubVerb(
        "mindspore_osum.commands.data_pack",
        "a manifest and its recordings as published shards",
        ("pack set.jsonl shards", "pack set.jsonl shards --per-shard 500 --max-errors 10"),
    ),
    "index": SubVerb(
        "mindspore_osum.commands.data_index",
        "manifests and shards scanned once for a job, as Parquet that training takes in their place",
        (
            "index train.jsonl --output index --config job.yaml",
            "index shards.list more.jsonl --output index --config job.yaml --processes 32",
        ),
    ),
    "intersect": SubVerb(
        "mindspore_osum.commands.data_intersect",
        "the lines on whose labels two annotators agree",
        ("intersect one.jsonl other.jsonl --output agreed.jsonl --rest differ.jsonl",),
    ),
    "label": SubVerb(
        "mindspore_osum.commands.data_label",
        "emotions, styles or replies by a language model that reads the transcripts",
        ("label set.jsonl --task ser --url http://127.0.0.1:8000/v1 --model glm-4 --output ser.jsonl",),
    ),
    "words": SubVerb(
        "mindspore_osum.commands.data_words",
        "transcripts with the times of their words",
        (
            "words set.jsonl --times aligned/ --output srwt.jsonl   # .ctm, .TextGrid",
            "words set.jsonl --model openai/whisper-base --language en --output srwt.jsonl",
        ),
    ),
    "events": SubVerb(
        "mindspore_osum.commands.data_events",
        "speech with vocal events at random positions, and their times",
        ("events speech.jsonl --events vocalsound.jsonl --output ved",),
    ),
    "speak": SubVerb(
        "mindspore_osum.commands.data_speak",
        "spoken questions from written ones, by any text-to-speech program",
        ("speak questions.jsonl --output spoken --voices voices.jsonl --synthesizer 'python synthesize.py'",),
    ),
    "noise": SubVerb(
        "mindspore_osum.commands.data_noise",
        "copies of recordings with noise at given signal-to-noise ratios",
        ("noise set.jsonl --noise noise.list --snr 0 10 20 --output noisy",),
    ),
}

EXAMPLES = """\
examples:
  osum data import --help           # which corpora
  osum data validate set.jsonl
  osum data stats set.jsonl
"""


class _SubParser(Parser):
    """The parser of a sub-verb; its arguments come from its module, imported when the sub-verb is chosen."""

    module = name = ""

    def declare(self) -> None:
        """Import the module and add its arguments."""
        part = importlib.import_module(self.module)
        part.add_arguments(self)
        lines = [f"  osum data {line}" for line in SUBVERBS[self.name].examples]
        self.epilog = "\n".join(["examples:", *lines])
        self.set_defaults(run=part.run)

    def parse_known_args(self, args=None, namespace=None):
        """As argparse's, with the arguments of the module."""
        self.declare()
        return super().parse_known_args(args, namespace)


def add_arguments(parser) -> None:
    """The arguments of `osum data`: those of each sub-verb under its name."""
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=_SubParser)
    for name, subverb in SUBVERBS.items():
        parser = verbs.add_parser(name, help=subverb.help, description=subverb.help)
        parser.module, parser.name = subverb.module, name


def run(args) -> int:
    """Run the chosen sub-verb; its exit status."""
    return args.run(args)
