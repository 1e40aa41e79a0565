"""The file of answers: appended, taken up, refused."""

import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.evaluation.predictions import (
    FILE,
    SETTINGS,
    Prediction,
    append_predictions,
    open_run,
    read_predictions,
)
from mindspore_osum.results import Answer, Response

ONE = Prediction("a", "fixed", "<asr>你好", "<TRANSCRIBE>", "<asr>", 1.5, 0.2)
TWO = Prediction("a", "natural", "<asr>hi", "<TRANSCRIBE>", "say it", 1.5, 0.2, cut=True)


def test_answers_come_back(tmp_path):
    assert open_run(tmp_path / "new" / "run", {"model": 1}) == []
    append_predictions(tmp_path / "new" / "run", [ONE])
    append_predictions(tmp_path / "new" / "run", [TWO])
    assert open_run(tmp_path / "new" / "run", {"model": 1}) == [ONE, TWO]


@pytest.mark.parametrize("lost", [1, 5, 60])
def test_a_torn_line_is_cut_off_and_the_file_goes_on(tmp_path, lost):
    open_run(tmp_path, {})
    append_predictions(tmp_path, [ONE, TWO])
    data = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(data[:-lost])
    assert open_run(tmp_path, {}) == [ONE]
    append_predictions(tmp_path, [TWO])
    assert (tmp_path / FILE).read_bytes() == data


def test_other_settings_are_refused(tmp_path):
    open_run(tmp_path, {"model": 1, "recordings": "x"})
    with pytest.raises(UserError, match="another model"):
        open_run(tmp_path, {"model": 2, "recordings": "x"})
    with pytest.raises(UserError, match="another recordings"):
        open_run(tmp_path, {"model": 1, "recordings": "y"})


def test_answers_of_unknown_origin_are_refused(tmp_path):
    append_predictions(tmp_path, [ONE])
    with pytest.raises(UserError, match="--predictions"):
        open_run(tmp_path, {})


def test_damage_is_named(tmp_path):
    (tmp_path / SETTINGS).write_text("{")
    with pytest.raises(UserError, match="settings.json: not a JSON object .*; delete the folder or choose"):
        open_run(tmp_path, {})
    for line in ("{", "[]", '{"key": "a"}', '{"key": 1, "raw": "x"}', "\xff"):
        (tmp_path / "p.jsonl").write_bytes(b'{"key": "a", "raw": "x"}\n' + line.encode("latin-1") + b"\n")
        with pytest.raises(UserError, match="p.jsonl:2"):
            read_predictions(tmp_path / "p.jsonl")
    with pytest.raises(UserError, match="cannot read"):
        read_predictions(tmp_path / "none.jsonl")


def test_foreign_files_need_key_and_raw_only(write_lines):
    path = write_lines("p.jsonl", [{"key": "a", "raw": "x", "score": 3, "seconds": None}])
    assert read_predictions(path) == [Prediction("a", "fixed", "x")]


def test_lines_of_older_and_newer_versions(write_lines):
    """Answers that say more, as `osum infer` writes them, and files from before `cut` and the times."""
    newer = Answer(
        0.0, 1.5, raw="<asr>hi", no_speech=True, warnings=["doubtful"], probabilities={"age": {"OLD": 1.0}}
    )
    lines = [{"key": "a"} | Response("a.wav", 1.5, [newer]).to_dict(), {"key": "b", "raw": "", "seconds": 2}]
    assert read_predictions(write_lines("p.jsonl", lines)) == [
        Prediction("a", "fixed", "<asr>hi", seconds=1.5),
        Prediction("b", "fixed", "", seconds=2),
    ]
    for name, value in (("seconds", "2 s"), ("compute_seconds", [1]), ("prompts", ["fixed"])):
        with pytest.raises(UserError, match=f"p.jsonl:1: {name} .*: expected"):
            read_predictions(write_lines("p.jsonl", [{"key": "a", "raw": "x", name: value}]))


def test_what_failed_is_no_prediction(write_lines):
    """As `osum infer` writes it."""
    lines = [{"key": "a", "audio": "a.wav", "error": "a.wav: not found"}, {"key": "b", "raw": "x"}]
    assert [p.key for p in read_predictions(write_lines("p.jsonl", lines))] == ["b"]


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        open_run(tmp_path / "file" / "x", {})
