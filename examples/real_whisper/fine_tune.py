"""Whisper learns labels, in one command: corpus, fine-tuning, evaluation before and after. Restartable.

    python examples/real_whisper/fine_tune.py --whisper whisper-base --recordings recordings \
        --synthesizer python synthesize.py --output output/real_whisper

Notable choices
- As the speech world's run.py: a step is a command that could be typed in the output folder, one whose result
  exists is skipped, and an interrupted run goes on.
- What is measured before and after is asked in the same way; before, only words can be asked.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "speech_world"))

from run import Step, guarded, run  # noqa: E402

from mindspore_osum.training.lock import locked  # noqa: E402

SETS = ("librivox", "asterisk_dev")
START, TRAINED, MODEL, TABLE = "start", "output/whisper_base/model", "model", "table.md"
# seconds of padding, of training and of use: behind longer recordings there is silence, too
SHORT, LONG = "8", "16"
OSUM = ["python", "-m", "mindspore_osum"]
EVAL = "--batch-size 8 --force-tags --no-plots".split()
# --small: minutes; nothing is learned, but every command runs
SMALL_CORPUS = "--train 60 --valid 6 --test 8 --requests 60".split()
SMALL_JOB = "steps=2 batch.size=2 schedule.warmup_steps=1 log_every=1 save_every=2".split()


def steps(options: argparse.Namespace) -> list:
    """All steps in order; paths are relative to the output folder."""
    output = options.output

    def here(path: Path) -> str:
        return os.path.relpath(path, output)

    world = ["python", here(HERE.parent / "speech_world/generate.py"), "--output", "speech_world"]
    world += SMALL_CORPUS if options.small else "--train 6000 --valid 60 --test 600 --requests 60".split()
    corpus = ["python", here(HERE / "corpus.py"), "--speech-world", "speech_world", "--output", "corpus"]
    corpus += ["--more", str(options.more)] if options.more else []
    corpus += ["--synthesizer", *options.synthesizer] if options.synthesizer else []
    pad = ["python", here(HERE / "padded.py")]
    own = ["python", here(HERE / "own_words.py"), "--model", "short", "--manifest", "corpus/words.jsonl"]
    own += ["--output", "corpus/own.jsonl", *(["--most", "8"] if options.small else [])]
    train = [*OSUM, "train", "--config", here(HERE.parents[1] / "configs/whisper/base.yaml")]
    for setting in [*(SMALL_JOB if options.small else ()), *options.set]:
        train += ["--set", setting]
    found = [
        Step("speech world", world, "speech_world/intent_test.jsonl"),
        Step("corpus", corpus, "corpus/corpus.json"),
        Step(
            "conversion", [*OSUM, "convert", str(options.whisper), "--output", START], f"{START}/config.json"
        ),
        Step("padding of training", [*pad, START, SHORT, "short"], "short/config.json"),
        Step("its own words", own, "corpus/own.jsonl"),
        Step("fine-tuning", train, f"{TRAINED}/config.json"),
    ]
    found.append(Step("padding of use", [*pad, TRAINED, LONG, MODEL], f"{MODEL}/config.json"))
    found.append(measured("labels", MODEL, "corpus/test.jsonl", "after"))
    for name in SETS if options.recordings else ():
        manifest = str(options.recordings / f"{name}.jsonl")
        found += [measured(name, START, manifest, "before"), measured(name, MODEL, manifest, "after")]
    table = ["python", here(HERE / "table.py"), "--eval", "eval", "--output", TABLE]
    return [*found, Step("table", table, TABLE)]


def measured(name: str, model: str, manifest: str, when: str):
    """The step that measures a model."""
    folder = f"eval/{name}_{when}"
    command = [*OSUM, "eval", "--model", model, "--manifest", manifest, "--output", folder, *EVAL]
    return Step(f"{name}, {when}", command, f"{folder}/report.md")


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add(
        "--whisper",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of whisper-base, of Hugging Face's form",
    )
    add(
        "--recordings", type=Path, metavar="DIR", help=f"folder of {' and '.join(f'{n}.jsonl' for n in SETS)}"
    )
    add(
        "--synthesizer",
        nargs="+",
        metavar="WORD",
        default=os.environ.get("OSUM_SYNTHESIZER", "").split(),
        help="program that makes other voices, see corpus.py (or OSUM_SYNTHESIZER; none: without them)",
    )
    add(
        "--more",
        type=Path,
        metavar="MANIFEST",
        help="its transcripts are learned, too: for example corpus/train.jsonl of examples/real_parts",
    )
    add("--output", type=Path, required=True, metavar="DIR")
    add("--small", action="store_true", help="minutes; nothing is learned, but every command runs")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the job; may be repeated",
    )
    options = parser.parse_args(arguments)
    for name in ("whisper", "recordings", "more"):
        if given := getattr(options, name):
            setattr(options, name, given.absolute())
    words = options.synthesizer  # the steps run in another folder
    options.synthesizer = [str(Path(word).absolute()) if Path(word).is_file() else word for word in words]
    options.output = options.output.resolve()

    def work() -> int:
        with locked(options.output) as lock:
            status = run(steps(options), options.output, lock)
            if status == 0:
                print("\n" + (options.output / TABLE).read_text(encoding="utf-8"))
            return status

    return guarded("fine_tune.py", work)


if __name__ == "__main__":
    sys.exit(main())
