"""`osum bench`: measure, show a card, end with one JSON line.

Notable choices
- `all` runs each subject in a process of its own, with a time limit: memory, threads and graphs of one do not
  affect the next, and if one fails only its own ratios are missing.
- Both sides have the same weights, threads and rounds, take turns, and ratios are of medians.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mindspore_osum.bench.card import Outcome, card, outcome_of, ratio_lines
from mindspore_osum.bench.setup import Setup, default_threads, machine
from mindspore_osum.bench.timing import set_threads
from mindspore_osum.commands.console import clean_stdout, say
from mindspore_osum.errors import UserError
from mindspore_osum.quiet import quiet_libraries

# subject -> seconds it may take as a part of `all`
SUBJECTS = {
    "encoder": 200,
    "launches": 120,
    "prefill": 150,
    "decode": 300,
    "train": 300,
    "packing": 420,
    "features": 90,
    "index": 200,
    "convert": 90,
    "load": 200,
    "requests": 240,
}
WITH_MODEL = "whisper"  # measured with a given model, so not a part of `all`

EXAMPLES = """\
examples:
  osum bench all --output bench             # everything, and the plots
  osum bench decode --threads 1
  osum bench launches                       # operators of Ascend's graphs, counted on any machine
  osum bench all --quick | tail -1          # does it work? its ratios mean nothing
  osum bench whisper --model openai/whisper-base --audio talk.flac --python other/bin/python
"""


def add_arguments(parser) -> None:
    """The arguments of `osum bench` and scripts/bench.py."""
    parser.add_argument("subject", choices=(*SUBJECTS, WITH_MODEL, "all"), help="what to measure")
    parser.add_argument("--quick", action="store_true", help="small models, few runs: to see that it works")
    parser.add_argument(
        "--threads",
        type=int,
        default=default_threads(),
        metavar="N",
        help="of both sides (default: all cores; MindSpore takes them anyhow)",
    )
    whisper = parser.add_argument_group("whisper")
    whisper.add_argument("--model", metavar="FOLDER", help="of a Whisper: folder, or a name as of transcribe")
    whisper.add_argument("--audio", nargs="+", metavar="FILE", default=[], help="speech, joined to a talk")
    whisper.add_argument(
        "--python",
        metavar="FILE",
        help="interpreter of an environment with transformers, openai-whisper, faster-whisper or some of "
        "them (default: this one)",
    )
    whisper.add_argument("--rounds", type=int, default=3, metavar="N", help="of each program (default: 3)")
    parser.add_argument("--output", metavar="DIR", help="write bench.json and the plots there")


def run(args) -> int:
    """Measure and print; 0, or 1 if a subject failed."""
    if args.threads < 1:
        raise UserError(f"--threads {args.threads}: must be 1 or more")
    if args.rounds < 1:
        raise UserError(f"--rounds {args.rounds}: must be 1 or more")
    if args.output:
        from mindspore_osum.figures import require_matplotlib

        require_matplotlib("leave --output out")
    set_threads(args.threads)
    start = time.monotonic()
    if args.subject == "all":
        outcome, failed = _all(args)
        print("\n".join(["== all", *ratio_lines(outcome.ratios)]))
    else:
        outcome, failed = _one(args), {}
        print(card(args.subject, outcome))
    for name, line in failed.items():
        print(f"  {name} FAILED: {line}")
    result = {
        "subject": args.subject,
        "quick": args.quick,
        "threads": args.threads,
        "seconds": round(time.monotonic() - start, 1),
        "machine": machine(),
        **outcome.to_dict(),
        "failed": failed,
    }
    if args.output:
        from mindspore_osum.bench.plots import write

        write(Path(args.output), result, outcome.curves)
    print(json.dumps(result), flush=True)
    return 1 if failed else 0


def _one(args) -> Outcome:
    """One subject, in this process; whatever its libraries print goes to standard error."""
    quiet_libraries()
    subject = importlib.import_module(f"mindspore_osum.bench.{args.subject}")
    with tempfile.TemporaryDirectory(prefix="osum-bench-") as folder, clean_stdout():
        about = (args.model, tuple(args.audio), args.python, args.rounds)
        return subject.run(Setup(args.quick, args.threads, Path(folder), *about))


def _all(args) -> tuple[Outcome, dict[str, str]]:
    """Run all subjects; returns their results and a line for each that failed."""
    outcome, failed = Outcome(), {}
    for name, limit in SUBJECTS.items():
        say(f"measuring {name}")
        command = [sys.executable, "-m", "mindspore_osum", "bench", name, "--threads", str(args.threads)]
        command += ["--quick"] if args.quick else []
        try:
            lines = _output(command, limit)
            outcome.take(outcome_of(json.loads(lines[-1])))
            print("\n".join(lines[:-1]), flush=True)
        except UserError as error:
            failed[name] = str(error)
            say(f"{name}: {error}")
    return outcome, failed


def _output(command: list[str], limit: float) -> list[str]:
    """The lines a subject's process prints; UserError if it fails or takes too long."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True
    ) as process:
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            _end_group(process)
            raise UserError(f"took more than {limit} s") from None
        except BaseException:
            _end_group(process)
            raise
    if process.returncode or not out.strip():
        last = [line for line in err.strip().splitlines() if line.strip()][-1:]
        raise UserError(f"ended with {process.returncode}: {' '.join(last)}")
    return out.strip().splitlines()


def _end_group(process) -> None:
    """End a subject and its PyTorch side."""
    import signal

    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
