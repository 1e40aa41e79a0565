"""Plots the curves of a run from its metrics.jsonl: all losses, learning rate, gradient norm.

Notable choices
- Any number in the file that is not one of `OTHERS` is plotted as a loss: new losses need no change here.
"""

from collections.abc import Iterator
from pathlib import Path

from mindspore_osum.errors import UserError
from mindspore_osum.figures import new_figure, save_png
from mindspore_osum.files import json_object

CURVES = "curves.png"
SKIPPED = "skipped_steps"  # of the records of steps that were not applied
LOWER = ("lr", "grad_norm")  # rows of their own, where the run has them
OTHERS = {"step", "epoch", "utterances_per_s", "tokens_per_s", "seconds", SKIPPED, *LOWER}


def draw(metrics: Path) -> Path:
    """Plot the curves of a metrics.jsonl into the same folder; returns the picture's path."""
    series, skipped = read(metrics)
    losses = [name for name in series if name not in OTHERS]
    rows = [losses, *([name] for name in LOWER if name in series)]
    figure, axes = new_figure(8.0, 1.0 + 2.5 * len(rows), rows=len(rows))
    for place, names in zip([axes] if len(rows) == 1 else axes, rows, strict=True):
        for name in names:
            style = "o-" if name.startswith("valid_") else "-"
            place.plot(*zip(*series[name]), style, label=name, linewidth=1, markersize=3)
        for step in skipped:
            place.axvline(step, color="red", linewidth=0.5)
        place.set(xlabel="step")
        if names:
            place.legend()
    path = metrics.with_name(CURVES)
    save_png(figure, path)
    return path


def read(metrics: Path) -> tuple[dict[str, list[tuple[int, float]]], list[int]]:
    """Name -> [(step, value), ...] of the numbers in a metrics.jsonl, and the skipped steps."""
    series: dict[str, list[tuple[int, float]]] = {}
    skipped = []
    for record in records(metrics):
        for name, value in numbers(record).items():
            series.setdefault(name, []).append((record["step"], value))
        if SKIPPED in record:
            skipped.append(record["step"])
    return series, skipped


def records(metrics: Path) -> Iterator[dict]:
    """The complete records of a metrics.jsonl."""
    if not metrics.is_file():
        return
    with open(metrics, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json_object(line, f"{metrics}:{number}")
            except UserError:  # truncated by a crash
                continue
            yield record


def numbers(record: dict) -> dict[str, float]:
    """The numbers of a record other than its step."""
    return {k: v for k, v in record.items() if k != "step" and type(v) in (int, float)}
