"""A subject's results: a card for people, and one JSON line for programs.

Notable choices
- `RATIOS` is the list of promises: a key, the bound, and on which side of it a value should be. A
  subject cannot add to it; everything else that it measured is in `figures`.
- A ratio that could not be measured is missing, never guessed; its reason is a note.
"""

import math
import sys
from dataclasses import asdict, dataclass, field
from typing import NamedTuple


class Bound(NamedTuple):
    """What a ratio should reach."""

    text: str
    value: float
    at_least: bool = True

    def met(self, value: float) -> bool:
        """Whether `value` is on the right side."""
        return value >= self.value if self.at_least else value <= self.value


RATIOS = {
    "encoder_30s_vs_torch": Bound("encoder, 30 s: PyTorch's time / ours", 1.0),
    "encoder_unpadded_gain": Bound("encoder: our 30 s / our 4.5 s unpadded", 6.0),
    "decode_vs_torch": Bound("generate, batch 1: our tokens/s / PyTorch's", 2.2),
    "decode_bandwidth_share": Bound("decode, batch 1: bytes read a second / memory bandwidth", 0.7),
    "decode_batch8_gain": Bound("decode: tokens/s of batch 8 / batch 1", 4.0),
    "cache_gain": Bound("recompute / KV cache, a token at 256", 8.0),
    "launches_decode_layer": Bound("Ascend: kernels a decoder layer starts for a token", 20, False),
    "prefill_vs_torch": Bound("prefill: PyTorch's time / ours", 1.0),
    "train_step_vs_torch": Bound("training step, the worse of two models: PyTorch's time / ours", 1.0),
    "packed_vs_static32": Bound("useful tokens/s: packed / static batch of 32", 1.6),
    "packed_vs_pad30": Bound("useful tokens/s: packed / padded to 30 s", 4.0),
    "packed_vs_dynamic": Bound("useful tokens/s: packed / sorted dynamic, 200 steps with compiling", 1.3),
    "packing_efficiency": Bound("positions of packs in use", 0.98),
    "recompiles": Bound("graphs compiled after warm-up", 0, False),
    "loader_vs_demand": Bound("samples/s: loader / training", 3.0),
    "index_first_batch_s": Bound("index of 10 million lines: to the first batch, s", 10.0, False),
    "logmel_realtime": Bound("log-mel: seconds of sound a second, one core", 200.0),
    "convert_vs_disk": Bound("conversion: bytes written a second / the disk's", 0.7),
    "whisper_vs_transformers": Bound("Whisper, the worst of all: transformers' time / ours", 1.2),
    "whisper_vs_openai": Bound("Whisper, the worst of all: openai-whisper's time / ours", 1.2),
    "whisper_vs_faster": Bound("Whisper, the worst of all: faster-whisper's time / ours", 0.8),
    "first_answer_s": Bound("command to first answer, files in memory, s", 10.0, False),
}


@dataclass
class Curve:
    """Cost as work grows."""

    x_name: str
    y_name: str
    points: list[tuple[float, float]]

    def slope(self) -> float:
        """Exponent b of y ~ x^b over the upper half of the points: 1 is linear, 0 constant."""
        upper = self.points[(len(self.points) - 1) // 2 :]
        (x0, y0), (x1, y1) = upper[0], upper[-1]
        return math.log(y1 / y0) / math.log(x1 / x0)


@dataclass
class Outcome:
    """The results of one subject, or of all."""

    ratios: dict[str, float] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    rows: list[tuple[str, str]] = field(default_factory=list)  # of the card: what, how much
    notes: list[str] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)

    def ratio(self, key: str, value: float) -> None:
        """Record one of `RATIOS`, and show it at once."""
        if key not in RATIOS:
            raise KeyError(key)
        self.ratios[key] = float(value)
        print(f"osum: {key} {value:.4g}", file=sys.stderr, flush=True)

    def figure(self, key: str, value: float, what: str, text: str) -> None:
        """Record a figure; the card shows `what` and `text`."""
        self.figures[key] = float(value)
        self.rows.append((what, text))

    def curve(self, key: str, curve: Curve) -> None:
        """Record a curve and its slope."""
        self.curves[key] = curve
        points = ", ".join(f"{x:g}: {y:.3g}" for x, y in curve.points)
        self.rows.append((f"{curve.y_name} by {curve.x_name}", f"{points} (exponent {curve.slope():.2f})"))

    def take(self, other: "Outcome") -> None:
        """Add the results of another."""
        self.ratios |= other.ratios
        self.figures |= other.figures
        self.rows += other.rows
        self.notes += other.notes
        self.curves |= other.curves

    def to_dict(self) -> dict:
        """Plain dictionaries and lists."""
        return {
            "ratios": self.ratios,
            "figures": self.figures,
            "notes": self.notes,
            "curves": {key: asdict(curve) for key, curve in self.curves.items()},
        }


def outcome_of(values: dict) -> Outcome:
    """An `Outcome` from its `to_dict`; its lines have been shown already."""
    curves = {
        key: Curve(c["x_name"], c["y_name"], [tuple(p) for p in c["points"]])
        for key, c in values["curves"].items()
    }
    return Outcome(values["ratios"], values["figures"], notes=values["notes"], curves=curves)


def card(title: str, outcome: Outcome) -> str:
    """Lines for people."""
    width = max([len(what) for what, _ in outcome.rows] + [20])
    lines = [f"== {title}"]
    lines += [f"  {what:<{width}}  {text}" for what, text in outcome.rows]
    lines += ratio_lines(outcome.ratios)
    return "\n".join(lines + [f"  note: {note}" for note in outcome.notes])


def ratio_lines(ratios: dict[str, float]) -> list[str]:
    """A line for each ratio with its bound."""
    lines = []
    for key, value in ratios.items():
        bound = RATIOS[key]
        side, verdict = (">=" if bound.at_least else "<="), ("met" if bound.met(value) else "MISSED")
        lines.append(f"  {key:<23} {value:>9.4g}  {side} {bound.value:<5g} {verdict:<6}  {bound.text}")
    return lines
