"""Writes a response in file formats of other programs: one small writer per format.

Notable choices
- Subtitle lines are made from words if the model gave timestamps for all of them; otherwise a segment is one
  line, so that no text is lost.
- ctm consists of words: a transcript without timestamps for all words is refused; none are invented.

Formats: SubRip; WebVTT (W3C); tsv of openai-whisper (milliseconds); Praat TextGrid (long form); CTM and RTTM
(NIST RT-09 evaluation plan).
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from unicodedata import east_asian_width

from mindspore_osum.config import did_you_mean
from mindspore_osum.errors import UserError
from mindspore_osum.results import Answer, Response, Word, join_text

LINE_PLACES = 42
"""Widest line, in Latin letters (Chinese ones take two): the usual limit of broadcasters."""

LINE_SECONDS = 6.0
"""Longest time a line of words stays."""

LINE_PAUSE = 0.6
"""Seconds without a word after which a new line begins."""

MOMENT = 0.05
"""Shortest time of a line, in seconds, whatever the model wrote."""

_SENTENCE_END = re.compile(r"[.!?。！？…]$")


def write(response: Response, format: str) -> str:
    """The whole file as text, with a line break at its end; "" if there is nothing to write.

    Parameters
    ----------
    format : a key of `FORMATS`.

    Raises
    ------
    UserError : no such format, or the response lacks the timestamps for it.
    """
    text = FORMATS[check_format(format)](response)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # a file name may not be valid Unicode


def check_format(format: str) -> str:
    """The format; UserError with the nearest one if it is unknown."""
    if format not in FORMATS:
        raise UserError(f"format {format!r}: there is none of that name{did_you_mean(format, FORMATS)}")
    return format


def lines(response: Response) -> Iterator[tuple[float, float, str]]:
    """(start, end, text) of the subtitle lines, without overlap and with a minimum duration."""
    done = 0.0
    for segment in response.segments:
        found = [
            (group[0].start, group[-1].end, join_text(w.text for w in group))
            for group in _groups(_timed(segment))
        ] or [(segment.start, segment.end, segment.text)]
        for start, end, text in found:
            if text := " ".join(text.split()):
                start = max(start, done)
                done = max(end, start + MOMENT)
                yield start, done, text


def _timed(segment: Answer) -> list[Word]:
    """The words of a segment if they cover all of its text, else none."""
    text, words = ("".join(part.split()) for part in (segment.text, "".join(w.text for w in segment.words)))
    return segment.words if words == text else []


def _groups(words: list[Word]) -> Iterator[list[Word]]:
    """Groups of words, one per line."""
    group: list[Word] = []
    for word in words:
        if group and (
            word.start - group[-1].end > LINE_PAUSE
            or word.end - group[0].start > LINE_SECONDS
            or places(join_text(w.text for w in [*group, word])) > LINE_PLACES
            or _SENTENCE_END.search(group[-1].text)
        ):
            yield group
            group = []
        group.append(word)
    if group:
        yield group


def places(text: str) -> int:
    """Width of a text in Latin letters; a Chinese character counts as two."""
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def _json(response: Response) -> str:
    return json.dumps(response.to_dict(), ensure_ascii=False, indent=2) + "\n"


def _txt(response: Response) -> str:
    texts = (" ".join(segment.text.split()) for segment in response.segments)
    return "".join(f"{text}\n" for text in texts if text)


def _srt(response: Response) -> str:
    blocks = []
    for n, (start, end, text) in enumerate(lines(response), start=1):
        blocks.append(f"{n}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n")
    return "\n".join(blocks)


def _vtt(response: Response) -> str:
    blocks = ["WEBVTT\n"]
    for start, end, text in lines(response):
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        blocks.append(f"{_clock(start, '.')} --> {_clock(end, '.')}\n{escaped}\n")
    return "\n".join(blocks)


def _tsv(response: Response) -> str:
    rows = (f"{_ms(start)}\t{_ms(end)}\t{text}\n" for start, end, text in lines(response))
    return "start\tend\ttext\n" + "".join(rows)


def _textgrid(response: Response) -> str:
    """Interval tiers `segments` and, if there are word timestamps, `words`; pauses are empty intervals."""
    spans = [(segment.start, segment.end, segment.text) for segment in response.segments]
    tiers = {"segments": spans}
    if response.words:
        tiers["words"] = [(word.start, word.end, word.text) for word in response.words]
    seconds = max(round(response.seconds, 3), 0.001)  # a tier needs at least one interval
    out = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    out += ["xmin = 0", f"xmax = {seconds:.3f}"]
    out += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for n, (name, spans) in enumerate(tiers.items(), start=1):
        intervals = _without_holes(spans, seconds)
        out += [f"    item [{n}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        out += ["        xmin = 0", f"        xmax = {seconds:.3f}"]
        out += [f"        intervals: size = {len(intervals)}"]
        for i, (start, end, text) in enumerate(intervals, start=1):
            quoted = " ".join(text.split()).replace('"', '""')
            out += [f"        intervals [{i}]:", f"            xmin = {start:.3f}"]
            out += [f"            xmax = {end:.3f}", f'            text = "{quoted}"']
    return "\n".join(out) + "\n"


def _without_holes(spans, seconds: float) -> list[tuple[float, float, str]]:
    """Intervals from 0 to `seconds` without gaps; text of an empty interval is added to its neighbour."""
    intervals: list[tuple[float, float, str]] = []
    done, waiting = 0.0, []
    for start, end, text in spans:
        start, end = max(round(start, 3), done), min(round(end, 3), seconds)
        if end <= start:
            waiting.append(text)
            continue
        if start > done:
            intervals.append((done, start, ""))
        intervals.append((start, end, join_text([*waiting, text])))
        done, waiting = end, []
    if done < seconds:
        intervals.append((done, seconds, join_text(waiting)))
    elif waiting:
        start, end, text = intervals.pop()
        intervals.append((start, end, join_text([text, *waiting])))
    return intervals


def _ctm(response: Response) -> str:
    out = []
    for segment in response.segments:
        words = _timed(segment)
        if segment.text and not words:
            raise UserError(
                f"{response.audio}: ctm needs times of words, and the model left some out from "
                f"{segment.start:.2f} to {segment.end:.2f} s; take srt, vtt, tsv or textgrid"
            )
        for word in words:
            text = "_".join(word.text.split())
            out.append(f"{_name(response)} 1 {word.start:.3f} {word.end - word.start:.3f} {text}\n")
    return "".join(out)


def _rttm(response: Response) -> str:
    """Who speaks when: speakers are named by the labels gender and age, or `speech` without labels."""
    out = []
    for segment in response.segments:
        out.append(
            f"SPEAKER {_name(response)} 1 {segment.start:.3f} {segment.seconds:.3f} <NA> <NA> "
            f"{_speaker(segment)} <NA> <NA>\n"
        )
    return "".join(out)


def _speaker(segment: Answer) -> str:
    known = [segment.labels[name] for name in ("gender", "age") if name in segment.labels]
    return "_".join(known) or "speech"


def _name(response: Response) -> str:
    """The recording's name as a column: without folder, suffix and spaces."""
    return "_".join(Path(response.audio).stem.split()) or "audio"


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _clock(seconds: float, point: str) -> str:
    """HH:MM:SS and milliseconds."""
    rest, ms = divmod(_ms(seconds), 1000)
    minutes, rest = divmod(rest, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}{point}{ms:03d}"


FORMATS: dict[str, Callable[[Response], str]] = {
    "json": _json,
    "txt": _txt,
    "srt": _srt,
    "vtt": _vtt,
    "tsv": _tsv,
    "textgrid": _textgrid,
    "ctm": _ctm,
    "rttm": _rttm,
}
SUFFIXES = {name: f".{name}" for name in FORMATS} | {"textgrid": ".TextGrid"}
