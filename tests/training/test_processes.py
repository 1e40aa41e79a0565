"""One run in a folder, the rank of each process, and what they write."""

import fcntl
import json
from types import SimpleNamespace

import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.folder import CONFIG
from mindspore_osum.training import lock, model_files, report
from mindspore_osum.training.config import MODEL, TrainConfig, job_from
from mindspore_osum.training.lock import locked
from mindspore_osum.training.model_files import write_model, written_at
from mindspore_osum.training.run import check_devices, process, run_job
from tests.training.tones import make_world, small_job


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("world"), ["abc", "de"])


def job(world, out, **over) -> TrainConfig:
    return job_from(small_job(world, out, **over), "job")


def test_a_lock_is_held_until_it_is_closed(tmp_path):
    folder = tmp_path / "a" / "run"
    with locked(folder):
        with pytest.raises(UserError, match="run: another run is at work there; wait, or take another"):
            locked(folder)
    locked(folder).close()


def test_where_there_are_no_locks_a_run_goes_on(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    assert lock.fcntl is fcntl
    locked(tmp_path).close()


def test_a_second_run_in_the_folder_of_another_is_refused(world, tmp_path, monkeypatch):
    monkeypatch.setattr("mindspore_osum.training.run.corpora", lambda *_: pytest.fail("it scans the data"))
    with locked(tmp_path / "run"), pytest.raises(UserError, match="run: another run is at work there"):
        run_job(job(world, tmp_path / "run"))


def test_a_folder_that_cannot_be_written_is_one_line_before_the_scan(world, tmp_path, monkeypatch):
    monkeypatch.setattr("mindspore_osum.training.run.corpora", lambda *_: pytest.fail("it scans the data"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/run: cannot be written .Not a directory.; fix that") as caught:
        run_job(job(world, tmp_path / "file" / "run"))
    assert "\n" not in str(caught.value)


def test_metrics_on_a_full_disk_are_one_line(tmp_path):
    pytest.importorskip("mindspore")  # before tensorboardX: it chooses the protobuf that both can use
    metrics = report.Metrics(tmp_path, 0)
    metrics.write({"step": 1, "loss": 2.5})
    assert json.loads(metrics.path.read_text()) == {"step": 1, "loss": 2.5}
    metrics.path = type(metrics.path)("/dev/full")
    with pytest.raises(UserError, match="/dev/full: cannot be written .No space left on device.; fix that"):
        metrics.write({"step": 2, "loss": 2.5})
    metrics.events.close()


def test_the_scheduler_is_not_the_first_process(monkeypatch):
    monkeypatch.delenv("MS_ROLE", raising=False)
    assert process() == (0, 1)
    for name, value in (("MS_ROLE", "MS_WORKER"), ("RANK_ID", "0"), ("MS_WORKER_NUM", "2")):
        monkeypatch.setenv(name, value)
    assert process() == (0, 2)
    monkeypatch.setenv("MS_ROLE", "MS_SCHED")
    assert process() == (2, 2)


def test_the_scheduler_waits_for_a_model_and_not_for_ever(tmp_path, monkeypatch):
    (tmp_path / MODEL).mkdir()
    (tmp_path / MODEL / CONFIG).touch()
    assert written_at(tmp_path) > 0
    run = SimpleNamespace(folder=tmp_path, written=0, rank=2, ranks=2)  # the scheduler of two
    write_model(run, lambda: pytest.fail("it makes a model"))
    monkeypatch.setattr(model_files, "SCHEDULER_WAITS", 0.2)
    run.written = written_at(tmp_path)
    with pytest.raises(UserError, match="model: the first process did not write it"):
        write_model(run, lambda: pytest.fail("it makes a model"))


def test_a_sharded_model_needs_all_processes_and_more_than_one(world, tmp_path):
    def cut(**parts):
        return job(world, tmp_path, parallel={"parallel_mode": 1}, parallel_config=parts)

    assert check_devices(cut(data_parallel=2), 2) == 2 and check_devices(job(world, tmp_path), 1) == 1
    with pytest.raises(UserError, match="model_parallel 2 .* = 2 devices, but 1 processes run"):
        check_devices(cut(model_parallel=2), 1)
    with pytest.raises(UserError, match="mode: 1 shards .* start more with scripts/msrun_launcher.sh"):
        check_devices(cut(), 1)
