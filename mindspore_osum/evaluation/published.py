"""The published figures (published.yaml), and which of them a result is comparable to."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class Metric:
    """Format of a metric. `unit`: "%" for fractions."""

    title: str
    unit: str
    better: str  # "lower" or "higher"

    def show(self, value: float | None) -> str:
        """Format a value in the unit of the papers."""
        if value is None:
            return "-"
        return f"{100 * value:.2f}" if self.unit == "%" else f"{value:.2f}"


@dataclass(frozen=True)
class PublishedSet:
    """A published test set; `utterances` is None if its size is unknown."""

    title: str
    names: tuple[str, ...] = ()
    utterances: int | None = None
    private: bool = False


@dataclass(frozen=True)
class Figure:
    """One number of a table, in the metric's unit."""

    task: str
    set: str
    metric: str
    system: str
    value: float
    source: str
    prompts: str | None = None
    note: str = ""


@lru_cache(maxsize=1)
def _data() -> dict:
    import yaml

    return yaml.safe_load(Path(__file__).with_name("published.yaml").read_text("utf-8"))


@lru_cache(maxsize=1)
def metrics() -> Mapping[str, Metric]:
    """Return all metrics that have a published figure or are in the report's first table."""
    return {name: Metric(**values) for name, values in _data()["metrics"].items()}


@lru_cache(maxsize=1)
def published_sets() -> Mapping[str, PublishedSet]:
    """Return the published test sets by their ids."""
    return {
        name: PublishedSet(**values | {"names": tuple(values.get("names", ()))})
        for name, values in _data()["sets"].items()
    }


@lru_cache(maxsize=1)
def figures() -> tuple[Figure, ...]:
    """Return all figures, in the order of the tables."""
    return tuple(Figure(**values) for values in _data()["figures"])


def find_set(dataset: str) -> str | None:
    """Return the id of the published set with this name, None if there is none."""
    wanted = _fold(dataset)
    for name, known in published_sets().items():
        if wanted in {_fold(name), *map(_fold, known.names)}:
            return name
    return None


def by_table() -> Iterator[tuple[Figure, str]]:
    """Yield, for each table and test set, its first figure and a text with all its figures."""
    same: dict[tuple, list[Figure]] = {}
    for f in figures():
        same.setdefault((f.task, f.set, f.metric, f.source, f.prompts), []).append(f)
    for some in same.values():
        yield some[0], ", ".join(f"{f.system} {f.value:g}" + (f" [{f.note}]" if f.note else "") for f in some)


def obstacle(figure: Figure, same_set: bool, utterances: int, limited: bool) -> str:
    """Return whether our result is comparable to a figure: "yes", or the reason why not.

    Parameters
    ----------
    same_set : whether our test set has the same name
    utterances : how many of its utterances were scored
    limited : whether only a part of the set was evaluated
    """
    theirs = published_sets()[figure.set]
    if not same_set:
        return "no: other test set" + (" (theirs was not released)" if theirs.private else "")
    if limited or theirs.utterances not in (None, utterances):
        return f"no: only {utterances} of {theirs.utterances or 'its'} utterances"
    if figure.metric == "judge_score":
        return "no: another judge"
    return "yes" if theirs.utterances else "yes, if the set is complete (its size is not published)"


def _fold(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()
