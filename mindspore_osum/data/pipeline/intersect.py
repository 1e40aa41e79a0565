"""The labels on which two annotators agree (OSUM, section 2.4: emotion and style are labelled this way).

Notable choices
- Lines belong together by their keys. Labels are compared as values of their sets, whatever their spelling.
- A line is kept if all labels that both have are equal; it is the first annotator's, unchanged.
- Agreement by chance is in Cohen's kappa (1960), over the lines that both have labelled.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.errors import UserError
from mindspore_osum.tasks import label_sets_of, parse_answer

FIRST, SECOND, NONE_SHARED = "only in the first", "only in the second", "no kind of label in common"


@dataclass
class Agreement:
    """Counts of an intersection.

    Attributes
    ----------
    kept, differ : lines with equal labels, and with different ones.
    alone : reason -> lines that were not compared.
    pairs : field -> (first's label, second's) -> lines.
    """

    kept: int = 0
    differ: int = 0
    alone: Counter[str] = field(default_factory=Counter)
    pairs: dict[str, Counter[tuple[str, str]]] = field(default_factory=dict)

    def to_dict(self) -> dict:
        """Plain values, with the agreement and kappa of each field."""
        fields = {}
        for name, pairs in self.pairs.items():
            confusion = [[a, b, n] for (a, b), n in sorted(pairs.items(), key=lambda item: (-item[1], item))]
            fields[name] = agreement(pairs) | {"lines": pairs.total(), "confusion": confusion}
        alone = {reason: self.alone[reason] for reason in (FIRST, SECOND, NONE_SHARED)}
        return {"kept": self.kept, "differ": self.differ, **alone, "fields": fields}


def agreement(pairs: Counter[tuple]) -> dict[str, float | None]:
    """The share of equal labels of two annotators, and Cohen's kappa; None where it is undefined.

    Parameters
    ----------
    pairs : (label of one, label of the other) -> items.
    """
    if not (n := pairs.total()):
        return {"agreement": None, "kappa": None}
    one, other = Counter(), Counter()
    for (a, b), count in pairs.items():
        one[a] += count
        other[b] += count
    equal = sum(count for (a, b), count in pairs.items() if a == b) / n
    chance = sum(one[label] * other[label] for label in one) / n**2
    return {"agreement": equal, "kappa": (equal - chance) / (1 - chance) if chance < 1 else None}


def labels_of(utt: Utterance) -> dict[str, str]:
    """Field -> value of the labels that the utterance's task has."""
    fields = [labels.field for labels in label_sets_of(utt.task)]
    found = parse_answer(utt.txt, utt.task).labels if fields else {}
    return {name: found[name] for name in fields if name in found}


def intersect(
    first: Iterable[Utterance],
    second: Iterable[Utterance],
    counts: Agreement,
    differs: Callable[[Utterance, dict[str, list[str]]], None],
) -> Iterator[Utterance]:
    """The utterances of the first annotator whose labels the second one gives, too.

    Parameters
    ----------
    first, second : without errors, a key occurs once; the second's labels are kept in memory.
    counts : is filled.
    differs : called with an utterance and field -> [first's label, second's] where these differ.

    Raises
    ------
    UserError : nothing that both have labelled.
    """
    others = {utt.key: labels_of(utt) for utt in second}
    for utt in first:
        other = others.pop(utt.key, None)
        if other is None:
            counts.alone[FIRST] += 1
            continue
        both = {name: [mine, other[name]] for name, mine in labels_of(utt).items() if name in other}
        for name, (mine, yours) in both.items():
            counts.pairs.setdefault(name, Counter())[mine, yours] += 1
        if not both:
            counts.alone[NONE_SHARED] += 1
        elif all(mine == yours for mine, yours in both.values()):
            counts.kept += 1
            yield utt
        else:
            counts.differ += 1
            differs(utt, both)
    counts.alone[SECOND] = len(others)
    if not counts.pairs:
        raise UserError(
            "the two annotators have no line in common with the same kind of label: lines belong together by "
            "their keys, and need tasks with labels"
        )
