"""`osum data import` on miniature copies of the corpora's layouts (layouts.py)."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mindspore_osum import cli
from mindspore_osum.data.formats.importers.corpus import Problem, table_rows
from mindspore_osum.data.formats.importers.importing import CORPORA
from mindspore_osum.data.formats.importers.labels import FIELDS, SPELLINGS, published_label
from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.errors import UserError
from mindspore_osum.tasks import TASKS
from tests.data.formats.layouts import (
    AISHELL1,
    ESC50,
    ESD,
    KESPEECH,
    LAYOUTS,
    LIBRISPEECH,
    MER2023,
    OWN,
    QUESTIONS,
    SOUND,
    SPEECHIO,
    lay_out,
    left_out,
    lines,
)


@pytest.mark.parametrize(("name", "files", "expected"), LAYOUTS, ids=[row[0] for row in LAYOUTS])
def test_layout(name, files, expected, osum, tmp_path):
    status, printed, error = osum(name, files)
    assert (status, error) == (0, "")
    out = tmp_path / "out"
    for stem, (wanted, problems) in expected.items():
        assert lines(out, stem) == wanted
        assert left_out(out, stem) == problems
        assert f"{stem}: {len(wanted)} utterances" in printed
        for kind, number in problems.items():
            assert f"{number} left out, {kind}" in printed


def test_every_corpus_has_a_layout_here():
    tested = {name.lower().replace("-", "").replace("_", "").replace(" ", "") for name, *_ in LAYOUTS}
    assert {name.replace("-", "") for name in CORPORA} - {"wenetspeech", "kaldi"} == tested


def test_own_labels(osum, tmp_path):
    """Only the columns that are asked for must be there."""
    status, _, _ = osum("own", OWN, "--split", "train", "--task", "ssr")
    out = tmp_path / "out"
    assert status == 0 and lines(out, "own-train-ssr") == {"1": "好<客服>"}
    assert left_out(out, "own-train-ssr") == {"no transcript": 1, "style 'loud' is outside the label set": 1}
    status, _, error = osum("own", OWN, "--task", "sap")
    assert status == 1 and "train.tsv:1: no column age; found audio, text, style" in error


def test_line_of_a_manifest(osum, tmp_path):
    osum("kespeech", KESPEECH, "--task", "<TRANSCRIBE> <AGE> <GENDER>", "--split", "test")
    path = tmp_path / "out" / "kespeech-test-asr+age+gender.jsonl"
    first = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert first == {
        "key": "1000001_a",
        "wav": "../corpus/Audio/1000001/phase1/1000001_a.wav",
        "txt": "你好<CHILD><FEMALE>",
        "task": "<TRANSCRIBE> <AGE> <GENDER>",
        "extra": {
            "dataset": "kespeech",
            "split": "test",
            "age": "CHILD",
            "gender": "FEMALE",
            "speaker": "1000001",
        },
    }


def test_answers_have_their_aliases_and_the_question(osum, tmp_path):
    osum("triviaqa", QUESTIONS)
    osum("web-questions", QUESTIONS)
    (trivia,), _ = read_manifest(tmp_path / "out" / "triviaqa-test-sttc.jsonl")
    (web,), _ = read_manifest(tmp_path / "out" / "web-questions-test-sttc.jsonl")
    assert trivia.task == TASKS["sttc"].key
    assert trivia.extra == {
        "dataset": "triviaqa",
        "split": "test",
        "transcript": "Who wrote Hamlet?",
        "answers": ["shakespeare", "william shakespeare", "bard"],
    }
    assert web.extra["answers"] == ["Jamaican English", "Patois"]


def test_same_import_from_another_working_folder_gives_the_same_file(osum, tmp_path, monkeypatch):
    osum("esd", ESD)
    path = tmp_path / "out" / "esd-all-ser.jsonl"
    before = path.read_bytes()
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", "import", "esd", "corpus", "out"]) == 0
    assert path.read_bytes() == before


def test_problem_says_where(osum, tmp_path):
    osum("librispeech", LIBRISPEECH)
    folder = tmp_path / "corpus" / "LibriSpeech" / "test-clean"
    text = (tmp_path / "out" / "librispeech-test-clean-asr.problems.txt").read_text(encoding="utf-8")
    assert f"no transcript: {folder}/61/70968/61-70968.trans.txt:2\n" in text
    assert f"no recording: {folder}/61/70968/61-70968.trans.txt:3: 61-70968-0002\n" in text
    assert f"no transcript: {folder}/121/121726/121-121726-0009.flac: not in " in text


def test_task_limit_and_split(osum, tmp_path):
    status, printed, _ = osum(
        "librispeech", LIBRISPEECH, "--split", "test-clean", "--task", "sgc", "--limit", "1"
    )
    assert status == 0
    assert lines(tmp_path / "out", "librispeech-test-clean-sgc") == {
        "121-121726-0000": "also a popular contrivance<FEMALE>"
    }
    assert [p.name for p in (tmp_path / "out").glob("*.jsonl")] == ["librispeech-test-clean-sgc.jsonl"]
    assert "FEMALE 1" in printed


def test_a_file_that_the_task_does_not_need_may_be_missing(osum, tmp_path):
    files = {name: content for name, content in AISHELL1.items() if "speaker.info" not in name}
    status, _, error = osum("aishell1", files)
    assert status == 1
    assert "corpus/resource_aishell/speaker.info: missing" in error and error.count("\n") == 1
    assert not list((tmp_path / "out").iterdir())
    assert osum("aishell1", files, "--task", "asr")[0] == 0


@pytest.mark.parametrize(
    ("name", "gone", "options", "message"),
    [
        (
            "librispeech",
            "LibriSpeech/test-clean/61/70968/61-70968.trans.txt",
            ["--split", "dev-clean"],
            "librispeech dev-clean: missing, looked for",
        ),
        (
            "aishell1",
            "data_aishell/transcript/aishell_transcript_v0.8.txt",
            [],
            "data_aishell/transcript/aishell_transcript_v0.8.txt: missing",
        ),
        ("aishell2", "iOS/data/wav.scp", [], "iOS/data/wav.scp: missing"),
        ("kespeech", "Tasks/ASR/test/text", [], "Tasks/ASR/test/text: missing"),
        ("esd", "0001/0001.txt", ["--split", "nothing"], "--split nothing: esd has no such split"),
        (
            "speechio",
            "SPEECHIO_ASR_ZH00001/metadata.tsv",
            [],
            "speechio SPEECHIO_ASR_ZH00000: missing, looked for",
        ),
        ("meld", "test_sent_emo.csv", [], "meld train: missing, looked for"),
        ("mer2023", "transcription-engchi-polish.csv", [], "transcription-engchi-polish.csv: missing"),
        (
            "vocalsound",
            "audio_16k/f0003_0_cough.wav",
            ["--task", "asr"],
            "task 'asr': vocalsound has no text",
        ),
        (
            "triviaqa",
            "nothing",
            ["--task", "ser"],
            "task 'ser': triviaqa has no emotion; it offers text, answers",
        ),
        ("esc50", "nothing", ["--task", "<INTENT_CLASSIFICATION>"], "esc50 has no text-only examples"),
        ("esc50", "nothing", ["--cut"], "--cut: esc50 has no segments"),
        ("librispech", "nothing", [], "corpus 'librispech': not known; did you mean 'librispeech'?"),
        ("nemoo", "nothing", [], "corpus 'nemoo': not known; did you mean 'nemo'?"),
        ("foo", "nothing", [], "iemocap, kaldi, kespeech, lhotse, librispeech, llama-factory"),
    ],
)
def test_what_is_missing_or_wrong_is_named(name, gone, options, message, osum, tmp_path):
    layouts = {key.lower().replace("-", ""): files for key, files, _ in LAYOUTS}
    files = {path: content for path, content in layouts.get(name, ESD).items() if path != gone}
    status, printed, error = osum(name, files, *options)
    assert (status, printed) == (1, "")
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_without_transcripts_mer2023_serves_the_label_alone(osum, tmp_path):
    files = {name: content for name, content in MER2023.items() if "transcription" not in name}
    assert osum("mer2023", files, "--task", "<EMOTION>")[0] == 0
    assert lines(tmp_path / "out", "mer2023-test1-emotion") == {"sample_1": "<HAPPY>", "sample_4": "<SAD>"}


def test_a_header_that_cannot_be_read_is_one_line(osum):
    status, _, error = osum("esc50", {"meta/esc50.csv": '"filename"x,category\n'})
    assert status == 1 and error.count("\n") == 1
    assert "meta/esc50.csv:1: no header that can be read" in error and "needs category, filename" in error


def test_paths_that_are_not_utf8_are_left_out(osum, tmp_path):
    table = b"ID\tAUDIO\tTEXT\nY1\twav/Y1.wav\tone\nY2\twav/\xff/Y2.wav\ttwo\n"
    files = {"metadata.tsv": table, "wav/Y1.wav": SOUND, "wav/\udcff/Y2.wav": b"RIFF"}
    files = {f"SPEECHIO_ASR_ZH00001/{name}": content for name, content in files.items()}
    assert osum("speechio", files)[0] == 0
    stem = "speechio-SPEECHIO_ASR_ZH00001-asr"
    assert lines(tmp_path / "out", stem) == {"Y1": "one"}
    assert left_out(tmp_path / "out", stem) == {"path that is not UTF-8": 1}


def test_missing_column_is_named(osum):
    files = {"meta/esc50.csv": "filename,fold,label\na.wav,1,dog\n", "audio/a.wav": SOUND}
    status, _, error = osum("esc50", files)
    assert status == 1 and "meta/esc50.csv:1: no column category; found filename, fold, label" in error


def test_nothing_usable_is_refused_and_an_older_import_stays(osum, tmp_path):
    osum("esc50", ESC50)
    before = lines(tmp_path / "out", "esc50-all-ved")
    for name in ESC50:
        if name.endswith(".wav"):
            (tmp_path / "corpus" / name).unlink()
    status, _, error = osum("esc50", {})
    assert status == 1
    assert "esc50-all-ved: nothing to import: 4 no recording (first: " in error
    assert left_out(tmp_path / "out", "esc50-all-ved") == {"event 'spaceship' is outside the label set": 1}
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".import")]
    lay_out(tmp_path / "corpus", ESC50)
    assert lines(tmp_path / "out", "esc50-all-ved") == before


def test_a_task_that_was_asked_for_must_give_something(osum, tmp_path):
    files = {**KESPEECH, "Metadata/spk2age": "1000001 unknown\n"}
    status, printed, _ = osum("kespeech", files)
    assert status == 0 and "kespeech-test-sap: 0 utterances, no manifest" in printed
    status, _, error = osum("kespeech", files, "--task", "sgc", "--task", "sap")
    assert status == 1 and "kespeech-test-sap: nothing to import: 3 no age (first: " in error


def test_a_mended_corpus_leaves_no_old_list_of_problems(osum, tmp_path):
    osum("speechio", SPEECHIO)
    mended = {"SPEECHIO_ASR_ZH00001/metadata.tsv": "ID\tAUDIO\tTEXT\nY1\twav/Y1.wav\t好\n"}
    osum("speechio", mended)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["speechio-SPEECHIO_ASR_ZH00001-asr.jsonl"]


def test_doubled_keys_and_foreign_bytes_are_left_out(osum, tmp_path):
    files = dict(SPEECHIO)
    files["SPEECHIO_ASR_ZH00001/metadata.tsv"] = (
        "ID\tAUDIO\tTEXT\nY1\twav/Y1.wav\t一\nY1\twav/Y2.wav\t二\n".encode()
        + b"Y2\twav/Y2.wav\t"
        + "三".encode("gb18030")
        + b"\n"
    )
    assert osum("speechio", files)[0] == 0
    assert lines(tmp_path / "out", "speechio-SPEECHIO_ASR_ZH00001-asr") == {"Y1": "一"}
    assert left_out(tmp_path / "out", "speechio-SPEECHIO_ASR_ZH00001-asr") == {
        "key there twice": 1,
        "malformed": 1,
    }


def test_unclosed_quote_is_one_problem(tmp_path):
    lay_out(tmp_path, {"t.csv": 'a,b\n1,2\n3,"4\n5,6\n'})
    rows = list(table_rows(tmp_path / "t.csv", {"a"}))
    assert rows == [
        (f"{tmp_path}/t.csv:2", {"a": "1", "b": "2"}),
        Problem("malformed", f"{tmp_path}/t.csv:4: unexpected end of data"),
    ]
    lay_out(tmp_path, {"t.csv": "a,b\n1\n2,3\n\n4,5,6\n" + '"' + "x" * 200_000 + '"\n7,8\n'})
    rows = list(table_rows(tmp_path / "t.csv", {"a"}))
    assert [r.kind for r in rows if isinstance(r, Problem)] == ["malformed"] * 3
    assert [r[1]["a"] for r in rows if not isinstance(r, Problem)] == ["2", "7"]


def test_every_spelling_stands_for_a_published_value():
    for field, table in SPELLINGS.items():
        for spelling in table:
            assert published_label(field, spelling) in FIELDS[field].values
            assert published_label(field, spelling.upper()) == published_label(field, spelling)


@pytest.mark.parametrize(
    ("spelling", "value"),
    [
        ("0", "CHILD"),
        ("12", "CHILD"),
        ("13", "ADULT"),
        ("59", "ADULT"),
        ("60", "OLD"),
        ("101", "OLD"),
        ("-3", None),
        ("young", None),
    ],
)
def test_age_in_years(spelling, value):
    assert published_label("age", spelling) == value


def test_list_names_every_corpus(capsys):
    assert cli.main(["data", "import", "--list"]) == 0
    printed = capsys.readouterr().out
    for corpus in CORPORA.values():
        assert f"\n{corpus.name}: {', '.join(corpus.tasks)}" in printed
        assert corpus.needs in printed and corpus.source in printed


def test_documentation_names_every_corpus():
    text = (Path(__file__).resolve().parents[3] / "docs" / "DATASETS.md").read_text(encoding="utf-8")
    for corpus in CORPORA.values():
        assert f"| `{corpus.name}` | {', '.join(corpus.tasks)} |" in text


@pytest.mark.parametrize(
    "argv",
    [
        ["data"],
        ["data", "export"],
        ["data", "import", "esd"],
        ["data", "import", "esd", "a", "b", "--limit", "0"],
    ],
)
def test_wrong_command_lines_end_with_2(argv, capsys):
    assert cli.main(argv) == 2
    assert "osum data" in capsys.readouterr().err


def test_import_loads_nothing_heavy(tmp_path):
    root = lay_out(tmp_path / "corpus", ESC50)
    code = (
        "import sys; from mindspore_osum.cli import main; status = main(sys.argv[1:]);"
        "print('MODULES', *{name.partition('.')[0] for name in sys.modules}); sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "data", "import", "esc50", root, tmp_path / "out"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    modules = set(done.stdout.rpartition("MODULES")[2].split())
    assert not modules & {"numpy", "soundfile", "librosa", "mindspore"}


def test_out_that_is_a_file_is_refused(osum, tmp_path):
    (tmp_path / "out").write_text("x")
    status, _, error = osum("esc50", ESC50)
    assert status == 1 and error.startswith(f"osum: {tmp_path / 'out'}: ") and error.count("\n") == 1


def test_tasks_of_the_rows_are_served_by_what_they_offer():
    for corpus in CORPORA.values():
        for task in corpus.tasks:
            corpus.wanted(task)
        with pytest.raises(UserError, match="has no words"):
            corpus.wanted("srwt")
