"""The published figures (published.yaml), and which of them a result may be held against."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class Metric:
    """How a metric is printed. `unit`: "%" for fractions."""

    title: str
    unit: str
    better: str  # "lower" or "higher"

    def show(self, value: float | None) -> str:
        """Print one of our values in the unit of the papers."""
        if value is None:
            return "-"
        return f"{100 * value:.2f}" if self.unit == "%" else f"{value:.2f}"


@dataclass(frozen=True)
class PublishedSet:
    """A published test set; `utterances` None where its size is not known."""

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
    """Return all metrics that have a published figure or stand in the report's first table."""
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
    """Return the id of the published set of this name, None if it is none of them."""
    wanted = _fold(dataset)
    for name, known in published_sets().items():
        if wanted in {_fold(name), *map(_fold, known.names)}:
            return name
    return None


def by_table() -> Iterator[tuple[Figure, str]]:
    """Yield the figures of each table on one test set: the first of them, and all of them in words."""
    same: dict[tuple, list[Figure]] = {}
    for f in figures():
        same.setdefault((f.task, f.set, f.metric, f.source, f.prompts), []).append(f)
    for some in same.values():
        yield some[0], ", ".join(f"{f.system} {f.value:g}" + (f" [{f.note}]" if f.note else "") for f in some)


def obstacle(figure: Figure, same_set: bool, utterances: int, limited: bool) -> str:
    """Say whether a result of ours may be held against a figure: "yes", or why not.

    Parameters
    ----------
    same_set : ours is of the same test set, by its name
    utterances : how many of it were scored
    limited : only a part of the set was asked for
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
