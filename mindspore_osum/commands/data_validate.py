"""`osum data validate MANIFEST...`: everything that is wrong with training data, line by line."""

import json
from dataclasses import asdict

from mindspore_osum.commands.arguments import add_sources
from mindspore_osum.data.validate import Report, validate_source
from mindspore_osum.errors import one_line
from mindspore_osum.text.sentence_piece import special_in
from mindspore_osum.text.tokenizer import open_tokenizer


def add_arguments(parser) -> None:
    """The arguments of `osum data validate`."""
    add_sources(parser)
    parser.add_argument(
        "--decode", action="store_true", help="decode every recording; else only headers are read"
    )
    parser.add_argument(
        "--tokenizer",
        metavar="FILE",
        help="tokenizer.model whose control pieces are looked for in answers; default: the published ones",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(args) -> int:
    """Print what is wrong; 1 if anything is."""
    say = (lambda text: None) if args.json else print
    pieces = open_tokenizer(args.tokenizer).special_in if args.tokenizer else special_in
    reports = [validate_source(path, args.decode, say, pieces) for path in args.manifests]
    valid = all(r.utterances and not r.errors for r in reports)
    if args.json:
        print(json.dumps({"valid": valid, "sources": [asdict(r) for r in reports]}, ensure_ascii=False))
    for r in reports:
        warnings = f"{len(r.warnings)} warnings, " if r.warnings else ""
        say(
            f"{one_line(r.path)}: {r.utterances} usable utterances, {r.hours:.2f} h, {r.errors} errors, "
            f"{warnings}{r.left_out} left out by rule; read as {_formats(r)}"
        )
    return 0 if valid else 1


def _formats(report: Report) -> str:
    return ", ".join(f"{name} {n}" for name, n in report.formats.items()) or "nothing"
