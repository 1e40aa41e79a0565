"""Record what a change must not alter, and compare: the same bits on CPU, before and after.

    python scripts/equal.py record before                     # in the old tree: some five minutes
    python scripts/equal.py compare before                    # in the changed tree: records anew, compares
    python scripts/equal.py compare before --only plan training:packed,lora
    python scripts/equal.py compare before --with after       # two recordings, nothing is run
    python scripts/equal.py compare before --but model_type   # keys with that name differ on purpose
    python scripts/equal.py record before --tree ../other     # what another checkout computes

A recording is a folder with one JSON file a subject, key -> value. The subjects (and their parts, which
``--only SUBJECT:PART,PART`` chooses):

- answers: the bundled model on the bundled recordings, every task by tag and in words (parts tag, words);
  with the probabilities of labels (part probabilities); `osum annotate` (part annotate).
- eval: scores and raw answers of `osum eval`, by tags and in words.
- training: losses, gradient norms and final tensors of 20 steps of small jobs; the parts are the jobs of
  tests/equal/training.py, `processes` among them: two processes, data parallel.
- conversion: `osum convert` between every form (parts published, stock, golden): reports, digests of tensors
  and files, and the conversion back.
- golden: the published golden checkpoint: features, outputs of the modules, logits, loss, gradients, answers.
  It needs the shared folder (OSUM_SHARED or ../shared) and is left out with a one-line message where that is
  missing, like conversion:golden.
- plan: `osum plan` of the published and the small jobs, as JSON and as text.

Equal is the same value: a float in all its digits, an array by the digest of its bytes. Of text that is meant
for people only the numbers count; where the words around them differ, that is reported and is no difference.
One line is printed for each group of differing keys (the same name in one part), with the first of them and,
for numbers, the size of the difference. Exit status 1 if anything differs, or could not be recorded.

Values that are no property of the code are left out: see LEFT_OUT in tests/equal/values.py. Everything runs
on one thread, so that sums have one order. Recordings of two machines need not be equal.
"""

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.equal import recording  # noqa: E402

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("do", choices=("record", "compare"))
    parser.add_argument("folder", type=Path, metavar="DIR", help="the recording to write, or to compare with")
    parser.add_argument(
        "--only", nargs="+", metavar="SUBJECT[:PART,PART]", help="of " + ", ".join(recording.SUBJECTS)
    )
    parser.add_argument("--tree", type=Path, default=ROOT, metavar="DIR", help="checkout (default: this one)")
    parser.add_argument(
        "--with", dest="other", type=Path, metavar="DIR", help="compare with this recording; run nothing"
    )
    parser.add_argument(
        "--but", nargs="+", default=[], metavar="NAME", help="names in keys that are to differ, as model_type"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep what compare records anew there")
    args = parser.parse_args()
    try:
        chosen = recording.chosen(args.only)
        if args.do == "record":
            sys.exit(recording.record(args.folder, args.tree.resolve(), chosen))
        status = 0
        with tempfile.TemporaryDirectory() as fresh:
            after = args.other or args.keep or Path(fresh)
            if not args.other:
                status = recording.record(after, args.tree.resolve(), chosen)
            sys.exit(status | recording.compare(args.folder, after, chosen, set(args.but)))
    except recording.CannotRecord as error:
        sys.exit(f"equal.py: {error}")
