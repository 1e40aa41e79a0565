"""Statistics of training data: durations, tasks, labels, tokens; shown by `osum data stats`.

Notable choices
- Only usable utterances are included; the number of others is shown with a hint to `osum data validate`.
- Durations and tokens take eight bytes of memory per utterance.
"""

from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mindspore_osum.data.batches.batching import seconds_of
from mindspore_osum.data.checks import flaws
from mindspore_osum.data.formats.manifest import TEXT_TASKS, Utterance, key_of
from mindspore_osum.errors import UserError
from mindspore_osum.figures import new_figure, save_png
from mindspore_osum.tasks import parse_answer

QUANTILES = (0, 5, 25, 50, 75, 95, 99, 100)  # percent


@dataclass
class Stats:
    """Statistics of one or more sources.

    Attributes
    ----------
    seconds : duration of each recording (of the part that is used).
    tokens : length of each answer with its tags and its end; empty without a tokenizer.
    tasks : published key -> utterances.
    task_seconds : published key -> seconds.
    labels : field -> value -> utterances.
    not_usable : number of utterances and lines that have an error or are left out by rule.
    """

    seconds: array = field(default_factory=lambda: array("f"))
    tokens: array = field(default_factory=lambda: array("i"))
    tasks: Counter = field(default_factory=Counter)
    task_seconds: Counter = field(default_factory=Counter)
    labels: dict[str, Counter] = field(default_factory=dict)
    not_usable: int = 0

    def add(self, utt: Utterance, tokens: Callable[[Utterance], int] | None = None) -> None:
        """Count an utterance if it is usable; `tokens` gives the length of its answer."""
        try:
            seconds = seconds_of(utt)
        except UserError:
            self.not_usable += 1
            return
        if next(flaws(utt, seconds if utt.wav else None), None):
            self.not_usable += 1
            return
        key = key_of(utt)
        self.tasks[key] += 1
        if utt.wav:
            self.seconds.append(seconds)
            self.task_seconds[key] += seconds
        if key not in TEXT_TASKS:
            for name, value in parse_answer(utt.txt, utt.task).labels.items():
                self.labels.setdefault(name, Counter())[value] += 1
        if tokens:
            self.tokens.append(tokens(utt))


def describe(stats: Stats) -> list[str]:
    """The statistics as lines of text."""
    seconds = np.array(stats.seconds)
    lines = [
        f"utterances: {stats.tasks.total()}, with a recording: {len(seconds)}, "
        f"{seconds.sum(dtype=np.float64) / 3600:.2f} h"
    ]
    if stats.not_usable:
        lines.append(f"not usable: {stats.not_usable} (osum data validate says why)")
    lines += _spread("seconds of a recording", seconds, ".2f")
    lines += _spread("tokens of an answer", np.array(stats.tokens), ".0f")
    for task, count in stats.tasks.most_common():
        lines.append(f"task {task}: {count}, {stats.task_seconds[task] / 3600:.2f} h")
    for name, values in sorted(stats.labels.items()):
        shares = (f"{value} {n} ({n / values.total():.1%})" for value, n in values.most_common())
        lines.append(f"{name}: " + ", ".join(shares))
    return lines


def _spread(name: str, values: np.ndarray, style: str) -> list[str]:
    if not len(values):
        return []
    points = zip(QUANTILES, np.percentile(values, QUANTILES))
    names = {0: "min", 50: "median", 100: "max"}
    shown = ", ".join(f"{names.get(q, f'{q} %')} {format(v, style)}" for q, v in points)
    return [f"{name}: {shown}, mean {format(values.mean(dtype=np.float64), style)}"]


def draw(stats: Stats, path: Path) -> None:
    """Write histograms of durations and tokens, and bars of tasks, as a PNG file."""
    numbers = {"seconds of a recording": stats.seconds, "tokens of an answer": stats.tokens}
    panels = [(_histogram, np.array(values), name) for name, values in numbers.items() if len(values)]
    panels.append((_bars, stats.tasks, "utterances"))
    figure, axes = new_figure(7.0, 3.0 * len(panels), len(panels))
    for (kind, values, name), part in zip(panels, np.atleast_1d(axes)):
        kind(part, values, name)
    save_png(figure, path)


def _histogram(axes, values: np.ndarray, name: str) -> None:
    axes.hist(values, bins=40, color="C0")
    axes.axvline(np.percentile(values, 95), color="C1", label="95 %")
    axes.set(xlabel=name, ylabel="utterances")
    axes.legend()


def _bars(axes, counts: Counter, name: str) -> None:
    tasks = [task for task, _ in counts.most_common()][::-1]
    axes.barh(tasks, [counts[task] for task in tasks], color="C0")
    axes.set(xlabel=name)
