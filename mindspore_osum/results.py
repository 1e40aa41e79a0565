"""The result for a recording: one type for recordings of any length and all tasks.

Notable choices
- A recording has one segment, or several if it is too long for the model; times count from its beginning. The
  fields of a whole `Response` are derived from its segments, so that they always agree.
- The label of a long recording is that of most of its segments; `label_counts` shows all.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

from mindspore_osum.errors import one_line
from mindspore_osum.notebook import card


class Word(NamedTuple):
    """A word with its start and end in seconds."""

    text: str
    start: float
    end: float


_BRACKET = re.compile(r"<[^<>]*>")
_UNCLOSED = re.compile(r"<[^<>]*$")
_CJK = re.compile(r"[\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]")


@dataclass(repr=False)
class Answer:
    """The parsed answer of a model for a recording or a segment of it; times in seconds."""

    start: float = 0.0
    end: float = 0.0
    text: str = ""  # transcript, without control marks
    tags: list[str] = field(default_factory=list)  # task tags as the model wrote them: ["asr", "age"]
    labels: dict[str, str] = field(default_factory=dict)  # field -> value: {"age": "ADULT"}
    words: list[Word] = field(default_factory=list)  # of a transcript with times
    answer: str | None = None  # reply of a spoken chat
    marks: list[str] = field(default_factory=list)  # left out of the text: stray times, labels and tags
    raw: str = ""  # the whole text of the model; several passes are separated by line breaks
    cut: bool = False  # an answer was truncated, at max_new_tokens or the model's last position
    # field -> value -> probability among the values of its set; None unless requested
    probabilities: dict[str, dict[str, float]] | None = None
    # probability of what was written, and of each word of it; None unless requested (inference/confidence.py)
    confidence: float | None = None
    word_confidence: list[tuple[str, float]] | None = None
    sections: list[Word] = field(default_factory=list)  # of a transcript with times: text, start, end
    language: str = ""  # of what is said, its code, where the model says so
    # probability that nobody speaks, and mean log-probability of the tokens, where the model says so
    no_speech_prob: float | None = None
    avg_logprob: float | None = None
    # of its draws, 0 if there were none, and how often its text repeats itself, where the model says so
    temperature: float | None = None
    compression_ratio: float | None = None
    window: float | None = None  # of a section: the beginning of what the model heard at once
    no_speech: bool = False  # nobody speaks here; the model was not asked
    channel: str = ""  # of a recording whose channels were asked about one by one: left, right, channel3
    warnings: list[str] = field(default_factory=list)  # what is doubtful about it, one line each
    error: str | None = None  # one line

    def divided(self) -> list["Answer"]:
        """An answer for each of its sections; itself if it has none. Times are as they are here."""
        if not self.sections:
            return [self]
        found, sure = [], self.word_confidence or []
        own = 0 < len(sure) == len(self.words)  # else it is not of these words
        for (text, start, end), (first, last) in zip(self.sections, self._words_of_sections(), strict=True):
            parts = {"words": self.words[first:last], "word_confidence": sure[first:last] if own else None}
            own_part = {"start": start, "end": end, "text": text, "raw": text, "window": self.start}
            found.append(replace(self, sections=[], **own_part, **parts))
        return found

    def _words_of_sections(self) -> Iterator[tuple[int, int]]:
        """The words of each section, from and to: those that begin in its text."""
        begins, letters, word = [], 0, 0
        for one in self.words:
            begins.append(letters)
            letters += _letters(one.text)
        letters = 0
        for section in self.sections:
            letters, first = letters + _letters(section.text), word
            while word < len(begins) and (begins[word] < letters or section is self.sections[-1]):
                word += 1
            yield first, word

    def to_dict(self) -> dict:
        """Plain values; without those that few models give, where there are none."""
        values = asdict(self)
        del values["window"]
        few = ("sections", "language", "no_speech_prob", "avg_logprob", "temperature", "compression_ratio")
        for name in few:
            if not values[name] and values[name] != 0:
                del values[name]
        return values

    def __repr__(self) -> str:
        return f"<Answer {self.start:.1f}-{self.end:.1f} s{_short(self)}>"

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.end - self.start

    @property
    def unknown(self) -> list[str]:
        """Tags and fragments that were not recognised: `marks`, and what else of the kind is in `text`."""
        return self.marks + [match[0] for kind in (_BRACKET, _UNCLOSED) for match in kind.finditer(self.text)]


@dataclass(repr=False)
class Response:
    """The result for one recording. ``print(response)`` shows all of it, a notebook also a player.

    Attributes
    ----------
    audio : path of the recording, or a description of the input.
    seconds : duration of the recording; between segments there is no speech.
    rtf : real-time factor: computing time (its share of batches, without compiling) / seconds.
    error : one line if there was an error; segments answered before it are kept.
    notes : warnings about the recording as a whole, one line each.
    """

    audio: str
    seconds: float = 0.0
    segments: list[Answer] = field(default_factory=list)
    rtf: float = 0.0
    error: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Transcript."""
        return join_text(segment.text for segment in self.segments)

    @property
    def words(self) -> list[Word]:
        """Words with timestamps, if a task gives them (srwt)."""
        return [word for segment in self.segments for word in segment.words]

    @property
    def tags(self) -> list[str]:
        """Task tags in the answers, each once."""
        return list(dict.fromkeys(tag for segment in self.segments for tag in segment.tags))

    @property
    def raw(self) -> str:
        """The whole text of the model; segments (and passes) are separated by line breaks."""
        return "\n".join(segment.raw for segment in self.segments)

    @property
    def language(self) -> str:
        """Code of the language of what is said, where the model says so: that of most of the time."""
        seconds: Counter = Counter()
        for segment in self.segments:
            seconds[segment.language] += segment.seconds if segment.language else 0.0
        return max(seconds, key=seconds.get, default="")

    @property
    def answer(self) -> str | None:
        """Reply of a spoken chat, None if there is none."""
        replies = [segment.answer for segment in self.segments if segment.answer is not None]
        return join_text(replies) if replies else None

    @property
    def cut(self) -> bool:
        """Whether any answer was truncated."""
        return any(segment.cut for segment in self.segments)

    @property
    def no_speech(self) -> bool:
        """Whether no speech was found anywhere in the recording."""
        return not self.error and all(segment.no_speech for segment in self.segments)

    @property
    def warnings(self) -> list[str]:
        """What is doubtful, one line each: about the recording, then about its segments, with their times."""
        timed = len(self.segments) > 1
        times = [f"{clock(s.start)} to {clock(s.end)}: " if timed else "" for s in self.segments]
        found = [t + w for t, s in zip(times, self.segments, strict=True) for w in s.warnings]
        return list(dict.fromkeys([*self.notes, *found]))

    def by_channel(self) -> dict[str, "Response"]:
        """Channel -> its part of the response; a recording whose channels were not split has one, ""."""
        parts: dict[str, list[Answer]] = {}
        for segment in self.segments:
            parts.setdefault(segment.channel, []).append(segment)
        if len(parts) < 2:
            return {"": self}
        return {name: replace(self, segments=parts[name]) for name in sorted(parts, key=_channel_order)}

    @property
    def label_counts(self) -> dict[str, dict[str, int]]:
        """Field -> value -> number of segments, the most frequent first, then the longest."""
        seconds: dict[str, Counter] = {}
        counts: dict[str, Counter] = {}
        for segment in self.segments:
            for name, value in segment.labels.items():
                counts.setdefault(name, Counter())[value] += 1
                seconds.setdefault(name, Counter())[value] += segment.seconds
        return {
            name: dict(sorted(found.items(), key=lambda item: (-item[1], -seconds[name][item[0]])))
            for name, found in counts.items()
        }

    @property
    def labels(self) -> dict[str, str]:
        """Field -> value; for several segments the most frequent value."""
        return {name: next(iter(counts)) for name, counts in self.label_counts.items()}

    @property
    def probabilities(self) -> dict[str, dict[str, float]] | None:
        """Field -> value -> probability, the mean over segments weighted by duration."""
        sums: dict[str, Counter] = {}
        for segment in self.segments:
            for name, values in (segment.probabilities or {}).items():
                for value, p in values.items():
                    sums.setdefault(name, Counter())[value] += p * segment.seconds
        if all(segment.probabilities is None for segment in self.segments):
            return None
        return {name: {v: x / s.total() for v, x in s.items()} for name, s in sums.items()}

    @property
    def confidence(self) -> float | None:
        """Probability of what was written, the mean weighted by duration; None unless requested."""
        known = [(s.confidence, s.seconds) for s in self.segments if s.confidence is not None]
        total = sum(seconds for _, seconds in known)
        return round(sum(p * seconds for p, seconds in known) / total, 4) if total else None

    def to_dict(self) -> dict:
        """Plain values for JSON: those of the whole recording, then its segments."""
        whole = {"audio": self.audio, "seconds": round(self.seconds, 3)}
        if self.error:
            whole["error"] = self.error
        names = ("text", "tags", "labels", "label_counts", "probabilities", "words", "answer", "raw", "cut")
        names += ("confidence", "no_speech", "warnings")
        whole |= {name: getattr(self, name) for name in names}
        if self.language:
            whole["language"] = self.language
        segments = [s.to_dict() | {"start": round(s.start, 3), "end": round(s.end, 3)} for s in self.segments]
        for segment in segments:
            if not segment["channel"]:
                del segment["channel"]
        return whole | {"rtf": round(self.rtf, 4), "segments": segments}

    def __repr__(self) -> str:
        return f"<Response {self.audio!r} {clock(self.seconds)}{_short(self)}>"

    def _repr_html_(self) -> str:
        return card(self)

    def __str__(self) -> str:
        lines = [f"{one_line(self.audio)}  {clock(self.seconds)}"]
        if self.error:
            lines.append(f"  error: {self.error}")
        if self.no_speech:
            lines.append("  no speech found")
        lines += [f"  warning: {line}" for line in self.warnings]
        timed = len(self.segments) > 1
        for s in self.segments:
            about = " ".join(f"<{value}>" for value in s.labels.values()) if timed else ""
            times = f"{clock(s.start)} - {clock(s.end)}  " if timed else ""
            times += f"{s.channel}: " if s.channel else ""
            if line := " ".join(filter(None, [s.text, about])):
                lines.append(f"  {times}{line}")
            if s.answer is not None:
                lines.append(f"  {times}reply: {s.answer}")
        sure = self.probabilities or {}
        for name, counts in self.label_counts.items():
            shown = [f"{value} {n}x" if timed else value for value, n in counts.items()]
            chance = f"  ({sure[name][self.labels[name]]:.0%})" if name in sure else ""
            lines.append(f"  {name}: {', '.join(shown)}{chance}")
        if self.words:
            lines.append("  words: " + " ".join(f"{w.start:.2f}-{w.end:.2f} {w.text}" for w in self.words))
        return "\n".join(lines)


def _letters(text: str) -> int:
    """Characters that are not spaces."""
    return len("".join(text.split()))


def _channel_order(name: str) -> tuple[int, str]:
    """left, right, channel3, channel10."""
    return len(name), name


def _short(what: Answer | Response) -> str:
    """The fields that hold something, on one line; long values are shortened."""
    fields = {name: getattr(what, name) for name in ("text", "labels", "answer", "error", "warnings")}
    shown = {name: repr(value) for name, value in fields.items() if value}
    if what.words:
        shown["words"] = str(len(what.words))
    return "".join(f" {name}={v if len(v) <= 80 else v[:77] + '...'}" for name, v in shown.items())


def join_text(pieces: Iterable[str]) -> str:
    """Join stripped pieces of a transcript with spaces, but without one beside Chinese or before a label."""
    text = ""
    for piece in filter(None, pieces):
        glued = not text or _CJK.match(text[-1]) or _CJK.match(piece[0]) or piece[0] == "<"
        text += piece if glued else " " + piece
    return text


def clock(seconds: float) -> str:
    """Seconds in readable form: 4.2 s, 3:07.5, 1:00:00.0."""
    tenths = round(seconds * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    rest = f"{tenths // 10:02d}.{tenths % 10}"
    if hours:
        return f"{hours}:{minutes:02d}:{rest}"
    return f"{minutes}:{rest}" if minutes else f"{tenths / 10:.1f} s"
