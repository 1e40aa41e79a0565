"""Makes what the package bundles: a trained model in half precision, and recordings it was not trained on.

    python examples/speech_world/bundle.py --model output/tiny_asr/model --corpus speech_world \
        --assets mindspore_osum/assets

The recordings are the first of each test voice and language in the order of their keys, so nobody chose them.
"""

import argparse
import json
import os
import shutil
from pathlib import Path

import numpy as np

from mindspore_osum.errors import UserError
from mindspore_osum.folder import CONFIG, TOKENIZER
from mindspore_osum.weights_io import TensorInfo, WeightsWriter, open_weights, write_text


def bundle_model(source: Path, target: Path) -> None:
    """Copy a model folder with its weights rounded to float16; config.json still says how it computes."""
    target.mkdir(parents=True, exist_ok=True)
    with open_weights(source) as weights:
        infos = {name: TensorInfo("F16", info.shape) for name, info in weights.infos.items()}
        with WeightsWriter(target, infos) as writer:
            for name in infos:
                values = weights.read(name)
                if np.abs(values).max() > np.finfo(np.float16).max:
                    raise UserError(f"{source}: {name} does not fit float16; bundle the model as it is")
                writer.write(name, values)
    for name in (CONFIG, TOKENIZER):
        shutil.copyfile(source / name, target / name)


def choose(lines: list[dict], count: int) -> list[dict]:
    """Half English, half Mandarin; within a language the speakers take turns."""
    chosen = []
    for language in ("en", "zh"):
        by_speaker: dict[str, list[dict]] = {}
        for line in lines:
            if line["extra"]["lang"] == language:
                by_speaker.setdefault(line["extra"]["voice"].partition("+")[2], []).append(line)
        turns = [line for turn in zip(*by_speaker.values(), strict=False) for line in turn]
        chosen += turns[: count // 2]
    return chosen


def bundle_recordings(corpus: Path, target: Path, count: int) -> None:
    """Copy `count` test recordings with a manifest."""
    lines = [json.loads(line) for line in (corpus / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    target.mkdir(parents=True, exist_ok=True)
    manifest = []
    for line in choose(lines, count):
        name = f"{line['key']}.wav"
        shutil.copyfile(corpus / line["wav"], target / name)
        manifest.append(json.dumps(line | {"wav": name}, ensure_ascii=False))
    write_text(target / "manifest.jsonl", "\n".join(manifest) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="trained model folder")
    parser.add_argument("--corpus", type=Path, required=True, help="folder that generate.py wrote")
    parser.add_argument("--assets", type=Path, required=True, help="gets tiny/ and recordings/")
    parser.add_argument("--count", type=int, default=12, help="recordings (default 12)")
    args = parser.parse_args()
    try:
        bundle_model(args.model, args.assets / "tiny")
        bundle_recordings(args.corpus, args.assets / "recordings", args.count)
    except (UserError, OSError) as error:
        raise SystemExit(f"bundle: {error}") from None
    size = sum(os.path.getsize(path) for path in args.assets.rglob("*") if path.is_file())
    print(f"{args.assets}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
