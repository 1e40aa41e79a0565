"""Fine-tuning from Python: from tables of recordings to a model and its answers before and after.

    python examples/fine_tune/fine_tune.py my_data [--steps 60] [--output output/fine_tune]

my_data has train.tsv and valid.tsv (docs/TUTORIAL.md does the same step by step with `osum`). The job is
job.yaml in this folder; start, steps and paths override its values.
"""

import argparse
import sys
from pathlib import Path

from mindspore_osum import OSUM
from mindspore_osum.cli import main as osum
from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.errors import UserError
from mindspore_osum.folder import BUNDLED, TOKENIZER
from mindspore_osum.inference.sampling import Sampling
from mindspore_osum.training.config import MODEL, read_job
from mindspore_osum.training.run import run_job

JOB = Path(__file__).with_name("job.yaml")
TASKS = ("asr", "sgc")
LONGEST = 64  # tokens of an answer


def import_data(root: Path, manifests: Path) -> dict[str, list[dict]]:
    """Import the tables; returns the manifests as a job's `data.train` and `data.valid`."""
    tasks = [word for task in TASKS for word in ("--task", task)]
    if osum(["data", "import", "own", str(root), str(manifests), *tasks]):
        sys.exit(1)  # the command has printed the reason
    return {
        split: [{"name": task, "path": str(manifests / f"own-{split}-{task}.jsonl")} for task in TASKS]
        for split in ("train", "valid")
    }


def train(data: dict, output: Path, start: Path, steps: int) -> Path:
    """Train, or resume an earlier run; returns the folder of the model."""
    job = {
        "output_dir": str(output),
        "steps": steps,
        "data": data,
        "model": {"start": str(start)},
        "tokenizer": str(start / TOKENIZER),
    }
    if run_job(read_job(str(JOB), job)):
        sys.exit("fine_tune.py: stopped; the same command goes on from there")
    return output / MODEL


def answers(model: Path, manifest: str) -> list[str]:
    """The model's answer to each recording of a manifest."""
    recordings = [line.wav for line in read_manifest(manifest)[0]]
    responses = OSUM.load(model)(recordings, task=TASKS[-1], sampling=Sampling(max_new_tokens=LONGEST))
    return [response.error or response.raw for response in responses]


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with train.tsv and valid.tsv")
    parser.add_argument("--output", type=Path, default=Path("output/fine_tune"), help="the run's folder")
    parser.add_argument("--model", type=Path, default=BUNDLED, help="model folder to start from")
    parser.add_argument("--steps", type=int, default=60)
    options = parser.parse_args(arguments)
    try:
        data = import_data(options.data, options.output / "manifests")
        tuned = train(data, options.output, options.model, options.steps)
        valid = data["valid"][-1]["path"]
        for line, before, after in zip(
            read_manifest(valid)[0], answers(options.model, valid), answers(tuned, valid), strict=True
        ):
            print(f"\n{line.key}: {line.txt}\n  before: {before}\n  after:  {after}")
    except UserError as error:
        print(f"fine_tune.py: {error}", file=sys.stderr)
        return 1
    print(f"\nthe model: {tuned}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
