"""A run that MindFormers' own script starts from its YAML, and MindFormers' keys in a job."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from mindspore_osum.cli import main
from mindspore_osum.errors import UserError
from mindspore_osum.training import mindformers_keys, mindformers_plugin
from mindspore_osum.training.config import job_from, to_dict
from mindspore_osum.training.mindformers_job import mindformers_config
from mindspore_osum.weights_io import open_weights
from tests.training.tones import make_world, random_words, small_job

PLUGIN = Path(mindformers_plugin.__file__).parent
SCRIPT = Path(__file__).with_name("run_mindformer.py")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return make_world(tmp_path_factory.mktemp("world"), random_words(9))


def config_of(job: dict) -> dict:
    """The config that MindFormers gets, without a run."""
    cfg = job_from(job, "job")
    from mindspore_osum.systems.registry import preset

    return mindformers_config(cfg, preset("tiny"), "", 300, 6, 1, True)


@pytest.mark.parametrize("key", [key for key in mindformers_keys.REFUSED if "." not in key])
def test_a_setting_that_has_another_name_here_is_refused_with_it(world, tmp_path, key):
    with pytest.raises(UserError) as caught:
        job_from({**small_job(world, tmp_path), key: {"a": 1}}, "job.yaml")
    said = str(caught.value)
    assert said.startswith(f"job.yaml: {key} is a setting of MindFormers") and "\n" not in said
    assert mindformers_keys.REFUSED[key] in said


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"optimizer": {"type": "AdamW"}}, "optimizer.type .* AdamW; leave it out"),
        ({"optimizer": {"learning_rate": 1e-4}}, "optimizer.learning_rate .* optimizer.lr"),
        ({"model": {"arch": {"type": "X"}}}, "model.arch .* model.start"),
        ({"model": {"model_config": {}}}, "model.model_config .* model.overrides"),
        ({"callbacks": [{"type": "CheckpointMonitor"}]}, r"callbacks\[0\]: CheckpointMonitor .* save_every"),
        ({"callbacks": [{"type": "EvalCallBack"}]}, "EvalCallBack .* data.valid"),
        ({"callbacks": [{"per_print_times": 1}]}, r"callbacks\[0\]: needs a type"),
        ({"callbacks": ["TimeMonitor"]}, r"callbacks\[0\]: expected a mapping"),
        ({"monitor_config": {"monitor_of": True}}, "monitor_config: unknown key 'monitor_of'; .*monitor_on"),
        ({"profiling": {"profile_start": 1}}, "profiling: unknown key 'profile_start'"),
        ({"profile_start": 1}, "job: unknown key 'profile_start'"),
    ],
)
def test_what_works_against_the_run_is_refused(world, tmp_path, over, said):
    with pytest.raises(UserError, match=said):
        job_from(small_job(world, tmp_path, **over), "job")


def test_callbacks_profiling_and_monitors_reach_mindformers(world, tmp_path):
    given = {
        "callbacks": [{"type": "TimeMonitor", "data_size": 1}],
        "monitor_config": {"monitor_on": True, "step_interval": 5, "local_norm_format": ["log"]},
        "profile": True,
        "profile_start_step": 3,
        "profile_stop_step": 4,
    }
    job = small_job(world, tmp_path, **given)
    config = config_of(job)
    assert [callback["type"] for callback in config["callbacks"]] == [
        "MFLossMonitor",
        "TimeMonitor",
        "OsumRun",
    ]
    assert all(config[key] == given[key] for key in given if key != "callbacks")
    assert job_from(to_dict(job_from(job, "job")), "again") == job_from(job, "job")
    mine = [{"type": "MFLossMonitor", "per_print_times": 7}]
    assert config_of(small_job(world, tmp_path, callbacks=mine))["callbacks"][:-1] == mine


def test_sums_and_convolutions_are_in_float32_on_ascend(world, tmp_path):
    on_ascend = config_of(small_job(world, tmp_path, device="Ascend"))
    assert on_ascend["context"]["ascend_config"] == {"conv_allow_hf32": False}
    assert on_ascend["parallel"]["gradient_fp32_sync"] is True
    own = {"ascend_config": {"conv_allow_hf32": True, "precision_mode": "must_keep_origin_dtype"}}
    config = config_of(small_job(world, tmp_path, device="Ascend", context=own))
    assert config["context"]["ascend_config"] == own["ascend_config"]
    assert "ascend_config" not in config_of(small_job(world, tmp_path))["context"]


def test_the_yaml_has_the_job(world, tmp_path):
    """From it alone the data set and the run are prepared; a mistake ends the process with one line."""
    pytest.importorskip("mindformers")
    from mindspore_osum.training import registered

    task = yaml.safe_load(yaml.safe_dump(config_of(small_job(world, tmp_path / "run"))["train_dataset_task"]))
    assert (task["type"], task["auto_register"]) == ("OsumData", "osum_plugin.OsumData")
    data = registered.OsumData(task["job"])
    assert data.get_dataset_size() == 6 and len(registered._prepared) == 1
    run = registered.OsumRun()
    assert (run.first, run.last, run.folder) == (0, 6, tmp_path / "run") and not registered._prepared
    run.prepared[-1].close()


def test_the_yaml_is_written_without_training(world, tmp_path, capsys):
    path, out = tmp_path / "job.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(small_job(world, out)))
    assert main(["train", "--config", str(path), "--config-only"]) == 0
    assert f"written: {out / 'mindformers.yaml'}" in capsys.readouterr().err
    assert {file.name for file in out.iterdir()} == {"run.lock", "config.yaml", "mindformers.yaml"}
    config = yaml.safe_load((out / "mindformers.yaml").read_text())
    assert config["train_dataset_task"]["job"] == yaml.safe_load((out / "config.yaml").read_text())


def test_a_job_with_a_mistake_ends_mindformers_script_with_one_line(world, tmp_path, capsys):
    pytest.importorskip("mindformers")
    from mindspore_osum.training import registered

    for job, said in (
        (None, "error: train_dataset_task.job: the job is missing"),
        ({**small_job(world, tmp_path), "stepz": 1}, "error: train_dataset_task.job: unknown key 'stepz'"),
    ):
        with pytest.raises(SystemExit) as caught:
            registered.OsumData(job)
        assert caught.value.code == 1 and capsys.readouterr().err.startswith(said)
    with pytest.raises(UserError, match="OsumRun needs train_dataset_task.type: OsumData"):
        registered.OsumRun()


def test_a_callback_that_mindformers_does_not_have_is_named(world, tmp_path):
    pytest.importorskip("mindformers")
    from mindspore_osum.training.mindformers_job import check_callbacks

    check_callbacks(job_from(small_job(world, tmp_path, callbacks=[{"type": "TimeMonitor"}]), "job"))
    with pytest.raises(UserError, match=r"callbacks\[0\]: MindFormers has no TimeMoniter; .*TimeMonitor"):
        check_callbacks(job_from(small_job(world, tmp_path, callbacks=[{"type": "TimeMoniter"}]), "job"))


@pytest.mark.slow  # three processes that import and compile
def test_mindformers_script_trains_from_the_yaml_alone(world, tmp_path):
    """The losses, checkpoints and model of osum train; it resumes, and a finished run is left as it is."""
    from mindspore_osum.training.run import run_job

    job = small_job(world, tmp_path / "osum", steps=6, save_every=4)
    assert run_job(job_from(job, "job")) == 0
    text = (tmp_path / "osum" / "mindformers.yaml").read_text()
    mine = tmp_path / "mine.yaml"

    def start() -> subprocess.CompletedProcess:
        command = [sys.executable, SCRIPT, "--config", mine, "--register_path", PLUGIN]
        return subprocess.run(command, cwd=tmp_path, env=os.environ, capture_output=True, text=True)

    config = yaml.safe_load(text.replace(str(tmp_path / "osum"), str(tmp_path / "own")))
    for steps in (4, 6):
        config["train_dataset_task"]["job"]["steps"] = steps
        mine.write_text(yaml.safe_dump(config))
        done = start()
        assert done.returncode == 0, done.stderr[-3000:]
    records = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("osum", "own")
    ]
    assert [r["loss"] for r in records[0]] == [r["loss"] for r in records[1]] and len(records[1]) == 6
    found = []
    for name in ("osum", "own"):
        with open_weights(tmp_path / name / "model") as weights:
            found.append({key: np.array(weights.read(key)) for key in weights.infos})
    assert found[0].keys() == found[1].keys()
    assert all(np.array_equal(found[0][key], found[1][key]) for key in found[0])
    again = start()
    assert again.returncode == 0 and "trained to step 6 already" in again.stderr
    config["train_dataset_task"]["job"]["stepz"] = 1
    mine.write_text(yaml.safe_dump(config))
    assert start().returncode == 1
