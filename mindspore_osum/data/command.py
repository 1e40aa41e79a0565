"""`osum data`: one table from sub-verb to module.

Each module offers `add_arguments(parser)` and `run(args) -> int`; only the chosen one is imported.
"""

import argparse
import importlib

SUBVERBS = {
    "batches": ("mindspore_osum.data.batch_forms", "padding in each form of a batch, as on AISHELL"),
    "import": ("mindspore_osum.data.importers.command", "manifests from the folders of a published corpus"),
    "validate": ("mindspore_osum.data.validate", "everything that is wrong with manifests and shards"),
    "stats": ("mindspore_osum.data.stats", "durations, tasks, labels and tokens of manifests and shards"),
    "pack": ("mindspore_osum.data.shard_writer", "a manifest and its recordings as published shards"),
}

EXAMPLES = """\
examples:
  osum data import --help           # which corpora
  osum data validate set.jsonl
  osum data stats set.jsonl
"""


class _SubParser(argparse.ArgumentParser):
    """The parser of a sub-verb, whose module tells its arguments when it is chosen."""

    module = ""

    def parse_known_args(self, args=None, namespace=None):
        part = importlib.import_module(self.module)
        part.add_arguments(self)
        self.set_defaults(run=part.run)
        return super().parse_known_args(args, namespace)


def add_arguments(parser) -> None:
    """The arguments of `osum data`: those of each sub-verb under its name."""
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=_SubParser)
    for name, (module, text) in SUBVERBS.items():
        verbs.add_parser(name, help=text, description=text).module = module


def run(args) -> int:
    """Run the chosen sub-verb; its exit status."""
    return args.run(args)
