"""The metrics of one task, from references and answers.

Notable choices
- A task key determines what is measured: each of its labels counts for the label's task, a reply for spoken
  chat, word timestamps for srwt. So combined and label-only keys count for all tasks they consist of; `keys`
  lists the contribution of each key.
- The error rates of asr are of plain transcription; other tasks report the error rates of their transcripts.
- `headline` is the metric of a task that papers report, as sums over utterances, for paired comparisons.
- Cases are scored in the order of their keys: no metric depends on batches or the order of the manifest.

Legend: N cases.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.evaluation.classes import class_scores
from mindspore_osum.evaluation.error_rate import error_columns, error_rates
from mindspore_osum.evaluation.predictions import Prediction
from mindspore_osum.evaluation.replies import (
    answer_columns,
    answer_scores,
    translation_columns,
    translation_scores,
)
from mindspore_osum.evaluation.requests import key_for
from mindspore_osum.evaluation.rule_judge import fault
from mindspore_osum.evaluation.timing import shift_columns, shifts, timing_scores
from mindspore_osum.evaluation.tokens import score_tokens
from mindspore_osum.results import Answer
from mindspore_osum.tasks import (
    INTENT_KEY,
    TASK_KEYS,
    TASKS,
    TEXT2TEXT,
    TRANSLATE,
    parse_answer,
    tags_of,
    write_tags,
)

TEXT_KEYS = (TEXT2TEXT, INTENT_KEY)  # lines without recording
TEXT_QA, INTENT = "text2text", "intent"  # their names as tasks in the metrics
TRANSLATED = "st"  # that of speech translation
REPLY_TASKS = ("sttc", TEXT_QA)
INTENTS = tuple(write_tags(tags_of(key)) for key in TASK_KEYS)  # the possible answers
# extra.scoring of a spoken chat's line; "judge": scored only by a judge
SCORINGS = CONTAINS, TRANSLATION, JUDGE = "contains", "translation", "judge"


@dataclass(frozen=True)
class Case:
    """An utterance of the manifest and the answer to it.

    Attributes
    ----------
    request : the request to the model.
    read : the system's parser of answers, called with the task key.
    rewrite : what is done to transcripts and replies on both sides before they are compared.
    """

    utterance: Utterance
    prediction: Prediction
    request: str = ""
    read: Callable[[str, str | None], Answer] = parse_answer
    rewrite: Callable[[str], str] = str

    @cached_property
    def key(self) -> str:
        """Published key of the task, or <TRANSLATE>."""
        return key_for(self.utterance)

    @cached_property
    def tags(self) -> tuple[str, ...]:
        """Tags of the task; none without recording, and none of a translation."""
        return () if self.translates or self.key in TEXT_KEYS else tags_of(self.key)

    @property
    def translates(self) -> bool:
        """Whether the answer is a translation of what is said."""
        return self.key == TRANSLATE

    @property
    def replies(self) -> bool:
        """Whether the task asks for a reply."""
        return self.key == TEXT2TEXT or "chat" in self.tags

    @cached_property
    def reference(self) -> Answer:
        """The parsed reference of the manifest."""
        if self.translates:
            return Answer(text=self.utterance.txt.strip())
        return parse_answer(self.utterance.txt, self.key)

    @cached_property
    def answer(self) -> Answer:
        """The parsed answer of the model."""
        return self.read(self.prediction.raw, TASKS["asr"].key if self.translates else self.key)

    @staticmethod
    def intent(text: str) -> str | None:
        """The tags of a task if the text consists of them (case and spaces are ignored), else None."""
        written = "".join(text.split()).lower()
        return written if written in INTENTS else None

    @cached_property
    def fault(self) -> str | None:
        """Why the answer does not follow its request, None if it does."""
        return fault(self.answer, self.tags, spoken=self.spoken)

    @property
    def spoken(self) -> bool:
        """Whether there are words in the recording; it may have only a vocal event."""
        return bool(score_tokens(self.reference.text))

    @property
    def set_name(self) -> str:
        """Name of the test set: extra.dataset and, if given, extra.split; "" without a name."""
        names = (self.utterance.extra.get(name) for name in ("dataset", "split"))
        return " ".join(name for name in names if isinstance(name, str) and name)

    @property
    def accepted(self) -> list[str]:
        """Accepted replies of a spoken chat, or translations: extra.answers, else that in the manifest."""
        given = self.utterance.extra.get("answers")
        if isinstance(given, list) and given and all(isinstance(a, str) for a in given):
            return given
        return [self._text(self.reference)]

    def _text(self, answer: Answer) -> str:
        return answer.text if self.translates else answer.answer or ""

    @cached_property
    def transcripts(self) -> tuple[str, str]:
        """The transcript of the reference and that of the answer, to be compared."""
        return self.rewrite(self.reference.text), self.rewrite(self.answer.text)

    @cached_property
    def replies_compared(self) -> tuple[str, list[str]]:
        """The reply or translation of the answer and those accepted, to be compared."""
        return self.rewrite(self._text(self.answer)), [self.rewrite(reply) for reply in self.accepted]

    @property
    def scoring(self) -> str:
        """How the reply of a spoken chat is scored."""
        return self.utterance.extra.get("scoring", CONTAINS)


def tasks_of(key: str) -> list[str]:
    """Return the tasks for which answers to a published key count."""
    if key in TEXT_KEYS:
        return [TEXT_QA if key == TEXT2TEXT else INTENT]
    if key == TRANSLATE:
        return [TRANSLATED]
    tags = tags_of(key)
    own = {abbr: task.tags[-1] for abbr, task in TASKS.items()}  # asr, align, caption, ...
    return [abbr for abbr, tag in own.items() if tag in tags and (tag != "asr" or tags == ("asr",))]


def score_task(task: str, cases: Sequence[Case]) -> dict:
    """Score the cases that count for a task.

    Returns
    -------
    dict: for asr the fields of `error_rates`; otherwise those of the task's metrics (`timing_scores`,
    `class_scores`, `answer_scores`, `translation_scores`), and the transcripts' under ``transcript``.
    ``keys``: published key -> ``utterances`` and the headline metric of its part.
    """
    cases = sorted(cases, key=lambda c: c.utterance.key)
    spoken = [c for c in cases if c.spoken and "asr" in c.tags]
    if task == "asr":
        return _transcript(cases) | {"keys": _by_key(task, cases)}
    if task == "srwt":
        own = timing_scores([c.reference.words for c in cases], [c.answer.words for c in cases])
    elif task in REPLY_TASKS:
        own = _replies(cases)
    elif task == TRANSLATED:
        own = translation_scores(*sides(c.replies_compared for c in cases))
        own["empty_answers"] = sum(not score_tokens(c.answer.text) for c in cases)
    else:
        own = class_scores(*_labels(task, cases), INTENTS if task == INTENT else TASKS[task].label_set.values)
    transcript = {"transcript": _transcript(spoken)} if spoken else {}
    return {"utterances": len(cases), **own, **transcript, "keys": _by_key(task, cases)}


def headline(task: str, cases: Sequence[Case]) -> tuple[str, np.ndarray] | None:
    """Return the metric that papers report for a task, and its numerators and denominators (N, 2) per case.

    None if there is none: replies that are not scored by containment.
    """
    if task == "asr":
        return "wer", error_columns(*sides(c.transcripts for c in cases))
    if task == "srwt":
        moved = shifts([c.reference.words for c in cases], [c.answer.words for c in cases])
        return "aas_ms", shift_columns(moved)
    if task in REPLY_TASKS:
        if any(c.scoring != CONTAINS for c in cases):
            return None
        return "accuracy", answer_columns(*sides(c.replies_compared for c in cases))
    if task == TRANSLATED:
        return "rouge_l", translation_columns(*sides(c.replies_compared for c in cases))
    pairs = zip(*_labels(task, cases), strict=True)
    return "accuracy", np.array([(r is not None and r == p, r is not None) for r, p in pairs], np.float64)


def _by_key(task: str, cases: Sequence[Case]) -> dict[str, dict]:
    keys: dict[str, list[Case]] = {}
    for case in cases:
        keys.setdefault(case.key, []).append(case)
    out = {}
    for key, some in sorted(keys.items()):
        out[key] = {"utterances": len(some)}
        if found := headline(task, some):
            part, whole = found[1].sum(0)
            out[key][found[0]] = float(part / whole) if whole else None
    return out


def _transcript(cases: Sequence[Case]) -> dict:
    return error_rates(*sides(c.transcripts for c in cases))


def sides(pairs: Iterable[tuple]) -> tuple[list, list]:
    """The first ones of pairs, and the second ones."""
    pairs = list(pairs)
    return [first for first, _ in pairs], [second for _, second in pairs]


def _labels(task: str, cases: Sequence[Case]) -> tuple[list[str | None], list[str | None]]:
    """Label of each reference and of each answer; None if it has no label of the set."""
    if task == INTENT:
        return [c.intent(c.utterance.txt) for c in cases], [c.intent(c.prediction.raw) for c in cases]
    field = TASKS[task].label_set.field
    return tuple(
        [answer.labels.get(field) for answer in side]
        for side in ([c.reference for c in cases], [c.answer for c in cases])
    )


def _replies(cases: Sequence[Case]) -> dict:
    kinds = {kind: [c for c in cases if c.scoring == kind] for kind in (CONTAINS, TRANSLATION, JUDGE)}
    out = {}
    for kind, score in ((CONTAINS, answer_scores), (TRANSLATION, translation_scores)):
        if some := kinds[kind]:
            out |= score(*sides(c.replies_compared for c in some))
    return out | {"empty_replies": sum(not c.answer.answer for c in cases)}
