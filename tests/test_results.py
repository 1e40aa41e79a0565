"""A response as a whole: what follows from its segments, and how it is shown."""

import json

import pytest

from mindspore_osum import notebook
from mindspore_osum.results import Answer, Response, Word, clock


@pytest.fixture
def long() -> Response:
    """Three segments of two speakers."""
    segments = [
        Answer(
            0.5,
            2.5,
            "你好",
            ["asr", "gender"],
            {"gender": "MALE"},
            [Word("你", 0.6, 0.8), Word("好", 0.8, 1.1)],
            raw="<asr><gender>你好<MALE>",
            probabilities={"gender": {"MALE": 0.9, "FEMALE": 0.1}},
        ),
        Answer(
            4.0,
            12.0,
            "good morning",
            ["asr", "gender", "age"],
            {"gender": "FEMALE", "age": "OLD"},
            raw="b",
            probabilities={"gender": {"MALE": 0.4, "FEMALE": 0.6}},
        ),
        Answer(13.0, 14.0, "hello", ["asr"], {"gender": "MALE"}, answer="hi", raw="c", cut=True),
    ]
    return Response("talk.wav", 15.0, segments, rtf=0.25)


def test_the_whole_follows_from_the_segments(long):
    assert long.text == "你好good morning hello"
    assert long.words == [("你", 0.6, 0.8), ("好", 0.8, 1.1)]
    assert long.tags == ["asr", "gender", "age"]
    assert long.raw == "<asr><gender>你好<MALE>\nb\nc"
    assert long.answer == "hi" and long.cut
    assert long.label_counts == {"gender": {"MALE": 2, "FEMALE": 1}, "age": {"OLD": 1}}
    assert long.labels == {"gender": "MALE", "age": "OLD"}
    assert long.probabilities["gender"] == pytest.approx({"MALE": 0.5, "FEMALE": 0.5})


def test_equal_counts_are_decided_by_length(long):
    del long.segments[0]
    assert long.labels["gender"] == "FEMALE"
    assert list(long.label_counts["gender"]) == ["FEMALE", "MALE"]


def test_nothing_heard():
    empty = Response("a.wav", 40.0)
    assert (empty.text, empty.labels, empty.words, empty.answer) == ("", {}, [], None)
    assert empty.probabilities is None and not empty.cut
    assert str(empty) == "a.wav  40.0 s\n  no speech found"


def test_json(long):
    values = json.loads(json.dumps(long.to_dict()))
    assert values["labels"] == long.labels and values["words"][0] == ["你", 0.6, 0.8]
    assert [s["text"] for s in values["segments"]] == ["你好", "good morning", "hello"]
    assert "error" not in values
    long.error = "talk.wav: damaged"
    assert long.to_dict()["error"] == "talk.wav: damaged"


def test_print(long):
    assert str(long).splitlines() == [
        "talk.wav  15.0 s",
        "  0.5 s - 2.5 s  你好 <MALE>",
        "  4.0 s - 12.0 s  good morning <FEMALE> <OLD>",
        "  13.0 s - 14.0 s  hello <MALE>",
        "  13.0 s - 14.0 s  reply: hi",
        "  gender: MALE 2x, FEMALE 1x  (50%)",
        "  age: OLD 1x",
        "  words: 0.60-0.80 你 0.80-1.10 好",
    ]
    one = Response("a.wav", 2.0, [Answer(0.0, 2.0, "yes", labels={"age": "CHILD"})], error="a.wav: cut off")
    assert str(one).splitlines() == ["a.wav  2.0 s", "  error: a.wav: cut off", "  yes", "  age: CHILD"]


def test_clock():
    assert [clock(s) for s in (0, 4.25, 59.94, 59.96, 187.5, 3600)] == [
        "0.0 s",
        "4.2 s",
        "59.9 s",
        "1:00.0",
        "3:07.5",
        "1:00:00.0",
    ]


def test_shown_on_one_line(long):
    assert repr(long).startswith(f"<Response {long.audio!r} ") and "\n" not in repr(long)
    assert repr(Response("a.wav", 2.0, [Answer(0.0, 2.0, "x" * 300)])).count("x") < 80
    assert repr(long.segments[0]) == "<Answer 0.5-2.5 s text='你好' labels={'gender': 'MALE'} words=2>"


def test_shown_in_a_notebook(tmp_path):
    """A player of a small file, words with times, and nothing that is not escaped."""
    wav, evil = tmp_path / "a.wav", "<script>alert(1)</script>"
    wav.write_bytes(b"RIFF")
    answer = Answer(
        0.0, 1.0, evil, labels={"age": evil}, words=[Word(evil, 0.1, 0.25)], answer=evil, warnings=[evil]
    )
    html = Response(str(wav), 1.0, [answer])._repr_html_()
    assert 'src="data:audio/wav;base64,UklGRg=="' in html and "0.10&ndash;0.25" in html
    assert "<script" not in html and html.count("&lt;script&gt;") >= 4
    for other in (tmp_path / "absent.wav", tmp_path, "array", "a\0.wav", evil):
        page = Response(str(other), error=evil)._repr_html_()
        assert "<audio" not in page and "<script" not in page
    wav.write_bytes(bytes(notebook.MAX_BYTES + 1))
    assert "<audio" not in Response(str(wav))._repr_html_()


def test_sections_have_their_words():
    """Those that begin in their text, with their confidence; a mark may belong to the word before."""
    words = [Word("well,", 1, 2), Word('this."', 2, 3), Word("no", 4, 5), Word("你", 5, 6), Word("好", 6, 7)]
    sure = [(word.text, 0.5 + n / 10) for n, word in enumerate(words)]
    sections = [Word("well, this.", 1, 3), Word('"', 3, 4), Word("no 你好", 4, 7)]
    answer = Answer(0, 8, 'well, this." no 你好', words=words, word_confidence=sure, sections=sections)
    parts = answer.divided()
    assert [part.words for part in parts] == [words[:2], [], words[2:]]
    assert [part.word_confidence for part in parts] == [sure[:2], [], sure[2:]]
    (plain,) = Answer(0, 8, "a b", word_confidence=[("a", 0.5)], sections=[Word("a b", 0, 2)]).divided()
    assert plain.words == [] and plain.word_confidence is None
