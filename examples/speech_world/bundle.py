"""Creates the package's assets: a trained model in half precision, and recordings outside its training data.

    python examples/speech_world/bundle.py --model output/tiny_stage3/model --corpus speech_world \
        --assets mindspore_osum/assets

`--start FOLDER --share S` takes S of the trained weights and the rest of those that training went on from: it
keeps more of what the start knew (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").

The recordings are selected by rule: for each language and task, the first one of the test split (in the order
of keys) with a new speaker of the next gender and age group.
"""

import argparse
import json
import os
import shutil
from itertools import product
from pathlib import Path

import numpy as np
from grammar import LANGUAGES
from voices import AGES, GENDERS

from mindspore_osum.errors import UserError
from mindspore_osum.files import write_text
from mindspore_osum.folder import CONFIG, TOKENIZER
from mindspore_osum.tasks import TASKS
from mindspore_osum.weights_io import TensorInfo, WeightsWriter, open_weights

GROUPS = tuple(product(GENDERS, AGES))


def bundle_model(source: Path, target: Path, start: Path | None = None, share: float = 1.0) -> None:
    """Copy a model folder with its weights rounded to float16; config.json keeps the dtype for computing.

    With `start`, `share` of each weight is the source's and the rest that of this folder.
    """
    target.mkdir(parents=True, exist_ok=True)
    with open_weights(source) as weights, open_weights(start or source) as before:
        infos = {name: TensorInfo("F16", info.shape) for name, info in weights.infos.items()}
        with WeightsWriter(target, infos) as writer:
            for name in infos:
                values = weights.read(name)
                if start:
                    values = (1 - share) * before.read(name).astype(np.float32) + share * values
                if np.abs(values).max() > np.finfo(np.float16).max:
                    raise UserError(f"{source}: {name} does not fit float16; bundle the model as it is")
                writer.write(name, values)
    for name in (CONFIG, TOKENIZER):
        shutil.copyfile(source / name, target / name)


def choose(lines: list[dict]) -> list[dict]:
    """The lines of 16 recordings, one for each language and task; gender and age groups alternate.

    Raises
    ------
    UserError
        The test split is too small.
    """
    found: dict[str, list[dict]] = {}  # recording -> its lines
    heard: set[str] = set()
    for number, (language, task) in enumerate(product(LANGUAGES, TASKS.values())):
        turn = number + number // len(TASKS) * len(GROUPS) // 2  # the second language starts half-way
        gender, age = GROUPS[turn % len(GROUPS)]
        for line in lines:
            extra, speaker = line["extra"], line["extra"]["voice"].partition("+")[2]
            of_cell = line["task"] == task.key and extra["lang"] == language
            if of_cell and (extra["gender"], extra["age"]) == (gender, age) and speaker not in heard:
                heard.add(speaker)
                found[line["wav"]] = [other for other in lines if other["wav"] == line["wav"]]
                break
        else:
            raise UserError(
                f"the test split has no {language} {task.abbr} of another {gender} {age}; make it larger"
            )
    return [line for wav in sorted(found) for line in found[wav]]


def bundle_recordings(corpus: Path, target: Path) -> None:
    """Copy the chosen test recordings and their manifest to `target`, replacing its contents."""
    lines = [json.loads(line) for line in (corpus / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    chosen = choose(lines)
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.wav"):
        old.unlink()
    manifest = []
    for line in chosen:
        name = Path(line["wav"]).name
        shutil.copyfile(corpus / line["wav"], target / name)
        manifest.append(json.dumps(line | {"wav": name}, ensure_ascii=False))
    write_text(target / "manifest.jsonl", "\n".join(manifest) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="trained model folder")
    parser.add_argument("--start", type=Path, help="model folder that training went on from")
    parser.add_argument("--share", type=float, default=0.5, help="of the trained weights (default 0.5)")
    parser.add_argument("--corpus", type=Path, required=True, help="folder that generate.py wrote")
    parser.add_argument("--assets", type=Path, required=True, help="gets tiny/ and recordings/")
    args = parser.parse_args()
    try:
        bundle_model(args.model, args.assets / "tiny", args.start, args.share)
        bundle_recordings(args.corpus, args.assets / "recordings")
    except (UserError, OSError) as error:
        raise SystemExit(f"bundle: {error}") from None
    size = sum(os.path.getsize(path) for path in args.assets.rglob("*") if path.is_file())
    print(f"{args.assets}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
