"""From references and answers to the numbers of one task.

Notable choices
- What a task announces decides what is measured: a transcript its error rate, times their shift, a label its
  accuracy, a reply whether it holds the answer. Combined tasks get all of it.
- `headline` is the one number of a task that papers report, as sums over utterances, for paired comparisons.
- Cases are scored in the order of their keys: neither batches nor the order of the manifest change a number.

Legend: N cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mindspore_osum.data.manifest import Utterance
from mindspore_osum.evaluation.classes import class_scores
from mindspore_osum.evaluation.error_rate import error_columns, error_rates
from mindspore_osum.evaluation.predictions import Prediction
from mindspore_osum.evaluation.replies import answer_columns, answer_scores, translation_scores
from mindspore_osum.evaluation.rule_judge import fault
from mindspore_osum.evaluation.timing import shift_columns, shifts, timing_scores
from mindspore_osum.evaluation.tokens import score_tokens
from mindspore_osum.tasks import LABEL_SETS, ParsedAnswer, parse_answer, tags_of, task_of_tags

# extra.scoring of a spoken chat's line; "judge": only a judge can tell
SCORINGS = CONTAINS, TRANSLATION, JUDGE = "contains", "translation", "judge"


@dataclass(frozen=True)
class Case:
    """An utterance of the manifest and the answer to it; `request` is what the model was asked."""

    utterance: Utterance
    prediction: Prediction
    request: str = ""

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags the task announces."""
        return tags_of(self.utterance.task)

    @cached_property
    def reference(self) -> ParsedAnswer:
        """What the manifest says."""
        return parse_answer(self.utterance.txt, self.utterance.task)

    @cached_property
    def answer(self) -> ParsedAnswer:
        """What the model said."""
        return parse_answer(self.prediction.raw, self.utterance.task)

    @cached_property
    def fault(self) -> str | None:
        """Why the answer does not follow its request, None if it does."""
        return fault(self.answer, self.tags, spoken=self.spoken)

    @property
    def spoken(self) -> bool:
        """Whether there are words in the recording; vocal events may stand alone."""
        return bool(score_tokens(self.reference.text))

    @property
    def set_name(self) -> str:
        """The test set: extra.dataset, and extra.split where there is one; "" if it is not named."""
        names = (self.utterance.extra.get(name) for name in ("dataset", "split"))
        return " ".join(name for name in names if isinstance(name, str) and name)

    @property
    def accepted(self) -> list[str]:
        """Accepted replies of a spoken chat: extra.answers, else the reply in the manifest."""
        given = self.utterance.extra.get("answers")
        if isinstance(given, list) and given and all(isinstance(a, str) for a in given):
            return given
        return [self.reference.answer or ""]

    @property
    def scoring(self) -> str:
        """How the reply of a spoken chat is scored."""
        return self.utterance.extra.get("scoring", CONTAINS)


def task_name(utterance: Utterance) -> str:
    """The task's abbreviation, or its published key for a combined one."""
    return task_of_tags(tags_of(utterance.task)) or utterance.task


def score_task(cases: Sequence[Case]) -> dict:
    """Score the cases of one task.

    Returns
    -------
    dict: for asr the fields of `error_rates`; otherwise those of the task's own scores (`timing_scores`,
    `class_scores`, `answer_scores`, `translation_scores`), and the transcript's under "transcript". Where
    a task has several labels, each one's scores stand under its field.
    """
    cases = sorted(cases, key=lambda c: c.utterance.key)
    tags = cases[0].tags
    if tags == ("asr",):
        return _transcript(cases)
    spoken = [c for c in cases if c.spoken]
    transcript = _transcript(spoken) if "asr" in tags and spoken else {}
    out = {"utterances": len(cases)}
    if "align" in tags:
        out |= timing_scores([c.reference.words for c in cases], [c.answer.words for c in cases])
    label_tags = [tag for tag in tags if tag in LABEL_SETS]
    for tag in label_tags:
        scores = _labels(cases, tag)
        out |= scores if len(label_tags) == 1 else {LABEL_SETS[tag].field: scores}
    if "chat" in tags:
        out |= _replies(cases)
    return out | ({"transcript": transcript} if transcript else {})


def headline(cases: Sequence[Case]) -> tuple[str, np.ndarray] | None:
    """Return the metric papers report for a task, and its numerators and denominators (N, 2), as `cases` go.

    None for tasks without one: several labels, or replies that are not scored by containment.
    """
    tags = cases[0].tags
    label_tags = [tag for tag in tags if tag in LABEL_SETS]
    if len(label_tags) > 1:
        return None
    if label_tags:
        field = LABEL_SETS[label_tags[0]].field
        pairs = [(c.reference.labels.get(field), c.answer.labels.get(field)) for c in cases]
        return "accuracy", np.array([(r is not None and r == p, r is not None) for r, p in pairs], np.float64)
    if "align" in tags:
        moved = shifts([c.reference.words for c in cases], [c.answer.words for c in cases])
        return "aas_ms", shift_columns(moved)
    if "chat" in tags:
        if any(c.scoring != CONTAINS for c in cases):
            return None
        return "accuracy", answer_columns([c.answer.answer or "" for c in cases], [c.accepted for c in cases])
    return "wer", error_columns([c.reference.text for c in cases], [c.answer.text for c in cases])


def _transcript(cases: Sequence[Case]) -> dict:
    return error_rates([c.reference.text for c in cases], [c.answer.text for c in cases])


def _labels(cases: Sequence[Case], tag: str) -> dict:
    labels = LABEL_SETS[tag]
    return class_scores(
        [c.reference.labels.get(labels.field) for c in cases],
        [c.answer.labels.get(labels.field) for c in cases],
        labels.values,
    )


def _replies(cases: Sequence[Case]) -> dict:
    kinds = {kind: [c for c in cases if c.scoring == kind] for kind in (CONTAINS, TRANSLATION, JUDGE)}
    out = {}
    for kind, score in ((CONTAINS, answer_scores), (TRANSLATION, translation_scores)):
        if some := kinds[kind]:
            out |= score([c.answer.answer or "" for c in some], [c.accepted for c in some])
    return out | {"empty_replies": sum(not c.answer.answer for c in cases)}
