"""Writes a response in file formats of other programs: one small writer per format.

Notable choices
- What subtitles show when is made in cues.py.
- ctm consists of words: a transcript without timestamps for all words is refused; none are invented.
- Times are in order, without overlap and inside the recording in all formats.

Formats: SubRip; WebVTT (W3C); tsv of openai-whisper (milliseconds); Praat TextGrid (long form); CTM and RTTM
(NIST RT-09 evaluation plan).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from mindspore_osum.config import did_you_mean
from mindspore_osum.cues import Layout, Span, cues, duration, laid_out, ms, timed_words
from mindspore_osum.errors import UserError
from mindspore_osum.results import Answer, Response, Word

LEAST_MS = 10
"""Shortest word or segment in files of intervals, whatever the model wrote."""


def write(
    response: Response,
    format: str,
    *,
    max_line_width: int | None = None,
    max_lines: int | None = None,
    max_words: int | None = None,
    highlight_words: bool = False,
) -> str:
    """The whole file as text, with a line break at its end; "" if there is nothing to write.

    Parameters
    ----------
    format : a key of `FORMATS`.
    max_line_width : srt, vtt, tsv: columns of a line (default 42); a Chinese character takes two.
    max_lines : srt, vtt: lines of a cue (default 1).
    max_words : srt, vtt, tsv: words of a cue (default: as many as fit).
    highlight_words : srt, vtt: a cue for each word, in which the word is underlined (``<u>``).

    Raises
    ------
    UserError : no such format, a setting it does not have, or the response lacks the timestamps for it.
    """
    check_format(format)
    given = {
        "max_line_width": max_line_width,
        "max_lines": max_lines,
        "max_words": max_words,
        "highlight_words": highlight_words or None,
    }
    settings = check_settings([format], given)[format]
    text = FORMATS[format](response, Layout(**settings))
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # a file name may not be valid Unicode


def check_settings(formats: Sequence[str], given: Mapping[str, object]) -> dict[str, dict]:
    """Format -> those of the given settings of cues that it has; None means not given.

    Raises
    ------
    UserError : a setting that none of the formats has, or an impossible value.
    """
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if not any(format in SETTINGS[name] for format in formats):
            raise UserError(
                f"{name} {value!r}: {', '.join(formats)} has no such setting; it belongs to the formats "
                f"{', '.join(SETTINGS[name])}"
            )
    Layout(**given)
    return {f: {name: value for name, value in given.items() if f in SETTINGS[name]} for f in formats}


def check_format(format: str) -> str:
    """The format; UserError with the nearest one if it is unknown."""
    if format not in FORMATS:
        raise UserError(f"format {format!r}: there is none of that name{did_you_mean(format, FORMATS)}")
    return format


def _json(response: Response, _: Layout) -> str:
    return json.dumps(response.to_dict(), ensure_ascii=False, indent=2) + "\n"


def _txt(response: Response, _: Layout) -> str:
    """A line for each segment: its channel, if they were split, the transcript, the labels, the reply."""
    out = []
    for segment in response.segments:
        shown = [segment.text, *(f"<{value}>" for value in segment.labels.values())]
        lines = [" ".join(" ".join(shown).split())]
        if segment.answer is not None:
            lines.append("reply: " + " ".join(segment.answer.split()))
        who = segment.channel and f"{segment.channel}: "
        out += [f"{who}{line}\n" for line in lines if line]
    return "".join(out)


def _srt(response: Response, layout: Layout) -> str:
    blocks = []
    for n, (start, end, text) in enumerate(cues(response, layout), start=1):
        blocks.append(f"{n}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n")
    return "\n".join(blocks)


def _vtt(response: Response, layout: Layout) -> str:
    blocks = ["WEBVTT\n"]
    for start, end, text in cues(response, layout, _escaped):
        blocks.append(f"{_clock(start, '.')} --> {_clock(end, '.')}\n{text}\n")
    return "\n".join(blocks)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _tsv(response: Response, layout: Layout) -> str:
    found = cues(response, layout, line_break=False)
    return "start\tend\ttext\n" + "".join(f"{start}\t{end}\t{text}\n" for start, end, text in found)


def _textgrid(response: Response, _: Layout) -> str:
    """Interval tiers `segments` and, if there are word timestamps, `words`; pauses are empty intervals.

    Channels that were split have tiers of their own: `left segments`, `left words`, ...
    """
    tiers = {}
    for channel, part in response.by_channel().items():
        tiers[f"{channel} segments".strip()] = _segments(part)
        if part.words:
            tiers[f"{channel} words".strip()] = _words(part, part.words)
    seconds = duration(response) / 1000
    out = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    out += ["xmin = 0", f"xmax = {seconds:.3f}"]
    out += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for n, (name, spans) in enumerate(tiers.items(), start=1):
        intervals = _without_holes(spans, duration(response))
        out += [f"    item [{n}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        out += ["        xmin = 0", f"        xmax = {seconds:.3f}"]
        out += [f"        intervals: size = {len(intervals)}"]
        for i, (start, end, text) in enumerate(intervals, start=1):
            quoted = " ".join(text.split()).replace('"', '""')
            out += [f"        intervals [{i}]:", f"            xmin = {start / 1000:.3f}"]
            out += [f"            xmax = {end / 1000:.3f}", f'            text = "{quoted}"']
    return "\n".join(out) + "\n"


def _without_holes(spans: Sequence[Span], end: int) -> list[Span]:
    """Intervals from 0 to `end`, with an empty one in each gap."""
    intervals, done = [], 0
    for span in [*spans, Span(end, end, "")]:
        if span.start > done:
            intervals.append(Span(done, span.start, ""))
        if span.end > span.start:
            intervals.append(span)
        done = span.end
    return intervals


def _ctm(response: Response, _: Layout) -> str:
    parts = enumerate(response.by_channel().values(), start=1)
    return "".join(_ctm_lines(part, number) for number, part in parts)


def _ctm_lines(response: Response, channel: int) -> str:
    words = []
    for segment in response.segments:
        timed = timed_words(segment)
        if segment.text and not timed:
            raise UserError(
                f"{response.audio}: ctm needs times of words, and the model left some out from "
                f"{segment.start:.2f} to {segment.end:.2f} s; take srt, vtt, tsv or textgrid"
            )
        words += timed
    return "".join(
        f"{_name(response)} {channel} {start / 1000:.3f} {(end - start) / 1000:.3f} {_column(text)}\n"
        for start, end, text in _words(response, words)
    )


def _rttm(response: Response, _: Layout) -> str:
    """Who speaks when: speakers are named by their channel, by the labels gender and age, or `speech`."""
    return "".join(
        f"SPEAKER {_name(response)} {number} {start / 1000:.3f} {(end - start) / 1000:.3f} <NA> <NA> "
        f"{_column(who)} <NA> <NA>\n"
        for number, part in enumerate(response.by_channel().values(), start=1)
        for start, end, who in _segments(part, _speaker)
    )


def _segments(response: Response, text: Callable[[Answer], str] = lambda s: s.text) -> list[Span]:
    """What is said of the segments with speech."""
    spans = [Span(ms(s.start), ms(s.end), text(s)) for s in response.segments if not s.no_speech]
    return laid_out(spans, response, LEAST_MS)


def _words(response: Response, words: Iterable[Word]) -> list[Span]:
    return laid_out((Span(ms(w.start), ms(w.end), w.text) for w in words), response, LEAST_MS)


def _speaker(segment: Answer) -> str:
    known = [segment.labels[name] for name in ("gender", "age") if name in segment.labels]
    return segment.channel or "_".join(known) or "speech"


def _name(response: Response) -> str:
    """The recording's name: without folder and suffix."""
    return _column(Path(response.audio).stem) or "audio"


def _column(text: str) -> str:
    """A text as a column: without spaces."""
    return "_".join(text.split())


def _clock(milliseconds: int, point: str) -> str:
    """HH:MM:SS and milliseconds."""
    rest, thousandths = divmod(milliseconds, 1000)
    minutes, rest = divmod(rest, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}{point}{thousandths:03d}"


FORMATS: dict[str, Callable[[Response, Layout], str]] = {
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
SETTINGS = {  # of cues -> the formats that have it
    "max_line_width": ("srt", "vtt", "tsv"),
    "max_lines": ("srt", "vtt"),
    "max_words": ("srt", "vtt", "tsv"),
    "highlight_words": ("srt", "vtt"),
}
