"""A run that takes an index made by the command: resumed from a run without one, its losses are equal."""

import json
import shutil

import pytest
import yaml

from mindspore_osum.cli import main
from mindspore_osum.config import merge
from mindspore_osum.data.index.reading import Index
from mindspore_osum.errors import UserError
from mindspore_osum.training.config import job_from
from mindspore_osum.training.run import check_fingerprint, encoding, run_job
from tests.training.tones import small_job, stored_job


def losses(out) -> dict[int, float]:
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def index_of(job: dict, folder, *more: str):
    """The job's index, by the command; the folder."""
    path = folder.parent / "job.yaml"
    path.write_text(yaml.safe_dump(job), "utf-8")
    manifest = job["data"]["train"][0]["path"]
    assert main(["data", "index", manifest, "--output", str(folder), "--config", str(path), *more]) == 0
    return folder


def test_a_run_goes_on_with_an_index_as_without(stored_run, tmp_path, capsys):
    straight, out = stored_run / "run", tmp_path / "out"
    shutil.copytree(straight / "checkpoints/step_000080", out / "checkpoints/step_000080")
    job = stored_job(stored_run / "world", out)
    index = index_of(job, tmp_path / "index", "--processes", "1")
    assert f"{index}: 8 utterances, 0.00 h, of 8 rows in 1 sources" in capsys.readouterr().out
    job["data"]["train"][0]["path"] = str(index)
    assert run_job(job_from(job | {"steps": 84}, "job")) == 0
    found = losses(out)
    assert list(found) == [81, 82, 83, 84]
    assert found == {step: losses(straight)[step] for step in found}


def test_an_index_of_another_job_is_refused(stored_run, tmp_path, capsys):
    job = small_job(stored_run / "world", tmp_path / "out")
    index = index_of(job, tmp_path / "index", "--processes", "1", "--set", "data.requests=both")
    assert "--set data.requests=both" in Index(index).command
    job = merge(job, {"data": {"train": [{"name": "words", "path": str(index)}]}})
    with pytest.raises(
        UserError, match=r'was made for data.requests "both", the job has "tag"; build it anew'
    ):
        run_job(job_from(job, "job"))
    with pytest.raises(
        UserError, match=r"data.encoded: reads every recording before training, which the index"
    ):
        encoded = {"data": {"encoded": str(tmp_path)}, "learn": ["adapter"]}
        encoding(job_from(merge(job, encoded), "job"), None)


def test_a_checkpoint_of_an_earlier_version_cannot_be_compared(tmp_path, monkeypatch):
    before = {"fingerprint": {"data_digest": "1", "seed": 3}}
    monkeypatch.setattr("mindspore_osum.training.run.checkpoint.read_about", lambda path: before)
    check_fingerprint(tmp_path, {"data_digest": "1", "data_lines": "2", "seed": 3})
    with pytest.raises(UserError, match="an earlier version wrote it, whose digest of the data"):
        check_fingerprint(tmp_path, {"data_lines": "2", "seed": 3})
    before["fingerprint"]["data_lines"] = "1"
    with pytest.raises(UserError, match="data_lines was 1, is 2"):
        check_fingerprint(tmp_path, {"data_lines": "2", "seed": 3})


def test_wrong_command_lines(stored_run, tmp_path, capsys):
    words = str(stored_run / "world/words.jsonl")
    job = tmp_path / "job.yaml"
    job.write_text(yaml.safe_dump(small_job(stored_run / "world", tmp_path / "out")), "utf-8")
    for more, message in (
        (
            ["--output", str(tmp_path / "index"), "--config", str(job), "--processes", "0"],
            "must be 1 or more",
        ),
        (["--output", str(tmp_path), "--config", str(job)], "is there already and no index"),
        (["--output", str(tmp_path / "index"), "--config", str(tmp_path / "no.yaml")], "no.yaml"),
    ):
        assert main(["data", "index", words, *more]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (tmp_path / "index").exists()
