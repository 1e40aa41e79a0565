"""`osum data validate MANIFEST...`: everything that is wrong with training data, line by line."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from mindspore_osum.data.batches.batching import frames_of, samples
from mindspore_osum.data.checks import flaws
from mindspore_osum.data.formats.manifest import Skipped, Utterance
from mindspore_osum.data.formats.sources import once, open_source
from mindspore_osum.errors import UserError
from mindspore_osum.speech.audio import SAMPLE_RATE


@dataclass
class Report:
    """What one source holds."""

    path: str
    utterances: int = 0  # without any error
    hours: float = 0.0  # of their recordings
    errors: int = 0
    left_out: int = 0  # by rule: nothing is wrong with them, but they are not used
    problems: list[str] = field(default_factory=list)


def add_arguments(parser) -> None:
    """The arguments of `osum data validate`."""
    parser.add_argument(
        "manifests", metavar="MANIFEST", nargs="+", help="a .jsonl manifest, a .tar shard or a list of shards"
    )
    parser.add_argument(
        "--decode", action="store_true", help="decode every recording; else only headers are read"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")


def run(args) -> int:
    """Print what is wrong; 1 if anything is."""
    tell = (lambda text: None) if args.json else print
    reports = [validate_source(path, args.decode, tell) for path in args.manifests]
    valid = all(r.utterances and not r.errors for r in reports)
    if args.json:
        print(json.dumps({"valid": valid, "sources": [asdict(r) for r in reports]}, ensure_ascii=False))
    for r in reports:
        tell(
            f"{r.path}: {r.utterances} usable utterances, {r.hours:.2f} h, {r.errors} errors, "
            f"{r.left_out} left out by rule"
        )
    return 0 if valid else 1


def validate_source(path: str, decode: bool = False, tell: Callable[[str], None] = print) -> Report:
    """Look at everything in a source.

    Parameters
    ----------
    path : as `data.sources.open_source` takes it.
    decode : whether recordings are decoded, and not only their headers read.
    tell : called with each problem when it is found.

    Raises
    ------
    UserError : the source cannot be read at all.
    """
    report, seen = Report(str(path)), set()
    for item in open_source(path):
        if isinstance(item, Utterance):
            item = once(item, seen)  # a list of shards may hold a key in two of them
        problems, seconds = _look(item, decode)
        for problem in problems:
            report.problems.append(problem)
            tell(problem)
        if isinstance(item, Skipped) and not item.error:
            report.left_out += 1
        else:
            report.errors += len(problems)
            report.utterances += not problems
            report.hours += 0 if problems else seconds / 3600
    return report


def _look(item: Utterance | Skipped, decode: bool) -> tuple[list[str], float]:
    """What is wrong with an utterance, and its seconds."""
    if isinstance(item, Skipped):
        return [item.text], 0.0
    try:
        seconds = frames_of(item) / 100
        if decode and item.wav:
            seconds = len(samples(item)) / SAMPLE_RATE
    except UserError as error:
        return [*flaws(item), str(error)], 0.0
    return list(flaws(item, seconds if item.wav else None)), seconds
