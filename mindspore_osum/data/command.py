"""`osum data`: one table from sub-verb to module.

Each module offers `add_arguments(parser)` and `run(args) -> int`, and is light to import: help shows all.
"""

import importlib

SUBVERBS = {
    "import": ("mindspore_osum.data.importers.command", "manifests from the folders of a published corpus"),
}


def add_arguments(parser) -> None:
    """The arguments of `osum data`: those of each sub-verb under its name."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name, (module, text) in SUBVERBS.items():
        part = importlib.import_module(module)
        own = verbs.add_parser(name, help=text, description=text)
        part.add_arguments(own)
        own.set_defaults(run=part.run)


def run(args) -> int:
    """Run the chosen sub-verb; its exit status."""
    return args.run(args)
