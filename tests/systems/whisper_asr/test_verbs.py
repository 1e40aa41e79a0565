"""A Whisper in the verbs: what it does there, and one line for what it cannot."""

import json

import pytest

from mindspore_osum.cli import main
from mindspore_osum.commands.demo import _tasks
from mindspore_osum.folder import BUNDLED
from mindspore_osum.tasks import TASKS

RECORDINGS = sorted((BUNDLED.parent / "recordings").glob("*.wav"))[:2]


def said(capfd, *words) -> tuple[int, str, list[str]]:
    """Exit status, output, and lines of errors but those about progress."""
    status = main([*map(str, words)])
    out, err = capfd.readouterr()
    return status, out, [line for line in err.splitlines() if "loading" not in line and "go" not in line[-3:]]


def test_a_page_offers_what_it_can_be_asked(small):
    assert _tasks(str(small)) == ["asr", "srwt"] and _tasks("tiny") == [*TASKS]


def test_annotations_are_transcripts(small, capfd):
    status, out, _ = said(capfd, "annotate", RECORDINGS[0], "--model", small, "--tasks", "asr")
    assert status == 0 and json.loads(out)["language"]


def test_an_evaluation_scores_its_transcripts(small, tmp_path, capfd):
    lines = [
        {"key": path.stem, "wav": str(path), "txt": "go on", "task": "<TRANSCRIBE>"} for path in RECORDINGS
    ]
    manifest = tmp_path / "test.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    words = ["--output", tmp_path / "out", "--no-plots", "--max-new-tokens", 12]
    status, out, _ = said(capfd, "eval", "--manifest", manifest, "--model", small, *words)
    assert status == 0 and "WER/CER" in out
    predictions = (tmp_path / "out/predictions.jsonl").read_text("utf-8").splitlines()
    assert len(predictions) == 2 and all(json.loads(line)["raw"] for line in predictions)


def test_a_stream_has_interim_and_final_answers(small, capfd):
    status, out, _ = said(
        capfd,
        "transcribe",
        "--stream",
        RECORDINGS[0],
        "--idle",
        "0.1",
        "--model",
        small,
        "--max-seconds",
        "4",
    )
    found = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and found[-1]["final"] and found[-1]["raw"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["annotate", RECORDINGS[0]], "<TRANSCRIBE> "),
        (["infer", RECORDINGS[0], "--task", "sap"], "<TRANSCRIBE> <AGE>: a Whisper writes what is said"),
        (["infer", RECORDINGS[0], "--instruction", "Who speaks?"], "a request in words: a Whisper"),
        (["transcribe", RECORDINGS[0], "--language", "germna"], "language 'germna' is unknown; did you mean"),
    ],
)
def test_what_it_cannot_do_is_one_line(small, capfd, words, message):
    """Once, whatever the number of recordings, and before any is read."""
    status, out, lines = said(capfd, *words, "--model", small)
    assert status == 1 and not out
    (line,) = lines
    assert message in line
