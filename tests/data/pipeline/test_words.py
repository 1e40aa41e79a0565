"""`osum data words`: times of CTM and TextGrid files as targets; praatio reads the TextGrids, too."""

import codecs
import random
from dataclasses import replace

import pytest

from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.data.formats.textgrid import read_tiers
from mindspore_osum.data.formats.word_times import WordTimes
from mindspore_osum.data.pipeline.journal import Journal
from mindspore_osum.data.pipeline.words import kept, spell
from mindspore_osum.errors import UserError
from mindspore_osum.tasks import parse_answer

LINES = [
    {"key": "u0", "wav": "u0.wav", "txt": 'He said: "Now!"', "task": "<TRANSCRIBE>", "extra": {"words": []}},
    {"key": "u1", "wav": "rec.wav", "txt": "今天 OK<HAPPY>", "task": "<TRANSCRIBE> <EMOTION>"},
    {"key": "u2", "wav": "long.wav", "txt": "two three", "task": "asr", "start": 0.4, "end": 1.0},
    {"key": "u3", "wav": "u3.wav", "txt": "nothing knows it", "task": "asr"},
]
CTM = """;; a comment
u0 1 0.00 0.10 <eps>
u0 1 0.10 0.20 he 0.99
u0 1 0.30 0.25 SAID
u0 1 0.60 0.3 now
rec A 0.05 0.1 今
rec A 0.20 0.1 天

rec A 0.5 0.25 ok
long 1 0.1 0.2 one
long 1 0.40 0.2 two
long 1 0.625 0.35 three
long 1 1.02 0.1 four
"""


def test_times_of_a_ctm_are_those_of_its_words(tmp_path, write_set, data):
    path = write_set("set.jsonl", LINES)
    (tmp_path / "a.ctm").write_text(CTM, "utf-8")
    status, out, err = data("words", path, "--times", tmp_path / "a.ctm", "--output", tmp_path / "srwt.jsonl")
    assert status == 0, err
    assert "3 utterances with word times, 0 errors" in out and f"first: {path}:4: u3" in out
    found, problems = read_manifest(tmp_path / "srwt.jsonl")
    assert not problems and {u.task for u in found} == {"<TRANSCRIBE> <ALIGN>"}
    assert found[0].txt == '<0.10>He<0.30><0.30>said:<0.55><0.60>"Now!"<0.90>' and found[0].extra == {}
    assert [(w, s, e) for w, s, e in parse_answer(found[1].txt, "srwt").words] == [
        ("今", 0.05, 0.15),
        ("天", 0.2, 0.3),
        ("OK", 0.5, 0.75),
    ]
    part = found[2]  # times of the recording, in the part that is used
    assert (part.start, part.end) == (0.4, 1.0) and part.txt == "<0.00>two<0.20><0.22>three<0.57>"
    assert data("validate", tmp_path / "srwt.jsonl")[0] == 0


@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_textgrids_are_read_as_praatio_reads_them(tmp_path, form, encoding):
    textgrid = pytest.importorskip("praatio.textgrid", reason="needs praatio (extra dev)")
    rng = random.Random(f"{form}{encoding}")
    grid = textgrid.Textgrid()
    for name in ("words", 'phones "x"'):
        edges = sorted({round(rng.uniform(0, 9), 3) for _ in range(41)})
        texts = [rng.choice(("a", "", 'he said "no"', "天", "x ! y", "<b>", "7.5")) for _ in edges[1:]]
        entries = [entry for entry in zip(edges, edges[1:], texts) if entry[2]]
        grid.addTier(textgrid.IntervalTier(name, entries, 0, 9.5))
    grid.addTier(textgrid.PointTier("points", [(0.5, "p"), (3.25, "<q>")], 0, 9.5))
    path = tmp_path / "g.TextGrid"
    grid.save(str(path), form, includeBlankSpaces=True)
    if encoding == "utf-16":
        path.write_bytes(codecs.BOM_UTF16_LE + path.read_text("utf-8").encode("utf-16-le"))
    read = textgrid.openTextgrid(str(path), includeEmptyIntervals=True)
    tiers = read_tiers(path)
    assert [*tiers] == ["words", 'phones "x"']
    for name, intervals in tiers.items():
        assert intervals == [(text, start, end) for start, end, text in read.getTier(name).entries]


def test_a_folder_of_textgrids_of_a_forced_aligner(tmp_path, write_set, data):
    path = write_set("set.jsonl", LINES[:2])
    (tmp_path / "aligned/x").mkdir(parents=True)
    for name, rows in {
        "u0": [("", 0, 0.1), ("he", 0.1, 0.3), ("said", 0.3, 0.5), ("", 0.5, 0.6), ("now", 0.6, 1.0)],
        "rec": [("今天", 0, 0.4), ("ok", 0.4, 1.1)],
    }.items():
        text = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n1.1\n<exists>\n2\n'
        text += f'"IntervalTier"\n"Words"\n0\n1.1\n{len(rows)}\n'
        text += "".join(f'{s}\n{e}\n"{w}"\n' for w, s, e in rows)
        text += '"IntervalTier"\n"phones"\n0\n1.1\n1\n0\n1.1\n"AH"\n'
        (tmp_path / f"aligned/x/{name}.TextGrid").write_text(text, "utf-8")
    command = ["words", path, "--times", tmp_path / "aligned", "--output", tmp_path / "o.jsonl"]
    assert data(*command)[0] == 0
    assert [u.txt for u in read_manifest(tmp_path / "o.jsonl")[0]] == [
        '<0.10>He<0.30><0.30>said:<0.50><0.60>"Now!"<1.00>',
        "<0.00>今天<0.40><0.40>OK<1.10>",
    ]
    status, _, err = data(*command, "--tier", "syllables")
    assert status == 1 and "no tier 'syllables'; it has 'Words', 'phones'; choose one with --tier" in err


@pytest.mark.parametrize(
    ("ctm", "says"),
    [
        ("u0 1 0.1 he", "a.ctm:2: u0 1 0.1 he: expected `recording channel start duration word`"),
        ("u0 1 0.1 nan he", "a.ctm:2: u0 1 0.1 nan he: expected"),
        ("u0 1 -1 0.1 he", "a.ctm:2: u0 1 -1 0.1 he: expected"),
        ("u0 1 0.1 0.1 he\nu0 2 0.1 0.1 he", "a.ctm:2: two channels of one recording; keep one"),
        ("u0 1 0.1 0.1 he\nx 1 0 1 y\nu0 1 0.3 0.1 x", "a.ctm:4: 'u0' is there a second time"),
        (
            "u0 1 0.1 0.1 she",
            "set.jsonl:1: the aligner has 'she' where the transcript has 'He said: \"Now!\"'",
        ),
        ("u0 1 0.1 0.1 he\nu0 1 0.3 0.1 said", "the aligner has no words for '\"Now!\"' of the transcript"),
        ("u0 1 0 0.1 he\nu0 1 0.3 0.1 said\nu0 1 2 3 now", "ends at 5.0 s, the recording at 1.00 s"),
        ("x 1 0.1 0.1 he", "nothing to write"),
        ("", "a.ctm: no word in it"),
    ],
)
def test_wrong_times_are_one_line_and_write_nothing(tmp_path, write_set, data, ctm, says):
    path = write_set("set.jsonl", LINES[:1])
    (tmp_path / "a.ctm").write_text(f";;\n{ctm}\n" if ctm else ";;\n", "utf-8")
    status, _, err = data("words", path, "--times", tmp_path / "a.ctm", "--output", tmp_path / "o.jsonl")
    assert status == 1 and says in err and err.count("\n") == 1
    assert not (tmp_path / "o.jsonl").exists()


HEAD = 'File type = "ooTextFile"\nObject class = "TextGrid"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hello", ":1: ends where a text is expected"),
        ('"ooTextFile" "Pitch"', ": no TextGrid in Praat's text form"),
        (HEAD + "0 1 <exists> 1 4", ":3: 4: expected the class of a tier"),
        (HEAD + '0 1 <exists> 1 "Tier" "x" 0 1', ":3: a tier of class 'Tier'"),
        (HEAD + '0 1 <exists> 1\n"IntervalTier" "x" 0 1\n1e9', ":5: 1e+09: expected a count of at most"),
        (HEAD + '0 1 <exists> 1\n"IntervalTier" "x" 0 1 2 0 1 "a"', ":4: ends where seconds is expected"),
        (HEAD + '0 1 <exists> 2 "TextTier" "x" 0 1 0 "TextTier" "y" 0 1 1 0.5', ":3: ends where a text"),
    ],
)
def test_what_is_no_textgrid_is_named_with_its_line(tmp_path, text, says):
    (tmp_path / "g.TextGrid").write_text(text)
    with pytest.raises(UserError) as error:
        read_tiers(tmp_path / "g.TextGrid")
    assert str(error.value).startswith(f"{tmp_path}/g.TextGrid{says}")


def test_words_are_spelled_as_the_transcript_has_them():
    def spelled(text, *words):
        return [word for word, *_ in spell(text, [(word, 0, 1) for word in words])]

    assert spelled("“Ice-cream, (now) ...", "ice", "cream", "now") == ["“Ice-", "cream,", "(now) ..."]
    assert spelled("caf\u00e9 is Straße", "cafe\u0301", "IS", "STRASSE") == ["café", "is", "Straße"]
    assert spelled("it's 5", "it's", ",", "5") == ["it's", "5"]
    with pytest.raises(UserError, match="would read as times"):
        spelled("a <b>", "a", "b")


def test_the_lines_of_a_ctm_are_read_where_they_are_asked_for(tmp_path):
    rng = random.Random(1)
    wanted = {f"r{n}": [(f"w{rng.random():.3f}", n, n + 0.5)] * rng.randint(1, 4) for n in range(500)}
    lines = [f"{name} 1 {s} {e - s} {w}" for name, words in wanted.items() for w, s, e in words]
    (tmp_path / "a.ctm").write_text("\r\n".join(lines), "utf-8")
    times = WordTimes([tmp_path / "a.ctm"])
    names = rng.sample([*wanted], 100)
    assert [times[name] for name in names] == [wanted[name] for name in names] and len(times) == 500


def test_words_found_before_are_not_looked_for_again(tmp_path):
    first = Utterance("a", "/a.wav", "one two", "<TRANSCRIBE>", where="m:1")
    second = replace(first, key="b", where="m:2")
    journal, asked = Journal(tmp_path / "j", {}), []

    def find(group):
        asked.append([utt.key for utt in group])
        return [(utt, [("one", 0.0, 0.5)]) for utt in group]

    assert len([*kept([first], journal, 2, find)]) == 1
    again = [*kept([first, second], journal, 2, find)]
    assert asked == [["a"], ["b"]] and again[0] == (first, [("one", 0.0, 0.5)])
    with pytest.raises(UserError, match="^m:1: its line has changed since"):
        list(kept([replace(first, txt="one three")], journal, 2, find))
