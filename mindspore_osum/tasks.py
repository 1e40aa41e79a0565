"""The eight tasks: published keys and tags, label sets, and the format of answers.

Notable choices
- A task is a row of `TASKS`, and a label set is a row of `LABEL_SETS`.
- Writing is strict (a label outside its set is refused); reading is tolerant: case and spaces in tags are
  ignored, and whatever is not recognised stays in the text and is listed in ``Answer.unknown``.
- Tags and labels are ordinary text for the tokenizer, as in OSUM-Pangu.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property

from mindspore_osum.errors import UserError
from mindspore_osum.results import Answer, Word, join_text
from mindspore_osum.text.normalize import AGE_REMAP, STYLE_REMAP, normalize_label

# Part of a published task key -> tag the model writes (OSUM-Pangu conf/prompt_config2.yaml).
TAG_OF_KEY_PART = {
    "<TRANSCRIBE>": "asr",
    "<ALIGN>": "align",
    "<S2TCHAT>": "chat",
    "<EMOTION>": "emotion",
    "<STYLE>": "style",
    "<CAPTION>": "caption",
    "<AGE>": "age",
    "<GENDER>": "gender",
}

# All published task keys with tags, single and combined.
TASK_KEYS = (
    "<TRANSCRIBE>",
    "<TRANSCRIBE> <ALIGN>",
    "<S2TCHAT>",
    "<TRANSCRIBE> <S2TCHAT>",
    "<TRANSCRIBE> <EMOTION>",
    "<EMOTION>",
    "<TRANSCRIBE> <STYLE>",
    "<STYLE>",
    "<TRANSCRIBE> <CAPTION>",
    "<CAPTION>",
    "<GENDER>",
    "<TRANSCRIBE> <GENDER>",
    "<TRANSCRIBE> <AGE>",
    "<AGE>",
    "<TRANSCRIBE> <AGE> <GENDER>",
    "<AGE> <GENDER>",
    "<TRANSCRIBE> <STYLE> <AGE> <GENDER>",
    "<STYLE> <AGE> <GENDER>",
    "<TRANSCRIBE> <CAPTION> <AGE> <GENDER>",
    "<TRANSCRIBE> <EMOTION> <AGE> <GENDER>",
    "<TRANSCRIBE> <AGE> <GENDER> <STYLE> <EMOTION>",
    "<TRANSCRIBE> <CAPTION> <AGE> <GENDER> <EMOTION> <STYLE>",
)
TEXT2TEXT = "<TEXT2TEXT>"  # written questions; their answers have no tags
INTENT_KEY = "<INTENT_CLASSIFICATION>"  # its answer is only the tag string of a task
ANSWER_MARK = "<开始回答>"  # OSUM (v1) writes transcript<开始回答>reply


@dataclass(frozen=True)
class LabelSet:
    """One kind of label: its key in ``Answer.labels``, the tag that announces it, and its values.

    ``values`` are the spellings that are written; ``aliases`` are other spellings that are accepted.
    """

    field: str
    tag: str
    values: tuple[str, ...]
    aliases: dict[str, str]

    def read(self, spelling: str) -> str | None:
        """Return the value of a spelling (case, spaces, ``_`` and ``-`` are ignored), None if unknown."""
        return self._spellings.get(_fold(spelling))

    @cached_property
    def _spellings(self) -> dict[str, str]:
        return {_fold(name): value for name, value in [*zip(self.values, self.values), *self.aliases.items()]}


# Values: OSUM Tables 1 and 2. The spelling of multi-word events is not published; any is accepted.
LABEL_SETS = {
    s.tag: s
    for s in (
        LabelSet(
            "event",
            "caption",
            ("LAUGH", "COUGH", "CRY", "SCREAMING", "SIGH", "THROAT CLEARING", "SNEEZE", "OTHER"),
            {"LAUGHTER": "LAUGH", "SCREAM": "SCREAMING", "OTHERS": "OTHER"},
        ),
        LabelSet(
            "emotion",
            "emotion",
            ("SAD", "ANGER", "NEUTRAL", "HAPPY", "SURPRISE", "FEAR", "DISGUST", "OTHER"),
            {"ANGRY": "ANGER", "SADNESS": "SAD", "SURPRISED": "SURPRISE", "OTHERS": "OTHER"},
        ),
        LabelSet(
            "style",
            "style",
            ("新闻科普", "恐怖故事", "童话故事", "客服", "诗歌散文", "有声书", "日常口语", "其他"),
            STYLE_REMAP,
        ),
        LabelSet("gender", "gender", ("MALE", "FEMALE"), {}),
        LabelSet("age", "age", ("CHILD", "ADULT", "OLD"), AGE_REMAP),
    )
}


@dataclass(frozen=True)
class Task:
    """One of the eight tasks. Its requests are in ``text/requests.yaml`` under the abbreviation."""

    abbr: str
    name: str
    key: str
    output_type: str = "text"

    @property
    def tags(self) -> tuple[str, ...]:
        """Tag names the answer starts with, for example ``("asr", "align")``."""
        return tags_of(self.key)

    @property
    def tag_string(self) -> str:
        """The tags as written: ``"<asr><align>"``."""
        return write_tags(self.tags)

    @property
    def label_set(self) -> LabelSet | None:
        """The label set of the task, None for asr, srwt and sttc."""
        return next((LABEL_SETS[t] for t in self.tags if t in LABEL_SETS), None)


TASKS = {
    t.abbr: t
    for t in (
        Task("asr", "automatic speech recognition", "<TRANSCRIBE>"),
        Task("srwt", "speech recognition with timestamps", "<TRANSCRIBE> <ALIGN>"),
        Task("ved", "vocal event detection", "<TRANSCRIBE> <CAPTION>"),
        Task("ser", "speech emotion recognition", "<TRANSCRIBE> <EMOTION>"),
        Task("ssr", "speaking style recognition", "<TRANSCRIBE> <STYLE>"),
        Task("sgc", "speaker gender classification", "<TRANSCRIBE> <GENDER>"),
        Task("sap", "speaker age prediction", "<TRANSCRIBE> <AGE>"),
        Task("sttc", "speech-to-text chat", "<S2TCHAT>", "s2t_chat"),
    )
}
CHAT = TASKS["sttc"].key


def task_key(task: str) -> str:
    """Return the published key of a task given by abbreviation (``"sap"``) or by key, spaces optional.

    Raises
    ------
    UserError
        No such task.
    """
    if (short := task.strip().lower()) in TASKS:
        return TASKS[short].key
    spaced = re.sub(r">\s*<", "> <", task.strip().upper())
    if spaced in TASK_KEYS or spaced == INTENT_KEY:
        return spaced
    near = get_close_matches(task, TASKS, n=1)
    raise UserError(
        f"task {task!r}: choose one of {', '.join(TASKS)} or a published key like "
        "'<TRANSCRIBE> <AGE>'" + (f"; did you mean {near[0]!r}?" if near else "")
    )


def tags_of(task: str) -> tuple[str, ...]:
    """Return the tag names of a task (abbreviation or key); empty for intent classification."""
    key = task_key(task)
    return () if key == INTENT_KEY else tuple(TAG_OF_KEY_PART[part] for part in key.split())


def write_tags(tags) -> str:
    """Write tag names: ``("asr", "age")`` -> ``"<asr><age>"``."""
    return "".join(f"<{t}>" for t in tags)


def task_of_tags(tags) -> str | None:
    """Return the abbreviation of the task with exactly these tags, None for combined or unknown ones."""
    return next((t.abbr for t in TASKS.values() if t.tags == tuple(tags)), None)


def format_answer(task: str, *, text: str = "", labels=None, words=(), answer: str | None = None) -> str:
    """Write the training label of a task: tags, then the body (OSUM Table 1), normalised as published.

    One record may be used for several tasks: values that the task does not need are ignored.

    Parameters
    ----------
    task : abbreviation or published key; for ``<INTENT_CLASSIFICATION>`` the text is the whole answer
    text : transcript, for tasks with ``<asr>`` but without ``<align>``
    labels : dict field -> value or alias, for the fields of the task
    words : (word, start in s, end in s), for ``<align>``
    answer : reply of a spoken chat, for ``<chat>``

    Raises
    ------
    UserError
        Unknown task; a label, the words or the answer missing; a label outside its set.
    """
    key = task_key(task)
    tags = tags_of(key)
    body = text if "asr" in tags or key == INTENT_KEY else ""
    if "align" in tags:
        body = _write_words(task, words)
    if "chat" in tags:
        body = (body + ANSWER_MARK if body else "") + _required(task, "answer", answer)
    return normalize_label(write_tags(tags) + body + _write_labels(task, tags, labels or {}), key)


def _required(task: str, what: str, value):
    if not value:
        raise UserError(f"task {task}: {what} is missing")
    return value


def _write_words(task: str, words) -> str:
    return " ".join(f"<{start:.2f}>{word}<{end:.2f}>" for word, start, end in _required(task, "words", words))


def _write_labels(task: str, tags, labels: dict[str, str]) -> str:
    out = []
    for s in (LABEL_SETS[t] for t in tags if t in LABEL_SETS):
        given = _required(task, f"label {s.field}", labels.get(s.field))
        if (value := s.read(str(given))) is None:
            raise UserError(f"task {task}: {s.field} {given!r} is not one of {', '.join(s.values)}")
        out.append(f"<{value}>")
    return "".join(out)


_LEADING_TAG = re.compile(r"\s*<\s*(" + "|".join(TAG_OF_KEY_PART.values()) + r")\s*>", re.IGNORECASE)
_MARK = re.compile(r"<\s*开始回答\s*>")
_BRACKET = re.compile(r"<([^<>]*)>")
_TIME = r"<\s*([0-9]{1,6}(?:\.[0-9]{1,6})?)\s*>"
_WORD = re.compile(_TIME + r"(?!\s*<)([^<>]+)" + _TIME)


def parse_answer(raw: str, task: str | None = None) -> Answer:
    """Parse an answer; it never fails, and whatever it does not recognise stays in the text.

    Reads ``<asr><age>text<ADULT>``, timed words ``<0.21>父<0.47> <0.46>母<0.60>``, chat replies
    (``<chat>reply`` and OSUM's ``text<开始回答>reply``), and untagged OSUM answers (``text<anger>``).
    A label counts even without its tag, unless its spelling belongs to several sets.

    Parameters
    ----------
    raw : decoded answer
    task : abbreviation or key of the requested task; used to parse an answer without tags
    """
    if task == TEXT2TEXT:
        return Answer(answer=raw.strip(), raw=raw)
    tags, start = [], 0
    while match := _LEADING_TAG.match(raw, start):
        tags.append(match[1].lower())
        start = match.end()
    guide = tags or (list(tags_of(task)) if task else [])
    body, answer = _split_answer(raw[start:].strip(), "chat" in guide)
    words = []
    if "align" in guide or not guide:
        body, words = _read_words(body)
    body, labels = _read_labels(body, guide)
    return Answer(text=body.strip(), tags=tags, labels=labels, words=words, answer=answer, raw=raw)


def _split_answer(body: str, chat: bool) -> tuple[str, str | None]:
    if mark := _MARK.search(body):
        return body[: mark.start()], body[mark.end() :].strip()
    return ("", body) if chat else (body, None)


def _read_words(body: str) -> tuple[str, list[Word]]:
    """Return the text without the timestamps of well-formed words, and these words; the rest is unchanged."""
    words, pieces, end = [], [], 0
    for m in _WORD.finditer(body):
        words.append(Word(m[2].strip(), float(m[1]), float(m[3])))
        pieces += [body[end : m.start()].strip(), words[-1].text]
        end = m.end()
    if not words:
        return body, words
    return join_text([*pieces, body[end:].strip()]), words


def _read_labels(body: str, tags: list[str]) -> tuple[str, dict[str, str]]:
    """Remove the labels from the body and return both.

    The last label of a kind counts, since labels are at the end of an answer. ``<OTHER>``, which is in
    several sets, counts for the first set among the tags that has no other label.
    """
    announced = [LABEL_SETS[t] for t in dict.fromkeys(tags) if t in LABEL_SETS]
    found = [(m, _candidates(m[1], announced)) for m in _BRACKET.finditer(body)]
    sure = [(m, sets) for m, sets in reversed(found) if len(sets) == 1]
    shared = [(m, sets) for m, sets in found if len(sets) > 1]
    labels, spans = {}, []
    for match, sets in [*sure, *shared]:
        if free := [s for s in sets if s.field not in labels]:
            labels[free[0].field] = free[0].read(match[1])
            spans.append(match.span())
    for start, end in sorted(spans, reverse=True):
        body = body[:start] + body[end:]
    return body, labels


def _candidates(spelling: str, announced: list[LabelSet]) -> list[LabelSet]:
    if sets := [s for s in announced if s.read(spelling)]:
        return sets
    sets = [s for s in LABEL_SETS.values() if s.read(spelling)]
    return sets if len(sets) == 1 else []


def _fold(spelling: str) -> str:
    return re.sub(r"[\s_-]", "", spelling).casefold()
