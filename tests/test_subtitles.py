"""Files for other programs, read again by programs of others."""

import html
import json
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindspore_osum.cues import CUE_SECONDS, LINE_COLUMNS, MOMENT_MS
from mindspore_osum.errors import UserError
from mindspore_osum.results import Answer, Response, Word
from mindspore_osum.subtitles import FORMATS, SUFFIXES, write
from mindspore_osum.tasks import parse_answer

srt = pytest.importorskip("srt", reason="needs srt (extra dev)")
webvtt = pytest.importorskip("webvtt", reason="needs webvtt-py (extra dev)")
textgrid = pytest.importorskip("praatio.textgrid", reason="needs praatio (extra dev)")


def spoken(start: float, text: str, each: float = 0.4) -> list[Word]:
    starts = [(word, start + each * n) for n, word in enumerate(text.split())]
    return [Word(word, round(first, 3), round(first + 0.3, 3)) for word, first in starts]


@pytest.fixture
def talk() -> Response:
    """English with times, Chinese with times, and a segment without them."""
    english = "we meet at the old station <at> ten & then we walk to the river together. Bring your coat"
    chinese = "下 午 三 点 和 哥 哥 开 会 然 后 去 学 校 看 书 再 回 家 吃 晚 饭 真 好"
    segments = [
        Answer(0.5, 9.0, english, words=spoken(0.6, english), labels={"gender": "FEMALE", "age": "OLD"}),
        Answer(10.0, 20.0, chinese.replace(" ", ""), words=spoken(10.2, chinese)),
        Answer(3599.0, 3602.5, 'he said "no"\n\nand left', labels={"gender": "MALE"}),
    ]
    return Response("some where/my talk.wav", 3605.0, segments)


def seconds(value: timedelta) -> float:
    return value.total_seconds()


def check_lines(talk: Response, found: list[tuple[float, float, str]]) -> None:
    """Every word is there once, at its time; lines are in order and no longer than they should be."""
    assert found[-1][:2] == (3599.0, 3602.5) and found[-1][2] == 'he said "no" and left'
    joined = "".join(text for *_, text in found).replace(" ", "")
    assert joined == "".join(w.text for w in talk.words) + 'hesaid"no"andleft'
    starts = [w.start for w in talk.words]
    for (start, end, text), following in zip(found, found[1:], strict=False):
        assert start < end <= following[0] and start in starts
        assert end - start <= CUE_SECONDS and len(text) <= LINE_COLUMNS
    assert any(text.endswith("together.") for *_, text in found), "a sentence ends its line"
    assert max(len(text) for _, _, text in found if "哥" in text or "校" in text) <= LINE_COLUMNS / 2


def test_srt(talk):
    cues = list(srt.parse(write(talk, "srt"), ignore_errors=False))
    assert [cue.index for cue in cues] == list(range(1, len(cues) + 1))
    check_lines(talk, [(seconds(cue.start), seconds(cue.end), cue.content) for cue in cues])


def test_vtt(talk, tmp_path):
    path = tmp_path / "talk.vtt"
    path.write_text(write(talk, "vtt"), encoding="utf-8")
    captions = [(exact(c.start), exact(c.end), html.unescape(c.text)) for c in webvtt.read(str(path))]
    check_lines(talk, captions)
    assert "<at>" not in path.read_text("utf-8")


def exact(clock: str) -> float:
    """Seconds of HH:MM:SS.mmm; webvtt-py's own are whole ones."""
    hours, minutes, rest = clock.split(":")
    return round(int(hours) * 3600 + int(minutes) * 60 + float(rest), 3)


def test_tsv(talk):
    head, *rows = write(talk, "tsv").splitlines()
    assert head == "start\tend\ttext"
    found = [row.split("\t") for row in rows]
    check_lines(talk, [(int(start) / 1000, int(end) / 1000, text) for start, end, text in found])


def test_textgrid(talk, tmp_path):
    path = tmp_path / "talk.TextGrid"
    path.write_text(write(talk, "textgrid"), encoding="utf-8")
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True)
    assert grid.tierNames == ("segments", "words")
    for tier in grid.tiers:
        assert tier.entries[0].start == 0 and tier.entries[-1].end == grid.maxTimestamp == 3605
        assert all(a.end == b.start for a, b in zip(tier.entries, tier.entries[1:], strict=False))
    words = [e for e in grid.getTier("words").entries if e.label]
    assert [(e.label, e.start, e.end) for e in words] == talk.words
    segments = [(e.start, e.end) for e in grid.getTier("segments").entries if e.label]
    assert segments == [(0.5, 9.0), (10.0, 20.0), (3599.0, 3602.5)]


def test_ctm(talk):
    with pytest.raises(UserError, match="talk.wav: ctm needs times of words.* from 3599.00 to 3602.50"):
        write(talk, "ctm")
    talk.segments.pop()
    rows = [line.split(" ") for line in write(talk, "ctm").splitlines()]
    assert [(row[0], row[1], len(row)) for row in rows] == [("my_talk", "1", 5)] * len(talk.words)
    assert [row[4] for row in rows] == [word.text for word in talk.words]
    for row, word in zip(rows, talk.words, strict=True):
        assert float(row[2]) == word.start and float(row[2]) + float(row[3]) == pytest.approx(word.end)


@pytest.mark.parametrize(
    "raw",
    [
        "<asr><align><0.10>turn<0.30> on the <0.50>light<0.80>",
        "<asr><align><0.10>turn<0.30> on the light",
    ],
)
def test_words_without_times_are_not_lost(raw):
    parsed = parse_answer(raw)
    segment = Answer(0.0, 1.0, parsed.text, words=[Word(*word) for word in parsed.words])
    response = Response("x.wav", 1.0, [segment])
    assert write(response, "txt") == "turn on the light\n"
    for format in ("srt", "vtt", "tsv"):
        assert write(response, format).endswith("turn on the light\n")
    with pytest.raises(UserError, match="x.wav: ctm needs times of words, and the model left some out"):
        write(response, "ctm")


def test_textgrid_of_a_moment(tmp_path):
    """A recording that rounds to 0 ms: its text is there nevertheless, in the shortest interval."""
    words = [Word("oh", 0.0, 0.0)]
    path = tmp_path / "a.TextGrid"
    path.write_text(write(Response("a.wav", 0.0002, [Answer(0.0, 0.0002, "oh", words=words)]), "textgrid"))
    grid = textgrid.openTextgrid(str(path), False)
    assert [[e.label for e in tier.entries] for tier in grid.tiers] == [["oh"], ["oh"]]


def test_rttm(talk):
    rows = [line.split(" ") for line in write(talk, "rttm").splitlines()]
    assert {(len(row), row[0], row[1], row[2]) for row in rows} == {(10, "SPEAKER", "my_talk", "1")}
    assert [(float(row[3]), float(row[4]), row[7]) for row in rows] == [
        (0.5, 8.5, "FEMALE_OLD"),
        (10.0, 10.0, "speech"),
        (3599.0, 3.5, "MALE"),
    ]


def test_json_and_txt(talk):
    assert json.loads(write(talk, "json")) == json.loads(json.dumps(talk.to_dict()))
    *_, last = write(talk, "txt").splitlines()
    assert last == 'he said "no" and left <MALE>'


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_heard(format, tmp_path):
    """A valid file without a line."""
    text = write(Response("silence.wav", 40.0), format)
    if format == "srt":
        assert not list(srt.parse(text))
    elif format == "vtt":
        (tmp_path / "a.vtt").write_text(text)
        assert len(webvtt.read(str(tmp_path / "a.vtt"))) == 0
    elif format == "textgrid":
        (tmp_path / "a.TextGrid").write_text(text)
        assert textgrid.openTextgrid(str(tmp_path / "a.TextGrid"), False).maxTimestamp == 40
    else:
        assert text in ("", "start\tend\ttext\n") or format == "json"


def test_formats():
    assert SUFFIXES.keys() == FORMATS.keys()
    with pytest.raises(UserError, match="did you mean 'srt'"):
        write(Response("a"), "srtt")


TIMES = st.lists(st.floats(0, 12, width=32), min_size=2, max_size=2)
WORDS = st.tuples(st.text(st.characters(categories=("L", "P", "Nd")), min_size=1, max_size=12), TIMES)


@settings(max_examples=60, deadline=None)
@given(words=st.lists(WORDS, min_size=1, max_size=12))
def test_whatever_times_a_model_writes(words, tmp_path_factory):
    """Times that stand still or touch, as `passes.merge` gives them: no text is lost, no file invalid."""
    starts = sorted(min(times) for _, times in words)
    placed = [Word(t, s, max(s, max(times))) for (t, times), s in zip(words, starts, strict=True)]
    text = " ".join(word.text for word in placed)
    response = Response("x.wav", 12.0, [Answer(0.0, 12.0, text, words=placed)])
    folder = tmp_path_factory.mktemp("subtitles")
    letters = sorted("".join(word.text for word in placed))
    cues = list(srt.parse(write(response, "srt")))
    assert sorted("".join(c.content for c in cues).replace(" ", "")) == letters
    assert all(seconds(c.end - c.start) * 1000 >= MOMENT_MS for c in cues)
    assert all(a.end <= b.start for a, b in zip(cues, cues[1:], strict=False))
    path = folder / "x.TextGrid"
    path.write_text(write(response, "textgrid"), encoding="utf-8")
    entries = textgrid.openTextgrid(str(path), False).getTier("words").entries
    assert sorted("".join(e.label for e in entries).replace(" ", "")) == letters
    assert len(write(response, "ctm").splitlines()) == len(placed)
