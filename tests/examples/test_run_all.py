"""examples/speech_world/run.py: its commands are accepted, steps skipped and refused; a small run, killed."""

import argparse
import fcntl
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import run as road

from mindspore_osum.commands.verbs import VERBS
from mindspore_osum.config import parse_overrides
from mindspore_osum.errors import UserError
from mindspore_osum.training.config import read_stages
from tests.examples.common import FOLDER

RUN_SEED = 20  # of the moments at which the small run is killed


def options_of(step: road.Step) -> argparse.Namespace:
    """The options of an `osum` command, as its own parser reads them."""
    python, dash, module, verb, *arguments = step.command
    assert [python, dash, module] == ["python", "-m", "mindspore_osum"]
    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(VERBS[verb].module).add_arguments(parser)
    return parser.parse_args(arguments)


# what would be run


@pytest.mark.parametrize("small", [False, True])
def test_stages_follow_each_other_on_the_corpus_that_is_made(small, tmp_path, monkeypatch):
    """The paths in configs/tiny lead to what the steps before write."""
    corpus, tokenizer, training, evaluation = road.steps(tmp_path, small, 1)
    options = options_of(training)
    monkeypatch.chdir(tmp_path)
    stages = list(read_stages(options.config, parse_overrides(options.overrides)).values())
    assert [stage.tokenizer for stage in stages] == [tokenizer.result] * 4
    assert training.result == f"{stages[-1].output_dir}/model/config.json"
    used = {source.path for stage in stages for source in (*stage.data.train, *stage.data.valid)}
    names = "train valid train_all valid_all questions text_qa intent_train intent_valid intent_test".split()
    names += ["combined_train", "combined_valid", "combined_test"]
    made = {f"speech_world/{name}.jsonl" for name in names}
    assert used <= made and corpus.result in made
    assert all(stage.steps == 40 for stage in stages) == small
    options = options_of(evaluation)
    assert options.model == f"{stages[-1].output_dir}/model" and options.prompts == "both"
    assert (
        options.manifest == "speech_world/test.jsonl" and evaluation.result == f"{options.output}/report.md"
    )


def test_several_processes_train_the_same(tmp_path, monkeypatch):
    one, many = (road.steps(tmp_path, True, workers)[2] for workers in (1, 2))
    bash, launcher, job, workers = many.command
    assert (tmp_path / launcher).resolve() == road.ROOT / "scripts" / "msrun_launcher.sh" and workers == "2"
    assert job.split()[1:] == one.command[4:] and (tmp_path / job.split()[0]).is_file()
    monkeypatch.setattr(road, "ROOT", tmp_path / "a folder")
    with pytest.raises(UserError, match="has spaces"):
        road.steps(tmp_path, True, 2)


# skipping, failing, locking


def write_steps(folder: Path) -> list[road.Step]:
    """Two steps that each write their result, a line for each time they ran."""
    code = "import sys; open(sys.argv[1], 'a').write('ran\\n')"
    return [road.Step(name, ["python", "-c", code, name], name) for name in ("first", "second")]


def test_what_is_there_is_skipped(tmp_path, capfd):
    plan = write_steps(tmp_path)
    (tmp_path / "first").write_text("there\n")
    for _ in range(2):
        with road.take(tmp_path, {}) as lock:
            assert road.run(plan, tmp_path, lock) == 0
    assert (tmp_path / "first").read_text() == "there\n" and (tmp_path / "second").read_text() == "ran\n"
    said = capfd.readouterr().out
    assert "1. first: there, first\n2. second: to do\n" in said and "second: there, second" in said


def test_a_failing_step_ends_the_run_with_its_status(tmp_path, capfd):
    plan = [road.Step("bad", ["python", "-c", "raise SystemExit(7)"], "bad"), *write_steps(tmp_path)]
    with road.take(tmp_path, {}) as lock:
        assert road.run(plan, tmp_path, lock) == 7
    assert "bad ended with status 7; the same command goes on from there" in capfd.readouterr().err
    assert not (tmp_path / "first").exists()


def test_a_step_without_its_result_has_failed_whatever_its_status(tmp_path, capfd):
    plan = [road.Step("stopped", ["python", "-c", ""], "none"), *write_steps(tmp_path)]
    with road.take(tmp_path, {}) as lock:
        assert road.run(plan, tmp_path, lock) == 1
    assert "stopped ended with status 1; the same command goes on" in capfd.readouterr().err
    assert not (tmp_path / "first").exists()


def test_a_signal_reaches_the_command(tmp_path):
    """SIGTERM to the run ends the command that is at work, and the status says so."""
    code = (
        "import sys, run; from pathlib import Path; out = Path(sys.argv[1]);"
        "plan = [run.Step('long', ['sleep', '60'], 'x')];"
        "sys.exit(run.run(plan, out, run.take(out, {})))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], cwd=FOLDER, stdout=subprocess.PIPE, text=True
    )
    while not process.stdout.readline().startswith("sleep"):
        assert process.poll() is None
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 128 + signal.SIGTERM


def test_two_runs_in_one_folder_are_refused(tmp_path):
    with road.take(tmp_path, {"small": True}):
        with pytest.raises(UserError, match="another run is at work there"):
            road.take(tmp_path, {"small": True})
    with pytest.raises(UserError, match="run.json is not of .*choose another --output"):
        road.take(tmp_path, {"small": False})


def test_a_command_holds_the_lock_when_its_parent_is_gone(tmp_path):
    lock = road.take(tmp_path, {})
    orphan = subprocess.Popen(["sleep", "60"], pass_fds=[lock.fileno()])
    lock.close()
    try:
        with pytest.raises(UserError, match="another run is at work"):
            road.take(tmp_path, {})
    finally:
        orphan.kill()
        orphan.wait()
    road.take(tmp_path, {}).close()


def test_the_table_of_results_is_cut_out_of_the_report():
    report = (
        "# Evaluation\n\ntext\n\n## Results\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n## By class\n\n| c |\n"
    )
    assert road.results(report) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_a_wrong_number_of_workers_is_one_line(tmp_path, capsys):
    assert road.main(["--output", str(tmp_path), "--workers", "0"]) == 1
    assert capsys.readouterr().err == "run.py: --workers 0: must be 1 or more\n"


# the whole road


def start(output: Path, log) -> subprocess.Popen:
    command = [sys.executable, FOLDER / "run.py", "--output", output, "--small"]
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    return subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
    )


def kill_after(process: subprocess.Popen, seconds: float) -> bool:
    """Kill a run with all its commands; whether it was still at work."""
    try:
        process.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True


@pytest.mark.slow  # trains: minutes
@pytest.mark.usefixtures("installed")
def test_a_small_run_survives_kills_and_learns(tmp_path):
    output, log = tmp_path / "run", tmp_path / "log"
    rng = random.Random(RUN_SEED)
    with open(log, "w") as file:
        kills = 0
        while kills < 3 and kill_after(start(output, file), rng.uniform(5, 120)):
            kills += 1
        assert kills
        assert start(output, file).wait(3600) == 0, log.read_text()[-3000:]
        mark = file.tell()
        assert start(output, file).wait(60) == 0  # all is there
    again = log.read_text()[mark:]
    assert again.count(": there, ") == 4 and "| asr | fixed |" in again and "| sap | natural |" in again
    for stage in road.STAGES:
        path = output / f"output/tiny_{stage}/metrics.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()]
        losses = {record["step"]: record["loss"] for record in records if "loss" in record}
        assert list(losses) == [10, 20, 30, 40], stage  # in order, none twice
        assert losses[40] < losses[10], stage
    with open(output / "run.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nothing is left at work
