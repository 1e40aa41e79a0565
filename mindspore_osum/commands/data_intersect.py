"""`osum data intersect FIRST SECOND`: the lines on whose labels two annotators agree."""

import json
from contextlib import ExitStack
from pathlib import Path

from mindspore_osum.commands.arguments import add_derived, errors_of
from mindspore_osum.data.pipeline.derived import check_outputs, write_derived
from mindspore_osum.data.pipeline.intersect import Agreement, intersect
from mindspore_osum.data.pipeline.reading import Usable
from mindspore_osum.errors import UserError
from mindspore_osum.files import replacing, write_text


def add_arguments(parser) -> None:
    """The arguments of `osum data intersect`."""
    parser.add_argument("first", metavar="FIRST", help="the lines of one annotator: manifest, shard or list")
    parser.add_argument("second", metavar="SECOND", help="those of the other, with the same keys")
    add_derived(parser, "the first's lines whose labels the second gives, too")
    parser.add_argument("--rest", metavar="FILE.jsonl", type=Path, help="both labels of lines that differ")
    parser.add_argument("--report", metavar="FILE.json", type=Path, help="counts, agreement, confusion")


def run(args) -> int:
    """Write what both say and print how far they agree; 0."""
    counts, errors = Agreement(), errors_of(args)
    check_outputs([args.first, args.second], output=args.output, rest=args.rest, report=args.report)
    with ExitStack() as stack:
        rest = None
        if args.rest:
            try:
                args.rest.parent.mkdir(parents=True, exist_ok=True)
                rest = stack.enter_context(replacing(args.rest))
            except OSError as error:
                raise UserError(f"{args.rest}: cannot write there ({error.strerror})") from None

        def differs(utt, labels):
            if rest:
                line = {"key": utt.key, "where": utt.where, "labels": labels}
                rest.write((json.dumps(line, ensure_ascii=False) + "\n").encode("utf-8"))

        agreed = intersect(Usable([args.first], errors), Usable([args.second], errors), counts, differs)
        write_derived(args.output, agreed)
    found = counts.to_dict()
    if args.report:
        args.report.parent.mkdir(parents=True, exist_ok=True)
        write_text(args.report, json.dumps(found, ensure_ascii=False, indent=2) + "\n")
    print("\n".join(_lines(found, args.output, errors.count)))
    return 0


def _lines(found: dict, out: Path, errors: int) -> list[str]:
    fields = found.pop("fields")
    kept = found.pop("kept")
    others = ", ".join(f"{n} {reason}" for reason, n in found.items() if n)
    lines = [f"{out}: {kept} utterances with equal labels; {others or 'no others'}; {errors} errors left out"]
    for name, one in fields.items():
        kappa = "undefined" if one["kappa"] is None else f"{one['kappa']:.3f}"
        lines.append(f"{name}: {one['agreement']:.1%} of {one['lines']} equal, Cohen's kappa {kappa}")
        differ = [f"{a} / {b} {n}" for a, b, n in one["confusion"] if a != b]
        if differ:
            more = f", {len(differ) - 5} more kinds" if len(differ) > 5 else ""
            lines.append(f"  first / second: {', '.join(differ[:5])}{more}")
    return lines
