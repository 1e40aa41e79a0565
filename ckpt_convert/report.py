"""The report of a conversion: what was done with every tensor."""

import dataclasses
from dataclasses import dataclass, field

from mindspore_osum.errors import NAME, UserError, one_line

TROUBLES = ("missing", "unexpected", "wrong-shape")  # allowed values of `allow`
_SHOWN = 8  # names listed for each kind


@dataclass
class Report:
    """Every tensor of source and target is in exactly one of the lists.

    Attributes
    ----------
    mapped : key in the source -> name in the target.
    ignored : key in the source -> why the model has no such tensor.
    merged : decoder weights with merged LoRA (keys are in `mapped`).
    initialised : target names that no source has: random from the seed, or zeros where adapters given for
        some modules leave others out.
    missing, unexpected, wrong_shape : mismatches that stop a conversion unless allowed; `unexpected` maps a
        key to the reason, `wrong_shape` a target name to the shape found and the shape expected.
    notes : configuration values inferred from the tensors that differ from the preset, and similar.
    size_bytes : bytes of the tensors written. seconds : time taken.
    """

    source: str
    output: str
    mapped: dict[str, str] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    merged: list[str] = field(default_factory=list)
    initialised: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: dict[str, str] = field(default_factory=dict)
    wrong_shape: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    size_bytes: int = 0
    seconds: float = 0.0

    def to_dict(self) -> dict:
        """Plain values, as saved in conversion_report.json."""
        return dataclasses.asdict(self)

    def table(self) -> str:
        """A short table for the terminal."""
        rows = [
            ("mapped", len(self.mapped), ""),
            ("ignored", len(self.ignored), _by_reason(self.ignored)),
            ("LoRA merged", len(self.merged), ""),
            ("initialised", len(self.initialised), _some(self.initialised)),
            ("missing", len(self.missing), _some(self.missing)),
            ("unexpected", len(self.unexpected), _by_reason(self.unexpected)),
            (
                "wrong shape",
                len(self.wrong_shape),
                _some([f"{one_line(k, NAME)} ({v})" for k, v in self.wrong_shape.items()], most=2 * NAME),
            ),
        ]
        lines = [one_line(f"{self.source} -> {self.output}")]
        for label, count, detail in rows:
            if count or label == "mapped":
                lines.append(f"  {label:<12} {count:>5}  {detail}".rstrip())
        lines += [one_line(f"  note: {note}") for note in self.notes]
        if self.seconds:
            speed = self.size_bytes / 1e6 / max(self.seconds, 1e-9)
            lines.append(f"  {self.size_bytes / 1e6:.1f} MB in {self.seconds:.1f} s ({speed:.0f} MB/s)")
        return "\n".join(lines)

    def check(self, allow: set[str]) -> None:
        """Raise `ConversionError` for missing, unexpected or wrongly shaped tensors that are not allowed."""
        troubles = zip(TROUBLES, (self.missing, self.unexpected, self.wrong_shape), strict=True)
        bad = {kind: names for kind, names in troubles if names and kind not in allow}
        if wrong := bad.get("wrong-shape"):  # of the first one also what it is, and should be
            first = next(iter(wrong))
            bad["wrong-shape"] = {f"{first} ({wrong[first]})": ""} | {k: "" for k in list(wrong)[1:]}
        if bad:
            some = {kind: _some(names, 3, 2 * NAME) for kind, names in bad.items()}
            what = "; ".join(f"{len(bad[kind])} {kind}: {names}" for kind, names in some.items())
            hint = f"osum convert --allow {','.join(bad)} goes on without them"
            raise ConversionError(f"{self.source}: {what} ({hint})", self)


class ConversionError(UserError):
    """A source does not fit its model; `report` has every tensor."""

    def __init__(self, line: str, report: Report):
        super().__init__(line)
        self.report = report


def _by_reason(whys: dict[str, str]) -> str:
    """``reason: names; reason: names``."""
    groups: dict[str, list[str]] = {}
    for key, why in whys.items():
        groups.setdefault(why, []).append(key)
    return "; ".join(f"{why}: {_some(keys, 3)}" for why, keys in groups.items())


def _some(names, limit: int = _SHOWN, most: int = NAME) -> str:
    names = list(names)
    more = f", ... {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(one_line(str(name), most) for name in names[:limit]) + more
