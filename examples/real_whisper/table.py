"""The table of a fine-tuning: accuracy of labels on unseen voices, error rates before and after.

python examples/real_whisper/table.py --eval eval --output table.md
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

LABELS = {"ser": "emotion", "ssr": "style", "ved": "event", "sgc": "gender", "sap": "age"}


def metrics(folder: Path) -> dict:
    """What `osum eval` measured, for requests by tags; {} where it was not run."""
    path = folder / "metrics.json"
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def rows(home: Path) -> list[tuple[str, str, str, str]]:
    """(what, recordings, before, after)."""
    labels, found = metrics(home / "labels_after"), []
    for task, name in LABELS.items():
        scores = labels.get("fixed", {}).get(task)
        if scores:
            found.append((f"{name}, accuracy", scores["utterances"], "", percent(scores["accuracy"])))
    for dataset, scores in labels.get("sets", {}).items():
        if words := scores.get("fixed", {}).get("asr"):
            name = "MER" if "mer" in words else "WER"  # of mixed languages, of one
            found.append(
                (f"words of {dataset}, {name}", words["utterances"], "", percent(words[name.lower()]))
            )
        if words and (gender := scores["fixed"].get("sgc")) and dataset != "speech_world":
            found.append((f"gender, {dataset}", gender["utterances"], "", percent(gender["accuracy"])))
    for before in sorted(home.glob("*_before")):
        name = before.name.removesuffix("_before")
        pair = [metrics(home / f"{name}_{when}").get("fixed", {}).get("asr") for when in ("before", "after")]
        if all(pair):
            found.append(
                (f"words of {name}, WER", pair[0]["utterances"], *(percent(one["wer"]) for one in pair))
            )
    return [tuple(map(str, row)) for row in found]


def percent(rate: float | None) -> str:
    """A rate as people read it."""
    return "" if rate is None else f"{100 * rate:.1f} %"


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eval", type=Path, required=True, metavar="DIR", help="folder of the evaluations")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    found = rows(options.eval)
    if not found:
        sys.exit(f"table.py: {options.eval}: no metrics of osum eval")
    lines = ["| measured | recordings | before | after |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {' | '.join(row)} |" for row in found]
    options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
