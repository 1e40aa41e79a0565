"""A speech language model of real parts in one command: whisper-base, linear aligner, SmolLM2. Restartable.

    python examples/real_parts/run.py --whisper whisper-base --llm SmolLM2-135M-Instruct \
        --recordings recordings --synthesizer "python synthesize.py" --output output/real_parts

Notable choices
- As the speech world's run.py: a step is a command that could be typed in the output folder, one whose result
  exists is skipped, and an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "speech_world"))

from run import Step, guarded, run  # noqa: E402

from mindspore_osum.training.lock import locked  # noqa: E402

SPLITS = ("test", "valid", "train")
SETS = ("librivox", "asterisk_dev")
OSUM = ["python", "-m", "mindspore_osum"]
START, MODEL, OTHER = "start", "output/smollm2_aligner/model", "parts_conv1d"
JOINED = "--preset smollm2_aligner --set encoder.pad_to_seconds=0 --set dtype=float32".split()
CONV1D = "--preset touch_asu_smollm2 --set dtype=float32".split()
RANDOM = "model.start=parts tokenizer=parts output_dir=output/random steps=300 save_every=50".split()
# --small: minutes; nothing is learned, but every command runs
SMALL_JOB = (
    "steps=2 batch.size=1 batch.seconds=[5.0] schedule.warmup_steps=1 log_every=1 save_every=2".split()
)


def steps(options: argparse.Namespace) -> list[Step]:
    """All steps in order; paths are relative to the output folder."""

    def here(path: Path) -> str:
        return os.path.relpath(path, options.output)

    corpus = ["python", here(HERE / "corpus.py")]
    texts = [
        *corpus,
        "texts",
        "--model",
        "parts",
        "--output",
        "corpus",
        *(["--small"] if options.small else []),
    ]
    join = [*OSUM, "convert", "--encoder", str(options.whisper), "--decoder", str(options.llm)]
    found = [
        Step("join the parts", [*join, *JOINED, "--output", "parts"], "parts/config.json"),
        Step("texts", texts, "corpus/texts.json"),
    ]
    for split in SPLITS:
        speak = [*OSUM, "data", "speak", f"corpus/{split}_texts.jsonl", "--output", f"corpus/{split}_spoken"]
        speak += ["--voices", f"corpus/{split}_voices.jsonl", "--synthesizer", options.synthesizer]
        found.append(Step(f"speech, {split}", speak, f"corpus/{split}_spoken/manifest.jsonl"))

    def train(name: str, *settings: str) -> list[str]:
        command = [*OSUM, "train", "--config", here(HERE.parents[1] / f"configs/real/{name}.yaml")]
        for setting in [*settings, *(SMALL_JOB if options.small else ()), *options.set]:
            command += ["--set", setting]
        return command

    fit = [*OSUM, "fit-aligner", "parts", "--manifest", "corpus/train.jsonl", "--output", START]
    found += [
        Step("lines", [*corpus, "lines", "--output", "corpus"], "corpus/lines.json"),
        Step("closed form", fit, f"{START}/config.json"),
        Step("training", train("aligner"), f"{MODEL}/config.json"),
    ]
    manifests = {"unseen voices": "corpus/test_words.jsonl"}
    if options.recordings:
        manifests |= {name: str(options.recordings / f"{name}.jsonl") for name in SETS}
    for name, manifest in manifests.items():
        folder = f"eval/{name.replace(' ', '_')}"
        command = [*OSUM, "eval", "--model", MODEL, "--manifest", manifest, "--output", folder, "--no-plots"]
        found.append(Step(f"words of {name}", command, f"{folder}/report.md"))
    for name, model in (("before", "parts"), ("after", MODEL)):
        command = ["python", here(HERE / "measure.py"), "--model", model, "--corpus", "corpus"]
        command += ["--output", f"eval/{name}.json", *(["--text-only"] if name == "before" else [])]
        found.append(Step(f"speakers and text, {name}", command, f"eval/{name}.json"))
    if options.curves:
        random = train("aligner", *RANDOM)
        found += [
            Step("training from a random aligner", random, "output/random/model/config.json"),
            Step("join with conv1d", [*join, *CONV1D, "--output", OTHER], f"{OTHER}/config.json"),
            Step("training of conv1d", train("conv1d"), "output/smollm2_conv1d/model/config.json"),
        ]
    return found


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--whisper", type=Path, required=True, metavar="DIR", help="whisper-base, of Hugging Face's form")
    add("--llm", type=Path, required=True, metavar="DIR", help="SmolLM2-135M-Instruct, of the same form")
    add("--recordings", type=Path, metavar="DIR", help="people's: librivox.jsonl and asterisk_dev.jsonl")
    add(
        "--synthesizer",
        required=True,
        metavar="COMMAND",
        help="a program, quoted, as `osum data speak` takes it",
    )
    add("--output", type=Path, required=True, metavar="DIR")
    add("--small", action="store_true", help="minutes; nothing is learned, but every command runs")
    add("--curves", action="store_true", help="also train a random aligner and conv1d")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of every job")
    options = parser.parse_args(arguments)
    for name in ("whisper", "llm", "recordings"):
        if given := getattr(options, name):
            setattr(options, name, given.absolute())
    words = shlex.split(options.synthesizer)  # the steps run in another folder
    words = [str(Path(word).absolute()) if Path(word).is_file() else word for word in words]
    options.synthesizer, options.output = shlex.join(words), options.output.resolve()

    def work() -> int:
        with locked(options.output) as lock:
            status = run(steps(options), options.output, lock)
            if status == 0:
                for report in sorted((options.output / "eval").glob("*.json")):
                    print(f"\n{report.name}: {report.read_text('utf-8').strip()}")
            return status

    return guarded("run.py", work)


if __name__ == "__main__":
    sys.exit(main())
