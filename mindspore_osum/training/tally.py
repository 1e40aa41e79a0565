"""Running means of losses by name, over a report interval or a validation."""

from collections.abc import Iterable, Sequence


class Tally:
    """Name -> total and count of a loss."""

    def __init__(self):
        self.sums: dict[str, tuple[float, float]] = {}

    def add(self, name: str, total: float, count: float) -> None:
        """Add a loss."""
        before = self.sums.get(name, (0.0, 0.0))
        self.sums[name] = before[0] + float(total), before[1] + float(count)

    def take(self, other: "Tally") -> None:
        """Add all losses of another tally."""
        for name, (total, count) in other.sums.items():
            self.add(name, total, count)

    def means(self, prefix: str = "") -> dict[str, float]:
        """Name with `prefix` -> mean; losses with count 0 are left out."""
        return {prefix + name: total / count for name, (total, count) in self.sums.items() if count}


def add_losses(
    tally: Tally,
    names: Sequence[str],
    counted: Sequence[str],
    values_K: Iterable[float],
    counts_J: Iterable[float],
    over: dict[str, float],
) -> None:
    """Tally of the losses of a training network.

    Parameters
    ----------
    names, counted : names of the losses, and of those that are sums (training/network.py).
    values_K, counts_J : their values and counts.
    over : count of each of the other losses; 1 where it is not named.
    """
    counts = over | dict(zip(counted, counts_J))
    for name, value in zip(names, values_K, strict=True):
        tally.add(name, value, counts.get(name, 1.0))
