"""The whole training in one command: corpus, tokenizer, warm-up, three stages, evaluation. Restartable.

    python examples/speech_world/run.py --output output/speech_world [--small] [--workers 2]

Notable choices
- A step is a command that could be typed in the output folder, to which the paths in configs/tiny are
  relative: the corpus is speech_world/ there, and the stages are output/tiny_*.
- A step whose result exists is skipped. Every command completes its result last and can be resumed (training
  from its newest checkpoint), so an interrupted run loses little and leaves no incomplete result.
- The commands inherit a lock: while one of them runs, a second run is refused, even if the parent was killed.
  msrun's workers do not inherit it; training workers hold another lock, in their stage's folder.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from notes import is_noted, write_note

from mindspore_osum.errors import UserError
from mindspore_osum.training.lock import locked

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("warm_up", "stage1", "stage2", "stage3")
CORPUS, MODEL, REPORT = "speech_world", "output/tiny_stage3/model", "output/eval/report.md"
# --small: minutes instead of hours; the model learns almost nothing, but every command runs
SMALL_CORPUS = "--train 240 --valid 12 --test 24 --requests 600".split()
SMALL_JOBS = (
    "steps=40",
    "batch.size=8",
    "batch.seconds=[4.2]",  # one length, so that each stage compiles one small graph
    "schedule.warmup_steps=10",
    "log_every=10",
    "save_every=20",
    *(f"model.overrides.{part}.n_layers=1" for part in ("encoder", "adapter", "decoder")),
)
SMALL_EVAL = "--max-new-tokens 48".split()


@dataclass(frozen=True)
class Step:
    """One command; `result` is the file it completes last. Paths are relative to the output folder."""

    title: str
    command: list[str]
    result: str


def steps(output: Path, small: bool, workers: int) -> list[Step]:
    """All steps in order.

    Raises
    ------
    UserError
        A path has characters that the launcher of several processes does not support.
    """

    def here(path: str) -> str:
        return os.path.relpath(ROOT / path, output)

    scripts, osum = "examples/speech_world", ["python", "-m", "mindspore_osum"]
    train = ["--config", *(here(f"configs/tiny/{stage}.yaml") for stage in STAGES)]
    for setting in SMALL_JOBS if small else ():
        train += ["--set", setting]
    if workers > 1:
        job = " ".join([here("scripts/train.py"), *train])
        if job.split() != [here("scripts/train.py"), *train]:
            raise UserError(f"--workers: the path to {ROOT} has spaces; move it, or train in one process")
        command = ["bash", here("scripts/msrun_launcher.sh"), job, str(workers)]
    else:
        command = [*osum, "train", *train]
    generate = ["python", here(f"{scripts}/generate.py"), "--output", CORPUS]
    tokenizer = ["python", here(f"{scripts}/make_tokenizer.py"), "--output", f"{CORPUS}/tokenizer.model"]
    evaluate = [*osum, "eval", "--model", MODEL, "--manifest", f"{CORPUS}/test.jsonl", "--prompts", "both"]
    evaluate += ["--output", str(Path(REPORT).parent), "--no-plots"]
    return [
        Step("corpus", generate + (SMALL_CORPUS if small else []), f"{CORPUS}/intent_test.jsonl"),
        Step("tokenizer", tokenizer, f"{CORPUS}/tokenizer.model"),
        Step("training, " + ", ".join(STAGES), command, f"{MODEL}/config.json"),
        Step("evaluation", evaluate + (SMALL_EVAL if small else []), REPORT),
    ]


def run(plan: list[Step], output: Path, lock) -> int:
    """Run the steps without a result; returns 0, or the status of the command that failed."""
    print(f"cd {shlex.quote(str(output))}")
    for number, step in enumerate(plan, 1):
        done = (output / step.result).exists()
        print(f"{number}. {step.title}: {'there, ' + step.result if done else 'to do'}")
    for number, step in enumerate(plan, 1):
        if (output / step.result).exists():
            continue
        print(f"\n{number}. {step.title}\n{shlex.join(step.command)}", flush=True)
        status = call(step.command, output, lock)
        if status == 0 and not (output / step.result).exists():
            status = 1  # an interrupted command may end with 0
        if status:
            said = f"run.py: {step.title} ended with status {status}; the same command goes on from there"
            print(said, file=sys.stderr)
            return status
    return 0


def call(command: list[str], folder: Path, lock) -> int:
    """Run a command in a folder; returns its status, or 128 + the number of the signal that killed it."""
    program = sys.executable if command[0] == "python" else command[0]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # for msrun
    process = subprocess.Popen(
        [program, *command[1:]], cwd=folder, env=os.environ | {"PATH": path}, pass_fds=[lock.fileno()]
    )
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        while True:
            try:
                status = process.wait()
                return status if status >= 0 else 128 - status
            except KeyboardInterrupt:  # the command received the same Ctrl-C and handles it
                continue
    finally:
        signal.signal(signal.SIGTERM, before)


def take(output: Path, settings: dict):
    """Lock the output folder; also refuses a folder whose run had other settings."""
    lock = locked(output)
    note = output / "run.json"
    if not is_noted(note, settings, "choose another --output or delete the old one"):
        write_note(note, settings)
    return lock


def results(report: str) -> str:
    """The table of results in a report."""
    return report.partition("\n## Results\n")[2].partition("\n## ")[0].strip()


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(), help="folder for everything (default: here)")
    parser.add_argument("--small", action="store_true", help="a run of minutes, to see that all steps work")
    parser.add_argument("--workers", type=int, default=1, help="processes that train (default 1)")
    options = parser.parse_args(arguments)

    def work() -> int:
        if options.workers < 1:
            raise UserError(f"--workers {options.workers}: must be 1 or more")
        output = options.output.resolve()
        plan = steps(output, options.small, options.workers)
        with take(output, {"small": options.small, "workers": options.workers}) as lock:
            status = run(plan, output, lock)
            if status == 0:
                print("\n" + results((output / REPORT).read_text(encoding="utf-8")))
            return status

    return guarded("run.py", work)


def guarded(name: str, work: Callable[[], int]) -> int:
    """The status of `work()`; errors are printed as one line on stderr."""
    try:
        return work()
    except (UserError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command goes on from there", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
