"""Plots of an evaluation: confusion matrices, error rate by duration, histogram of timing errors.

Legend: C classes, P predictions (the classes and "none"), M matched words.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mindspore_osum.evaluation.error_rate import error_columns
from mindspore_osum.evaluation.measure import group
from mindspore_osum.evaluation.scoring import INTENT, Case, sides
from mindspore_osum.evaluation.timing import shifts
from mindspore_osum.figures import new_figure, save_png
from mindspore_osum.tasks import TASKS

# English names of the styles from the OSUM report (section 3.3), since a plot's font may lack Chinese.
STYLE_NAMES = {
    "新闻科普": "news, science",
    "恐怖故事": "horror",
    "童话故事": "fairy tale",
    "客服": "customer service",
    "诗歌散文": "poetry, prose",
    "有声书": "audiobook",
    "日常口语": "conversation",
    "其他": "other",
}
DURATION_BINS = 8


def draw_all(cases: Mapping[str, Sequence[Case]], metrics: Mapping, folder: Path) -> list[str]:
    """Draw the plots of all tasks into `folder`; returns the names of the PNG files."""
    names = []
    for mode, mine in cases.items():
        for task, some in group(mine).items():
            stem, title = f"{mode}_{task}", f"{task} ({mode})"
            transcribed = [c for c in some if "asr" in c.tags]
            if task == "srwt":
                names.append(_timing(folder / f"{stem}_alignment_error.png", title, some))
            elif transcribed:
                names.append(_by_duration(folder / f"{stem}_wer_by_duration.png", title, transcribed))
            if table := metrics[mode][task].get("confusion"):
                kind = task if task == INTENT else f"{task}_{TASKS[task].label_set.field}"
                names.append(_confusion(folder / f"{mode}_{kind}_confusion.png", title, table))
    return [name for name in names if name]


def _confusion(path: Path, title: str, table: Mapping) -> str | None:
    rows_CP = np.array(table["rows"], np.int64)
    seen = np.flatnonzero(rows_CP.sum(1))
    if not len(seen):
        return None
    columns = np.flatnonzero(rows_CP.sum(0) + np.append(rows_CP.sum(1), 0))
    labels = [STYLE_NAMES.get(name, name.lower()) for name in table["labels"]]
    counts = rows_CP[np.ix_(seen, columns)]
    shares = counts / counts.sum(1, keepdims=True)
    figure, axes = new_figure(2.5 + 0.8 * len(columns), 1.8 + 0.6 * len(seen))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), n in np.ndenumerate(counts):
        ink = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, n, ha="center", va="center", color=ink)
    axes.set_xticks(range(len(columns)), [labels[c] for c in columns], rotation=30, ha="right")
    axes.set_yticks(range(len(seen)), [labels[c] for c in seen])
    axes.set(xlabel="answered", ylabel="reference", title=title)
    return save_png(figure, path)


def _by_duration(path: Path, title: str, cases: Sequence[Case]) -> str | None:
    timed = [c for c in cases if c.prediction.seconds]
    if not timed:
        return None
    seconds = np.array([c.prediction.seconds for c in timed])
    columns_N2 = error_columns(*sides(c.transcripts for c in timed))
    edges = np.unique(np.quantile(seconds, np.linspace(0, 1, DURATION_BINS + 1)))
    place = np.clip(np.searchsorted(edges, seconds, side="right") - 1, 0, max(len(edges) - 2, 0))
    figure, axes = new_figure()
    for b in np.unique(place):
        wrong, tokens = columns_N2[place == b].sum(0)
        left, right = edges[b], edges[min(b + 1, len(edges) - 1)]
        if tokens:
            width = max(right - left, 0.05)
            axes.bar(left, wrong / tokens, width, align="edge", edgecolor="white", color="C0")
    xlabel = "duration of the recording (s); bars hold like numbers of utterances"
    axes.set(xlabel=xlabel, ylabel="WER/CER", title=title)
    return save_png(figure, path)


def _timing(path: Path, title: str, cases: Sequence[Case]) -> str | None:
    moved_M2 = np.concatenate(shifts([c.reference.words for c in cases], [c.answer.words for c in cases]))
    if not len(moved_M2):
        return None
    limit = max(50.0, float(np.quantile(np.abs(moved_M2), 0.99)))
    figure, axes = new_figure()
    bins = np.linspace(-limit, limit, 61)
    for column, name in enumerate(("start", "end")):
        axes.hist(np.clip(moved_M2[:, column], -limit, limit), bins, histtype="step", label=name)
    xlabel = "answer - reference (ms); the outer bins hold what lies beyond"
    axes.set(xlabel=xlabel, ylabel="words", title=title)
    axes.legend()
    return save_png(figure, path)
