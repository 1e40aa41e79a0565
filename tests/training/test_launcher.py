"""scripts/msrun_launcher.sh with an msrun that treats its workers as MindSpore's does, without MindSpore."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LAUNCHER = Path(__file__).resolve().parents[2] / "scripts" / "msrun_launcher.sh"
# as in mindspore/parallel/cluster/process_entity/_api.py: workers lead sessions, a tail of a log does not;
# SIGINT kills them and is status 0, SIGTERM leaves them, one that fails has the others killed and is status 1
MSRUN = """#!{python}
import os, signal, subprocess, sys, time
command = [sys.executable, *sys.argv[sys.argv.index("--join=True") + 2:]]
tail = subprocess.Popen(["sleep", "60"])
{delay}
workers = [subprocess.Popen([*command, str(i)], start_new_session=True) for i in (0, 1)]

def leave(status):
    for process in workers:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    tail.kill()
    sys.exit(status)

signal.signal(signal.SIGINT, lambda *_: leave(0))
while any(process.poll() is None for process in workers):
    if any(process.poll() for process in workers):
        leave(1)
    time.sleep(0.05)
leave(int(any(process.poll() for process in workers)))
"""
# a worker that ends its step and writes a checkpoint when it is asked to, or works on in spite of it
WORKER = """
import os, signal, sys, time
from pathlib import Path
mode, folder, rank = sys.argv[1], Path(sys.argv[2]), sys.argv[3]

def stop(number, frame):
    (folder / f"asked{rank}").write_text(str(number))
    if mode != "deaf":
        (folder / f"checkpoint{rank}").touch()
        while len(list(folder.glob("checkpoint?"))) < 2:  # they wait for each other
            time.sleep(0.05)
        os._exit(143)

signal.signal(signal.SIGTERM, stop)
(folder / f"pid{rank}").write_text(str(os.getpid()))
while mode not in ("good", "bad"):
    time.sleep(0.1)
sys.exit(5 if mode == "bad" else 0)
"""


@pytest.fixture
def launch(tmp_path):
    """launch(mode, delay=): the launcher of two workers, in a process group of its own, as in a terminal."""
    started = []

    def start(mode: str, delay: str = "") -> subprocess.Popen:
        msrun = tmp_path / "bin" / "msrun"
        msrun.parent.mkdir()
        msrun.write_text(MSRUN.format(python=sys.executable, delay=delay))
        msrun.chmod(0o755)
        (tmp_path / "worker.py").write_text(WORKER)
        job = f"{tmp_path}/worker.py {mode} {tmp_path}"
        command = ["bash", LAUNCHER, job, "2", "8118", tmp_path / "logs"]
        started.append(
            subprocess.Popen(
                command,
                env=os.environ | {"PATH": f"{msrun.parent}{os.pathsep}{os.environ['PATH']}"},
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        )
        return started[0]

    yield start
    for pid in [int(path.read_text()) for path in tmp_path.glob("pid?")]:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
    if started[0].poll() is None:
        started[0].kill()
        started[0].wait()


def is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def wait_for(folder: Path, *names: str) -> list[str]:
    """What is in the files, once they are there."""
    until = time.monotonic() + 60
    while not all((folder / name).is_file() and (folder / name).read_text() for name in names):
        assert time.monotonic() < until, names
        time.sleep(0.05)
    return [(folder / name).read_text() for name in names]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_has_the_workers_write_their_checkpoint(tmp_path, launch, number, status):
    launcher = launch("steps")
    pids = wait_for(tmp_path, "pid0", "pid1")
    if number == signal.SIGINT:
        os.killpg(launcher.pid, number)  # Ctrl-C
    else:
        launcher.send_signal(number)
    assert launcher.wait(30) == status
    assert {path.name for path in tmp_path.glob("checkpoint?")} == {"checkpoint0", "checkpoint1"}
    assert not any(is_alive(int(pid)) for pid in pids)


def test_a_second_signal_kills_them(tmp_path, launch):
    launcher = launch("deaf")
    pids = wait_for(tmp_path, "pid0", "pid1")
    launcher.send_signal(signal.SIGTERM)
    assert wait_for(tmp_path, "asked0", "asked1") == [str(int(signal.SIGTERM))] * 2
    assert launcher.poll() is None and all(is_alive(int(pid)) for pid in pids)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(30) == 143
    assert not any(is_alive(int(pid)) for pid in pids)


def test_a_signal_before_there_are_workers_ends_it_all(tmp_path, launch):
    mark = tmp_path / "begun"
    launcher = launch("steps", f"open({str(mark)!r}, 'w').write('x'); time.sleep(60)")
    wait_for(tmp_path, mark.name)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(30) == 143 and not list(tmp_path.glob("pid?"))


def test_a_signal_when_all_workers_are_gone_ends_it(tmp_path, launch):
    """As while the scheduler waits for workers that were killed, and that msrun has not asked after since."""
    gone = "subprocess.Popen(['true'], start_new_session=True); open(sys.argv[-1] + '/begun', 'w').write('x')"
    launcher = launch("steps", f"{gone}; time.sleep(60)")
    wait_for(tmp_path, "begun")
    time.sleep(0.5)
    launcher.send_signal(signal.SIGTERM)
    assert launcher.wait(30) == 143


@pytest.mark.parametrize(("mode", "status"), [("good", 0), ("bad", 1)])
def test_without_a_signal_the_status_is_that_of_msrun(launch, mode, status):
    assert launch(mode).wait(60) == status


RECORD = """#!{python}
import json, sys
from pathlib import Path
Path({folder!r}, "given.json").write_text(json.dumps(sys.argv[1:]))
"""
ONE_HOST = (
    "--worker_num={0} --local_worker_num={0} --master_port={1} --log_dir={2} --join={3} "
    "--cluster_time_out={4}"
)
FORMS = {  # what follows the command: what msrun gets before it
    "": ONE_HOST.format(8, 8118, "output/msrun_log", True, 300),
    "4": ONE_HOST.format(4, 8118, "output/msrun_log", True, 300),
    "4 9000 logs": ONE_HOST.format(4, 9000, "logs", True, 300),
    "2 9000 logs False 7200": ONE_HOST.format(2, 9000, "logs", False, 7200),
    "8 8 10.0.0.1 9000 0 logs True 7200": ONE_HOST.format(8, 9000, "logs", True, 7200),
    "24 8 10.0.0.1 9000 2 logs false 7200": "--worker_num=24 --local_worker_num=8 --master_addr=10.0.0.1 "
    "--node_rank=2 --master_port=9000 --log_dir=logs --join=False --cluster_time_out=7200",
}
WRONG = {
    "0": "WORKERS must be a whole number from 1 to 65536, got '0'",
    "08": "WORKERS must be a whole number",
    "2 80": "MASTER_PORT must be a whole number from 1024 to 65535, got '80'",
    "2 9000 logs maybe 7200": "JOIN must be True or False, got 'maybe'",
    "2 9000 logs True soon": "TIMEOUT must be a whole number",
    "8 16 10.0.0.1 9000 0 logs True 7200": "LOCAL_WORKERS must be a whole number from 1 to 8, got '16'",
    "16 8 10.0.0.1 9000 one logs True 7200": "NODE_RANK must be a whole number",
    "16 8 -x;y 9000 1 logs True 7200": "MASTER_ADDR must be the address of host 0, got '-x;y'",
    "2 9000 logs True": "JOIN TIMEOUT",  # five arguments: the forms are shown
}


def record(tmp_path, words: str) -> subprocess.CompletedProcess:
    """The launcher with an msrun that notes its arguments in given.json."""
    msrun = tmp_path / "bin" / "msrun"
    msrun.parent.mkdir()
    msrun.write_text(RECORD.format(python=sys.executable, folder=str(tmp_path)))
    msrun.chmod(0o755)
    return subprocess.run(
        ["bash", LAUNCHER, "train.py --config job.yaml", *words.split()],
        cwd=tmp_path,
        env=os.environ | {"PATH": f"{msrun.parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("words", FORMS)
def test_msrun_gets_what_mindformers_script_gives_it(tmp_path, words):
    assert record(tmp_path, words).returncode == 0
    given = json.loads((tmp_path / "given.json").read_text())
    assert given == [*FORMS[words].split(), "train.py", "--config", "job.yaml"]


@pytest.mark.parametrize("words", WRONG)
def test_wrong_arguments_are_named(tmp_path, words):
    done = record(tmp_path, words)
    assert done.returncode == 2 and WRONG[words] in done.stderr
    assert not (tmp_path / "given.json").exists() and not (tmp_path / "logs").exists()
