"""The eight tasks: published keys and tags, label sets, and the format of answers.

Notable choices
- A task is a row of `TASKS`, and a label set is a row of `LABEL_SETS`.
- Writing is strict (a label outside its set is refused); reading is tolerant: case and spaces in tags are
  ignored. Control marks that are out of their place are left out of the text (``Answer.marks``); other
  brackets stay in it, as a person may have meant them.
- Tags and labels are ordinary text for the tokenizer, as in OSUM-Pangu.
"""

import re
from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, lru_cache
from string import ascii_letters, digits

from mindspore_osum.errors import UserError
from mindspore_osum.results import Answer, Word, join_text
from mindspore_osum.text.normalize import AGE_REMAP, STYLE_REMAP, normalize_label
from mindspore_osum.text.requests import task_requests

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
TRANSLATE = "<TRANSLATE>"  # of lines whose text is a translation; OSUM has no such task, other models do
_OF_WHISPER = {"transcribe": ["asr"]}  # its command's name of a task


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
    if short == "translate":
        raise UserError(f"task {task!r}: the model does not translate; choose one of {', '.join(TASKS)}")
    near = [t.abbr for t in TASKS.values() if t.tags[-1] == short] or _OF_WHISPER.get(short)
    near = near or get_close_matches(short[:100], TASKS, n=1)
    near = [key for key in TASK_KEYS if sorted(key.split()) == sorted(spaced.split())] or near
    raise UserError(
        f"task {task!r}: choose one of {', '.join(TASKS)} or a published key like "
        "'<TRANSCRIBE> <AGE>'" + (f"; did you mean {near[0]!r}?" if near else "")
    )


def is_translation(task: str) -> bool:
    """Whether a line's task is speech translation: ``"<TRANSLATE>"`` or ``"st"``."""
    return task.strip().upper() in (TRANSLATE, "ST")


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


def label_sets_of(task: str) -> list[LabelSet]:
    """The label sets of a task, in the order of its tags."""
    return [] if task == TEXT2TEXT else [LABEL_SETS[tag] for tag in tags_of(task) if tag in LABEL_SETS]


def other_tags(task: str, tags: list[str]) -> str:
    """One line if an answer's tags are not those of the task, else ""."""
    expected = () if task == TEXT2TEXT else tags_of(task)
    if not expected or sorted(tags) == sorted(expected):
        return ""
    return f"asked for {write_tags(expected)}, the answer is of {write_tags(tags) or 'no task'}"


def answer_starts(task: str) -> tuple[str, list[str]]:
    """The tags that answers to a task open with, and answers with any of what `format_answer` writes next.

    "" and none for tasks without tags (text2text, intent classification).
    """
    tags = tags_of(task) if task != TEXT2TEXT else ()
    if not tags:
        return "", []
    follows = []
    if "align" in tags:
        follows = [f"<{second:.2f}>" for second in (0, 0.58, 1.2, 2.04, 3.96, 5.12, 12.34)]
    elif {"asr", "chat"} & set(tags):
        follows = list(ascii_letters + digits + "我你他这那今请")
    if not {"align", "chat"} & set(tags) and ("asr" not in tags or "caption" in tags):  # no words: an event
        first = next((LABEL_SETS[tag] for tag in tags if tag in LABEL_SETS), None)
        follows += [f"<{value}>" for value in first.values] if first else []
    return write_tags(tags), [write_tags(tags) + text for text in follows]


def longer_openings(task: str) -> list[str]:
    """The task's tags followed by any other: what its answers never open with."""
    tags = tags_of(task) if task != TEXT2TEXT else ()
    return [write_tags((*tags, tag)) for tag in TAG_OF_KEY_PART.values()] if tags else []


@lru_cache(maxsize=1)
def _known_requests() -> dict[str, str]:
    known = {}
    for abbr, task in TASKS.items():
        known |= dict.fromkeys([request.casefold() for request in task_requests(abbr)], task.key)
    return known


def task_of_request(words: str) -> str | None:
    """The published key of a request that is a tag string or a published sentence; None for other words.

    Tags may be in any order, with or without spaces.
    """
    words = words.strip().casefold()
    if words.startswith("<") and words.endswith(">"):
        tags = sorted(re.split(r">\s*<", words[1:-1]))
        return next((key for key in TASK_KEYS if sorted(tags_of(key)) == tags), None)
    return _known_requests().get(words)


def unknown_tags(words: str) -> str:
    """One line if a request is a tag string of no published task, else ""."""
    words = words.strip().casefold()
    if not _TAG_STRING.fullmatch(words) or task_of_request(words):
        return ""
    tags = [tag.strip() for tag in re.findall(r"<([^<>]*)>", words)]
    known = TAG_OF_KEY_PART.values()
    if others := [tag for tag in tags if tag not in known]:
        return f"the request has the tag <{others[0]}>, which no task has; tags are {', '.join(known)}"
    return f"the request {write_tags(tags)} is no published combination of tags; ask for the tasks one by one"


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


_TAG_STRING = re.compile(r"(<[^<>]*>\s*)+")
_LEADING_TAG = re.compile(r"\s*<\s*(" + "|".join(TAG_OF_KEY_PART.values()) + r")\s*>", re.IGNORECASE)
_MARK = re.compile(r"<\s*开始回答\s*>")
_BRACKET = re.compile(r"<([^<>]*)>")
_HALF = re.compile(r"<([^<>]*)(?=<)")
_TIME = r"<\s*([0-9]{1,6}(?:\.[0-9]{1,6})?)\s*>"
_WORD = re.compile(_TIME + r"(?!\s*<)([^<>]+)" + _TIME)


def parse_answer(raw: str, task: str | None = None) -> Answer:
    """Parse an answer; it never fails. Text in brackets that is no control mark stays in the text.

    Reads ``<asr><age>text<ADULT>``, timed words ``<0.21>父<0.47> <0.46>母<0.60>``, chat replies
    (``<chat>reply`` and OSUM's ``text<开始回答>reply``), and untagged OSUM answers (``text<anger>``).
    A label counts even without its tag, unless its spelling belongs to several sets. Numbers, labels, tags
    and special tokens in brackets that have no place there, half-written ones at the end too, are left out
    of the text and of the reply, and `warnings` says so.

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
    # of an untagged answer that should have both, what comes before a mark is the transcript
    body, answer = _split_answer(raw[start:].strip(), "chat" in guide and (tags or "asr" not in guide))
    words = []
    if "align" in guide or not guide:
        body, words = _read_words(body)
    opened = body.rfind("<") > body.rfind(">")
    body, halves = _without(body, [m.span() for m in _HALF.finditer(body) if _begins_mark(m[1])])
    body, labels = _read_labels(body, guide)
    expected = [s.field for s in _announced(guide) if s.field not in labels]
    text, marks = _without_marks(body, len(expected), opened)
    marks = halves + marks
    answer, more = _without_marks(answer) if answer else (answer, [])
    left = [_left_out(marks + more)] if marks or more else []
    return Answer(
        text=text, tags=tags, labels=labels, words=words, answer=answer, marks=marks, raw=raw, warnings=left
    )


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
    announced = _announced(tags)
    found = [(m, _candidates(m[1], announced)) for m in _BRACKET.finditer(body)]
    sure = [(m, sets) for m, sets in reversed(found) if len(sets) == 1]
    shared = [(m, sets) for m, sets in found if len(sets) > 1]
    labels, spans = {}, []
    for match, sets in [*sure, *shared]:
        if free := [s for s in sets if s.field not in labels]:
            labels[free[0].field] = free[0].read(match[1])
            spans.append(match.span())
    for start, end in sorted(spans, reverse=True):
        body = join_text([body[:start].strip(), body[end:].strip()])  # a label may be between two words
    return body, labels


def _announced(tags: list[str]) -> list[LabelSet]:
    return [LABEL_SETS[t] for t in dict.fromkeys(tags) if t in LABEL_SETS]


def _without_marks(body: str, slots: int = 0, opened: bool = True) -> tuple[str, list[str]]:
    """The body without control marks, and these.

    Parameters
    ----------
    slots : labels that are missing; as many brackets at the end are taken for labels outside their set.
    opened : whether its last bracket may be one that does not end.
    """
    brackets, end, half = [*_BRACKET.finditer(body)], len(body), body.rfind("<")
    spans = {_widened(body, *m.span()) for m in brackets if _is_mark(m[1])}
    if opened and half > body.rfind(">") and (slots or _begins_mark(body[half + 1 :])):
        spans.add((half, end))
        end = half
    for m in reversed(brackets):
        if not slots or body[m.end() : end].strip():
            break
        spans.add(m.span())
        slots, end = slots - 1, m.start()
    return _without(body, sorted(spans))


def _without(body: str, spans: list[tuple[int, int]]) -> tuple[str, list[str]]:
    """The body without some spans, and what is in them."""
    if not spans:
        return body.strip(), []
    edges = [0, *(edge for span in spans for edge in span), len(body)]
    kept = [body[first:last].strip() for first, last in zip(edges[::2], edges[1::2], strict=True)]
    return join_text(kept), [body[first:last].strip() for first, last in spans]


def _widened(body: str, first: int, last: int) -> tuple[int, int]:
    """A bracket's span with the angles right beside it: what is left must be no bracket again."""
    while first and body[first - 1] in "< ":
        first -= 1
    while last < len(body) and body[last] in "> ":
        last += 1
    return first, last


def _is_mark(inside: str) -> bool:
    """Whether the text of a bracket is a number, a label, a tag or a special token: nothing a person says."""
    return bool(_NO_WORD.fullmatch(inside)) or _fold(inside) in _MARKS


def _begins_mark(inside: str) -> bool:
    """The same of a bracket that does not end."""
    folded = _fold(inside)
    return inside.startswith("|") or _is_mark(inside) or any(mark.startswith(folded) for mark in _MARKS)


def _left_out(marks: list[str]) -> str:
    counts = Counter(marks)
    shown = ", ".join(f"{mark} {n} times" if n > 1 else mark for mark, n in counts.most_common(5))
    return f"left out of the text: {shown}" + (", ..." if len(counts) > 5 else "")


def _candidates(spelling: str, announced: list[LabelSet]) -> list[LabelSet]:
    if sets := [s for s in announced if s.read(spelling)]:
        return sets
    sets = [s for s in LABEL_SETS.values() if s.read(spelling)]
    return sets if len(sets) == 1 else []


def _fold(spelling: str) -> str:
    return re.sub(r"[\s_-]", "", spelling).casefold()


_NO_WORD = re.compile(r"[\d\s.,:+-]*|\s*\|.*\|\s*")  # a number, nothing, <|im_end|>
_MARKS = {
    *(name for labels in LABEL_SETS.values() for name in labels._spellings),
    *(_fold(name) for pair in TAG_OF_KEY_PART.items() for name in (pair[0].strip("<>"), pair[1])),
    *("s", "/s", "unk", _fold(ANSWER_MARK.strip("<>"))),
}
