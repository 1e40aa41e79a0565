"""When subtitles show what: widths, lines and words of a cue, highlighting, times inside the recording."""

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindspore_osum.cues import columns
from mindspore_osum.errors import UserError
from mindspore_osum.inference.passes import merge
from mindspore_osum.results import Answer, Response, Word, join_text
from mindspore_osum.subtitles import write

ENGLISH = "we meet at the old station at ten and then we walk to the river"
CHINESE = "下午三点和哥哥开会，然后去学校看书，再回家吃晚饭（真好）。"


def spoken(pieces: list[str], seconds: float = 20.0) -> Response:
    """A response with a word every 0.4 s."""
    words = [Word(text, round(0.4 * n, 3), round(0.4 * n + 0.3, 3)) for n, text in enumerate(pieces)]
    return Response("a.wav", seconds, [Answer(0.0, seconds, join_text(pieces), words=words)])


def untimed(text: str) -> Response:
    return Response("a.wav", 9.0, [Answer(0.0, 9.0, text)])


CLOCK = r"(\d\d):(\d\d):(\d\d)[,.](\d\d\d)"


def parse(text: str) -> list[tuple[int, int, list[str]]]:
    """(start in ms, end in ms, lines) of each cue of an srt or vtt file; fails on what is no such file."""
    blocks = text.removeprefix("WEBVTT\n\n").removeprefix("WEBVTT\n").split("\n\n") if text else []
    found = []
    for n, block in enumerate(filter(None, blocks), 1):
        lines = block.rstrip("\n").split("\n")
        if not text.startswith("WEBVTT"):
            assert lines.pop(0) == str(n)
        times = re.fullmatch(f"{CLOCK} --> {CLOCK}", lines.pop(0)).groups()
        h, m, s, ms, *last = map(int, times)
        start, end = (((a * 60 + b) * 60 + c) * 1000 + d for a, b, c, d in ((h, m, s, ms), last))
        found.append((start, end, lines))
    return found


def texts(response: Response, **how) -> list[list[str]]:
    return [lines for *_, lines in parse(write(response, "srt", **how))]


@pytest.mark.parametrize("format", ["srt", "vtt"])
@pytest.mark.parametrize("width, lines", [(16, 1), (20, 2), (12, 3)])
def test_lines_of_words(format, width, lines):
    cues = parse(write(spoken(ENGLISH.split()), format, max_line_width=width, max_lines=lines))
    assert " ".join(line for *_, shown in cues for line in shown) == ENGLISH
    assert max(len(shown) for *_, shown in cues) == lines
    assert all(len(line) <= width for *_, shown in cues for line in shown)
    for (*_, shown), (*_, following) in zip(cues, cues[1:], strict=False):
        assert len(shown) == lines and len(f"{shown[-1]} {following[0].split()[0]}") > width


def test_words_of_a_cue():
    cues = texts(spoken(ENGLISH.split()), max_words=4)
    assert cues == [["we meet at the"], ["old station at ten"], ["and then we walk"], ["to the river"]]
    rows = write(spoken(ENGLISH.split()), "tsv", max_words=4).splitlines()
    assert [row.split("\t")[2] for row in rows[1:]] == [line for (line,) in cues]


def test_spaces_are_those_of_the_text():
    """Some models write parts of a word as words; a line may end between them."""
    response = spoken(["It", "is", "twenty", "-five", "o'clock"])
    response.segments[0].text = "It is twenty-five o'clock"
    assert parse(write(response, "srt"))[0][2] == ["It is twenty-five o'clock"]
    cues = parse(write(response, "srt", max_words=3))
    assert [lines for *_, lines in cues] == [["It is twenty"], ["-five o'clock"]]


def test_chinese_is_wide_and_splits_without_spaces():
    """Two columns a character; marks stay with what they close or open."""
    for response in (untimed(CHINESE), spoken(list(CHINESE.replace("，", "").replace("（真好）。", "真好")))):
        lines = [line for cue in texts(response, max_line_width=12) for line in cue]
        assert "".join(lines) == response.text
        assert all(columns(line) <= 12 and line[0] not in "，。）" and line[-1] != "（" for line in lines)
    assert texts(untimed("打开Wi-Fi，please 关灯"), max_line_width=8) == [
        ["打开", "Wi-Fi，", "please", "关灯"]
    ]
    assert texts(untimed("안녕하세요 여러분"), max_line_width=10) == [["안녕하세요", "여러분"]]
    assert columns("e\u0301\u200b") == 1


def test_text_without_times_is_wrapped():
    """In one cue, as its words have no times; a word wider than a line is not broken."""
    text = "he said extraordinarily little about it"
    lines = ["he said", "extraordinarily", "little", "about it"]
    assert texts(untimed(text), max_line_width=10, max_lines=2) == [lines]
    assert texts(untimed("a b " * 30)) == [
        [("a b " * 10 + "a").strip(), ("b a " * 10 + "b"), ("a b " * 9).strip()]
    ]
    assert write(untimed(text), "tsv", max_line_width=10).splitlines()[1:] == [f"0\t9000\t{text}"]


def test_highlighted_words():
    """As openai-whisper writes it: the line for each word, underlined while it is spoken."""
    response = spoken(["the", "R&D", "house"])
    assert write(response, "vtt", highlight_words=True).split("\n\n")[1:] == [
        "00:00:00.000 --> 00:00:00.300\n<u>the</u> R&amp;D house",
        "00:00:00.300 --> 00:00:00.400\nthe R&amp;D house",
        "00:00:00.400 --> 00:00:00.700\nthe <u>R&amp;D</u> house",
        "00:00:00.700 --> 00:00:00.800\nthe R&amp;D house",
        "00:00:00.800 --> 00:00:01.100\nthe R&amp;D <u>house</u>\n",
    ]
    two = texts(spoken(["打开", "灯", "now"]), highlight_words=True, max_line_width=6, max_lines=2)
    assert two[0] == ["<u>打开</u>灯", "now"] and two[-1] == ["打开灯", "<u>now</u>"]
    response.segments.append(Answer(1.5, 2.0, "no times"))
    assert texts(response, highlight_words=True)[-1] == ["no times"]
    with pytest.raises(UserError, match="a.wav: highlighting needs times of words, and the answer has none"):
        write(untimed("no times"), "srt", highlight_words=True)
    assert write(Response("a.wav", 9.0), "srt", highlight_words=True) == ""


@pytest.mark.parametrize(
    "format, how, message",
    [
        ("txt", {"max_line_width": 30}, "max_line_width 30: txt has no such setting.* srt, vtt, tsv"),
        ("tsv", {"highlight_words": True}, "highlight_words True: tsv has no such setting"),
        ("srt", {"max_lines": 0}, "max_lines 0: must be a whole number, 1 or more"),
        ("srt", {"max_words": "4"}, "max_words '4': must be a whole number"),
    ],
)
def test_impossible_settings(format, how, message):
    with pytest.raises(UserError, match=message):
        write(untimed("a"), format, **how)


def test_nothing_after_the_end():
    """Words written past the end of a recording are in it, one after the other."""
    words = [("Yes.", 9.0, 9.4), ("No.", 9.5, 9.9), ("Maybe.", 10.0, 10.4), ("Fine.", 10.5, 10.9)]
    section = merge([Answer(text="Yes. No. Maybe. Fine.", words=words)], 0.0, 2.0)
    cues = parse(write(Response("a.wav", 2.0, [section]), "srt"))
    assert [line for *_, (line,) in cues] == ["Yes.", "No.", "Maybe.", "Fine."]
    check_times([(start, end) for start, end, _ in cues], 2000)
    assert parse(write(Response("a.wav", 1.0, [Answer(0.5, 3.0, "long")]), "vtt")) == [(500, 1000, ["long"])]
    assert parse(write(Response("a.wav", 0.0, [Answer(0.5, 3.0, "a")]), "srt")) == [(500, 3000, ["a"])]


def test_segments_without_speech_have_no_speaker():
    segments = [Answer(0.0, 1.0, no_speech=True), Answer(1.0, 2.0, "yes")]
    assert write(Response("a.wav", 2.0, segments), "rttm").splitlines() == [
        "SPEAKER a 1 1.000 1.000 <NA> <NA> speech <NA> <NA>"
    ]


def check_times(spans: list[tuple[int, int]], end: int) -> None:
    assert all(first < last for first, last in spans)
    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:], strict=False))
    assert not spans or spans[0][0] >= 0 and spans[-1][1] <= end


def rows(text: str, start: int, length: int) -> list[tuple[int, int]]:
    """Times of rows with start and duration in these columns, in ms."""
    times = [[round(float(row.split()[n]) * 1000) for n in (start, length)] for row in text.splitlines()]
    return [(first, first + seconds) for first, seconds in times]


TIME = st.floats(-1, 14, width=16)
TEXT = st.text(st.characters(categories=("L", "P", "Nd")), min_size=1, max_size=9)
SEGMENT = st.tuples(st.lists(st.tuples(TEXT, TIME, TIME), min_size=1, max_size=9), st.booleans())
HOW = st.fixed_dictionaries(
    {}, optional={name: st.integers(1, 20) for name in ("max_line_width", "max_lines", "max_words")}
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    parts=st.lists(SEGMENT, min_size=1, max_size=3),
    seconds=st.sampled_from([0.0004, 0.02, 1.0, 12.0]),
    how=HOW,
    highlight=st.booleans(),
    merged=st.booleans(),
)
def test_every_format_is_in_order_and_inside(parts, seconds, how, highlight, merged):
    """Whatever a model writes, as it stands and as `merge` places it: valid files, with all of the text."""
    segments = []
    for n, (words, timed) in enumerate(parts):
        start, end = seconds * n / len(parts), seconds * (n + 1) / len(parts)
        text = join_text(word for word, *_ in words)
        answer = Answer(start, end, text, words=[Word(*word) for word in words] if timed else [])
        segments.append(merge([answer], start, end) if merged else answer)
    response, end = Response("a.wav", seconds, segments), max(int(seconds * 1000), 1)
    letters = "".join(response.text.split())
    highlight &= any(segment.words for segment in segments)
    for format in ("srt", "vtt"):
        plain = parse(write(response, format, **how))
        check_times([(first, last) for first, last, _ in plain], end)
        shown = "".join("".join(lines) for *_, lines in plain)
        assert "".join((html.unescape(shown) if format == "vtt" else shown).split()) == letters
        cues = parse(write(response, format, **how, highlight_words=highlight))
        check_times([(first, last) for first, last, _ in cues], end)
        if highlight and end > 1000:
            marked = sum(bool(re.search("<u>", "".join(lines))) for *_, lines in cues)
            assert marked == sum(len(segment.words) for segment in segments)
    tsv = [row.split("\t") for row in write(response, "tsv").splitlines()[1:]]
    check_times([(int(first), int(last)) for first, last, _ in tsv], end)
    assert "".join("".join(text for *_, text in tsv).split()) == letters
    grid = write(response, "textgrid")
    for tier in grid.split("item [")[2:]:
        bounds = re.findall(r"xmin = (\S+)\n +xmax = (\S+)\n +text", tier)
        spans = [(round(float(a) * 1000), round(float(b) * 1000)) for a, b in bounds]
        check_times(spans, end)
        assert spans[0][0] == 0 and spans[-1][1] == end
        assert all(a[1] == b[0] for a, b in zip(spans, spans[1:], strict=False))
    check_times(rows(write(response, "rttm"), 3, 4), end)
    if all(segment.words for segment in segments):
        check_times(rows(write(response, "ctm"), 2, 3), end)
