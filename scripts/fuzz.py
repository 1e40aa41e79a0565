"""Feed every reader changed files, and count what comes of them: a seeded attack that can be repeated.

    python scripts/fuzz.py                                  # a minute, all readers in turn
    python scripts/fuzz.py --reader pt,audio --count 20000 --seconds 7200
    python scripts/fuzz.py --targets --seconds 3600 --write docs/RELIABILITY.md   # the long run: minutes

Readers: `.pt` files, safetensors headers, descriptions and indexes of models, YAML, lines of manifests,
shards, recordings of all formats, and HTTP bodies. Valid small files are changed: bits, lengths, pieces of
each other, and the structure of pickles, JSON and headers. Each reader has a process of its own with 1 GB of
memory; an input has 5 s of processor time. An input ends well if it is read, or refused by one line
(`UserError`); whatever is executed, written, ends the process, takes longer, needs more, or raises anything
else is a fault.

Exit status 1 if there is a fault. The number of an input and the seed make it again: it is kept with --keep.
"""

import argparse
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.fuzz.readers import READERS  # noqa: E402
from tests.fuzz.run import fuzz, table  # noqa: E402

BEGIN, END = "<!-- fuzz -->", "<!-- /fuzz -->"


def write(path: Path, lines: list[str]) -> None:
    """Put the lines between the marks of a document."""
    before, _, rest = path.read_text("utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text("\n".join([before + BEGIN, *lines, END]) + after, "utf-8")


def machine() -> str:
    """Commit and machine, for a report."""
    git = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"commit {commit or 'unknown'}, {system}"


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--reader", default=",".join(READERS), help="names with commas between (default: all)"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="in all (default: 60)")
    parser.add_argument("--count", type=int, default=10**9, help="inputs for each reader, at most")
    parser.add_argument("--targets", action="store_true", help="the counts of the long run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the inputs that are faults")
    parser.add_argument(
        "--write", type=Path, metavar="FILE", help="document whose marked section is replaced"
    )
    args = parser.parse_args()
    names = args.reader.split(",")
    if unknown := set(names) - READERS.keys():
        parser.error(f"no reader {', '.join(sorted(unknown))}; known: {', '.join(READERS)}")
    outcomes, left = [], args.seconds
    for n, name in enumerate(names):
        count = READERS[name].target if args.targets else args.count
        share = left if args.targets else left / (len(names) - n)
        outcomes.append(fuzz(name, args.seed, count, share, args.keep and args.keep.resolve()))
        left -= outcomes[-1].seconds
        for number, kind, what in outcomes[-1].found:
            print(f"{name} {number}: {kind}: {what}", flush=True)
        print("\n".join(table(outcomes[-1:])[2:]), flush=True)
    lines = table(outcomes)
    print("\n".join(lines))
    if args.write:
        command = "python scripts/fuzz.py " + " ".join(sys.argv[1:])
        write(
            args.write, [f"`{command}`; {machine()}; {sum(o.seconds for o in outcomes):.0f} s.", "", *lines]
        )
    return int(any(outcome.faults for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
