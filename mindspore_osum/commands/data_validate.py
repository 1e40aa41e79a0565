"""`osum data validate MANIFEST...`: everything that is wrong with training data, line by line."""

import json
from dataclasses import asdict

from mindspore_osum.commands.arguments import add_sources
from mindspore_osum.data.validate import validate_source


def add_arguments(parser) -> None:
    """The arguments of `osum data validate`."""
    add_sources(parser)
    parser.add_argument(
        "--decode", action="store_true", help="decode every recording; else only headers are read"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(args) -> int:
    """Print what is wrong; 1 if anything is."""
    say = (lambda text: None) if args.json else print
    reports = [validate_source(path, args.decode, say) for path in args.manifests]
    valid = all(r.utterances and not r.errors for r in reports)
    if args.json:
        print(json.dumps({"valid": valid, "sources": [asdict(r) for r in reports]}, ensure_ascii=False))
    for r in reports:
        say(
            f"{r.path}: {r.utterances} usable utterances, {r.hours:.2f} h, {r.errors} errors, "
            f"{r.left_out} left out by rule"
        )
    return 0 if valid else 1
