"""Replicas behind one address: no answer is lost or wrong when one is killed, or when all are replaced.

The slow tests need the extra ray; they take four minutes: `pytest -m slow tests/serving/test_replicas.py`.
"""

import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from mindspore_osum.serving.bodies import Limits
from mindspore_osum.serving.metrics import Metrics
from mindspore_osum.serving.replicas import last
from mindspore_osum.serving.served import Served
from tests.serving.client import ROOT, TOKEN, Server, serving
from tests.speech.voices import RECORDINGS

WAVS = sorted(RECORDINGS)
needs_ray = pytest.mark.skipif(not find_spec("ray"), reason="needs the extra ray")
AT_ONCE, LEAST = 4, 5  # clients while replicas die and come, and requests of each before and after
# of the cluster and who joins it: this machine's address is 127.0.0.1, and a token is required
LOCAL = {"PYTHONPATH": str(ROOT), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
LOCAL |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": 2 * TOKEN}
SETTINGS = ("--batch-size", "2", "--max-new-tokens", "48", "--grace", "20")


def test_what_is_served_can_be_sent():
    served = Served("tiny", "CPU", ("tiny", "whisper-1"), Limits(places=3), 2, 0.1, 30.0, 60.0, (2.0,), TOKEN)
    assert pickle.loads(pickle.dumps(served)) == served  # noqa: S301


def test_samples_of_replicas_can_be_told_apart():
    metrics = Metrics('a"1')
    metrics.add("osum_http_requests_total", path="/health", status="200")
    metrics.add("osum_http_request_seconds", 0.5, path="/health")
    parser = pytest.importorskip("prometheus_client.parser", reason="needs prometheus-client (extra dev)")
    samples = [s for f in parser.text_string_to_metric_families(metrics.text()) for s in f.samples]
    assert samples and all(s.labels["replica"] == 'a"1' for s in samples)
    named = {s.name: s for s in samples}
    assert named["osum_http_requests_total"].labels == {"replica": 'a"1', "path": "/health", "status": "200"}
    assert named["osum_http_request_seconds_sum"].value == 0.5
    assert "replica" not in Metrics().text()


def test_the_reason_in_a_message_of_ray():
    """Our own line, else the last one."""
    own = "Traceback\n  File x\nmindspore_osum.errors.UserError: --warm-up 2: too long\n\n  Deployment failed"
    assert last(RuntimeError(own)) == "--warm-up 2: too long"
    assert last(RuntimeError("a\n  b\n")) == "b" and last(KeyError()) == "KeyError"


class Load:
    """Clients that ask one request after another; the official client tries twice more by default."""

    def __init__(self, url: str, expected: dict):
        import openai

        self.client = openai.OpenAI(base_url=url, api_key=TOKEN, timeout=120)
        self.expected, self.answered, self.wrong = expected, [], []

    def ask(self, i: int) -> None:
        path = WAVS[i % len(WAVS)]
        text = self.client.audio.transcriptions.create(model="tiny", file=path).text
        self.answered.append(path)
        if text != self.expected[path]:
            self.wrong.append((path.name, text))

    def run(self, meanwhile) -> None:
        """Ask with `AT_ONCE` clients; call `meanwhile` after some answers, and go on until some after it."""
        ended = threading.Event()

        def client(first: int) -> None:
            asked, left = first, LEAST
            while left:
                self.ask(asked)
                asked += AT_ONCE
                left -= ended.is_set()
                time.sleep(0.1)  # leaves cores to what is changed

        with ThreadPoolExecutor(AT_ONCE) as pool:
            jobs = [pool.submit(client, i) for i in range(AT_ONCE)]
            try:
                while len(self.answered) < LEAST * AT_ONCE and not any(job.done() for job in jobs):
                    time.sleep(0.05)
                meanwhile()
            finally:
                ended.set()
            for job in jobs:
                job.result()
        print(f"{len(self.answered)} answers")
        assert len(self.answered) >= 2 * LEAST * AT_ONCE and not self.wrong


@pytest.fixture(scope="module")
def expected():
    """The answers of one model in this process."""
    from mindspore_osum import OSUM

    model = OSUM.load("tiny", "CPU")
    return {path: model(str(path), task="asr").text for path in WAVS}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def command(*words) -> subprocess.CompletedProcess:
    """`osum serve` on a cluster; it ends by itself."""
    osum = [sys.executable, "-m", "mindspore_osum", "serve", "--engine", "ray", *map(str, words)]
    env = os.environ | LOCAL | {"OSUM_TOKEN": TOKEN}
    return subprocess.run(osum, capture_output=True, text=True, env=env, timeout=170)


@contextmanager
def head():
    """A cluster of its own with two cores: (process id, address)."""
    from mindspore_osum.cluster.ray import ENVIRONMENT

    port = free_port()
    start = [str(Path(sys.executable).parent / "ray"), "start", "--head", f"--port={port}", "--block"]
    start += ["--node-ip-address=127.0.0.1", "--num-cpus=2", "--include-dashboard=false"]
    start += ["--object-store-memory=100000000", "--disable-usage-stats"]
    process = subprocess.Popen(
        start, env=os.environ | ENVIRONMENT | LOCAL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(300):
            with socket.socket() as one:
                if not one.connect_ex(("127.0.0.1", port)):
                    break
            assert process.poll() is None
            time.sleep(0.1)
        yield process.pid, f"127.0.0.1:{port}"
    finally:
        for child in descendants(process.pid):  # it would wait for them one after the other
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        process.wait(30)


def descendants(pid: int) -> dict[int, str]:
    """Processes below this one: id -> command line."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            found[int(folder.name)] = parent, (folder / "cmdline").read_bytes().decode().replace("\0", " ")
        except OSError:  # it has ended
            continue
    below, new = set(), {pid}
    while new:
        below |= new
        new = {child for child, (parent, _) in found.items() if parent in below} - below
    return {child: found[child][1] for child in below if child in found}


def replicas(pid: int) -> set[int]:
    return {child for child, said in descendants(pid).items() if said.startswith("ray::ServeReplica:osum")}


def listening(pids) -> set[str]:
    """Addresses on which processes listen, as the kernel writes them, without ports."""
    sockets = {os.readlink(fd) for pid in pids for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].partition(":")[0])
    return found


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.fixture(scope="module")
def deployed():
    """Two replicas on a cluster that stays: (process id of its head, options of its place, url)."""
    with head() as (pid, address):
        place = ("--address", address, "--port", port := free_port())
        done = command(*place, "--replicas", 2, *SETTINGS)
        assert done.returncode == 0, done.stderr
        url = f"http://127.0.0.1:{port}/v1"
        assert f"tiny is served on {url} by 2 replicas" in done.stderr
        yield pid, place, url


@pytest.mark.slow
@needs_ray
def test_a_replica_is_killed(expected, deployed):
    """No answer is lost or wrong, and a new replica takes its place."""
    pid, _, url = deployed
    first = replicas(pid)
    assert len(first) == 2 and listening(first) <= LOOPBACK
    victim = min(first)

    def kill():
        os.kill(victim, signal.SIGKILL)
        for _ in range(600):
            if len(replicas(pid) - {victim}) == 2:
                return
            time.sleep(0.1)

    Load(url, expected).run(kill)
    second = replicas(pid) - {victim}
    assert len(second & first) == 1 and len(second) == 2


@pytest.mark.slow
@needs_ray
def test_a_rolling_update(expected, deployed):
    """The same: both replicas are new ones, with the new settings."""
    pid, place, url = deployed
    first = replicas(pid)

    def update():
        done = command(*place, "--replicas", 2, "--alias", "new", *SETTINGS)
        assert done.returncode == 0, done.stderr

    Load(url, expected).run(update)
    assert len(replicas(pid)) == 2 and not replicas(pid) & first
    names = [model.id for model in Server(None, url).openai(TOKEN).models.list()]
    assert names == ["tiny", "new"]


@pytest.mark.slow
@needs_ray
def test_what_does_not_fit_there_and_the_end(deployed):
    pid, place, url = deployed
    _, address, _, port = place
    other = command("--address", address, "--port", port + 1, "--replicas", 2)
    assert other.returncode == 1 and f"listens on 127.0.0.1 port {port} of this cluster" in other.stderr
    many = command(*place, "--replicas", 3)
    assert many.returncode == 1 and "--replicas 3: each needs cores of its own, and 2" in many.stderr
    assert len(replicas(pid)) == 2
    assert command(*place, "--replicas", 0).returncode == 0 and not replicas(pid)
    gone = command(*place, "--replicas", 0)
    assert gone.returncode == 1 and "is not served on this cluster" in gone.stderr
    assert all(said.stderr.count("\n") == 1 for said in (other, many, gone))


@pytest.mark.slow
@needs_ray
def test_a_cluster_of_this_machine_ends_with_the_command(expected):
    with serving("--engine", "ray", "--replicas", 1, *SETTINGS, OSUM_TOKEN=TOKEN) as server:
        below = descendants(server.process.pid)
        assert sum(said.startswith("ray::ServeReplica:osum") for said in below.values()) == 1
        assert listening(below) <= LOOPBACK
        client = server.openai(TOKEN)
        with pytest.raises(Exception, match="no token or a wrong one"):
            server.openai("wrong").models.list()
        events = client.audio.transcriptions.create(model="tiny", file=WAVS[0], stream=True)
        assert list(events)[-1].text == expected[WAVS[0]]
        status, said = server.stop()
        assert status == 0 and "stopped" in said
    assert not any(Path(f"/proc/{pid}").exists() for pid in below if pid != server.process.pid)
