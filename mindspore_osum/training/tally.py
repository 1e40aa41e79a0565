"""Losses by name, added up over the steps of a report or of a validation."""

from collections.abc import Iterable, Sequence


class Tally:
    """Name -> a total, and how much it is a mean over."""

    def __init__(self):
        self.sums: dict[str, tuple[float, float]] = {}

    def add(self, name: str, total: float, count: float) -> None:
        """Count a loss."""
        before = self.sums.get(name, (0.0, 0.0))
        self.sums[name] = before[0] + float(total), before[1] + float(count)

    def take(self, other: "Tally") -> None:
        """Count all that another one has."""
        for name, (total, count) in other.sums.items():
            self.add(name, total, count)

    def means(self, prefix: str = "") -> dict[str, float]:
        """Name with `prefix` -> mean; none of a loss that nothing was counted for."""
        return {prefix + name: total / count for name, (total, count) in self.sums.items() if count}


def add_losses(
    tally: Tally,
    names: Sequence[str],
    counted: Sequence[str],
    values_K: Iterable[float],
    counts_J: Iterable[float],
    over: dict[str, float],
) -> None:
    """Count what a training network shows.

    Parameters
    ----------
    names, counted : of the losses, and of those that are sums (training/network.py).
    values_K, counts_J : theirs.
    over : how much each of the other losses is a mean over; 1 where it is not named.
    """
    counts = over | dict(zip(counted, counts_J))
    for name, value in zip(names, values_K, strict=True):
        tally.add(name, value, counts.get(name, 1.0))
