"""The curves as plots, beside the figures: bench.json and a PNG file for each."""

import json
from pathlib import Path

from mindspore_osum.bench.card import Curve
from mindspore_osum.figures import new_figure, save_png
from mindspore_osum.files import write_text


def write(folder: Path, result: dict, curves: dict[str, Curve]) -> None:
    """Write them all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "bench.json", json.dumps(result, indent=1) + "\n")
    for key, curve in curves.items():
        figure, axes = new_figure()
        axes.plot(*zip(*curve.points, strict=True), marker="o")
        axes.set_xlabel(curve.x_name)
        axes.set_ylabel(curve.y_name)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_title(f"exponent {curve.slope():.2f} over the upper half (1 = linear)")
        save_png(figure, folder / f"{key}.png")
