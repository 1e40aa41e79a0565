"""Joins a Ray cluster or starts one on this machine, and says what a replica of a model reserves there.

    with joined("10.0.0.5:6379") as ray:
        options = reserved(replicas=4, device="Ascend")  # of each: {"num_cpus": 0, "resources": {"NPU": 1}}
        replicas = [ray.remote(**options)(Replica).remote() for _ in range(4)]

Notable choices
- MindSpore's `_pb2` modules are older than protobuf 3.19 and work only with protobuf's implementation in
  Python, which `import mindspore` chooses by an environment variable. protobuf reads that once, when it is
  imported, and a worker of Ray imports it before any code of ours. So Ray gives workers the variable.
- A cluster that is started here listens on 127.0.0.1, asks for a token, has no dashboard and reports nothing.
"""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence

from mindspore_osum.errors import UserError
from mindspore_osum.quiet import QUIET

ENVIRONMENT = QUIET | {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
"""Environment variables of every worker."""
STORE_BYTES = 256 << 20  # of the object store of a cluster started here; paths and texts pass through it
RELEASE_SECONDS = 10.0  # within which Ray releases what has ended
REPLY_SECONDS = 5.0  # within which a cluster has to accept a connection
_QUIET_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
# of a cluster started here: its processes listen on 127.0.0.1 alone, which is Ray's own rule on other systems
# than Linux. Ray reads it when it is imported, and asks for a token by itself
_OWN = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
_RESOURCES = {"CPU": ("CPU", "cores"), "Ascend": ("NPU", "NPUs")}  # device -> Ray's name, and people's


@contextlib.contextmanager
def joined(address: str | None = None) -> Iterator:
    """Ray's module, connected to a cluster; one that is started here ends with the block.

    Parameters
    ----------
    address : "host:port" of a cluster's head, or "auto" for the one on this machine; by default
        $RAY_ADDRESS, or a new cluster with the cores and NPUs of this machine. A process that is connected
        already keeps its connection, in the block and after it.

    Raises
    ------
    UserError : Ray is not installed, there is no cluster at the address, or one of another version.
    """
    address = (os.environ.get("RAY_ADDRESS") or "local") if address is None else address
    ray = import_ray(_OWN if address == "local" else {})
    if ray.is_initialized():
        yield ray
        return
    check_address(address)
    own = {"include_dashboard": False, "object_store_memory": STORE_BYTES} if address == "local" else {}
    with _handlers_kept(), _silent():
        try:
            ray.init(
                address,
                runtime_env={"env_vars": ENVIRONMENT},
                log_to_driver=False,
                logging_level="ERROR",
                **own,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise UserError(f"Ray at {address}: {_reason(error)}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def import_ray(environment: dict[str, str] | None = None):
    """The module `ray`.

    Parameters
    ----------
    environment : variables that it and its processes read, where they are not set.

    Raises
    ------
    UserError : it is not installed.
    """
    for name, value in {**ENVIRONMENT, **_QUIET_RAY, **(environment or {})}.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise UserError(
            f"Ray cannot be imported ({error}); install the extra: pip install 'mindspore-osum[ray]'"
        ) from None
    return ray


def check_address(address: str) -> None:
    """UserError if it is no address of a cluster's head, or nobody answers: Ray would try for a minute."""
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal() or int(port) > 65535:
        raise UserError(
            f"Ray address {address!r}: expected host:port of the cluster's head, usually port 6379"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REPLY_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"Ray address {address}: no cluster answers there ({error.strerror or error}); start one with "
            "`ray start --head`, or leave the address out for this machine alone"
        ) from None


def reserved(replicas: int, device: str, name: str = "--replicas", replacing: bool = False) -> dict:
    """What each replica reserves, as options of `ray.remote`: an NPU, or its share of the cores.

    Parameters
    ----------
    replicas : how many models there are at the same time.
    device : "CPU" or "Ascend".
    name : of the setting, for the error.
    replacing : whether they take the place of what runs there, so that all counts as free.

    Raises
    ------
    UserError : so many replicas do not fit into what is free.
    """
    if replicas < 1:
        raise UserError(f"{name} {replicas}: must be 1 or more")
    resource, people = _RESOURCES[device]
    fits, until = largest_share(replicas, _free(resource, True)), time.monotonic() + RELEASE_SECONDS
    free = _free(resource, replacing)
    while not (share := largest_share(replicas, free)) and fits and time.monotonic() < until:
        time.sleep(0.2)  # what has just ended is released
        free = _free(resource, replacing)
    if not share:
        if device == "Ascend" and not sum(free):
            raise UserError(
                "--device Ascend: no NPU is free in the cluster; add machines, or use --device CPU"
            )
        raise UserError(
            f"{name} {replicas}: each needs {people} of its own, and {sum(map(int, free))} are free in the "
            "cluster; take fewer, or add machines"
        )
    return {"num_cpus": share} if device == "CPU" else {"num_cpus": 0, "resources": {resource: 1}}


def usual_replicas(device: str) -> int:
    """How many replicas use a cluster well: one for each free NPU; of cores, one for each machine."""
    free = _free(_RESOURCES[device][0])
    return max(1, sum(map(int, free)) if device == "Ascend" else sum(cores >= 1 for cores in free))


def largest_share(replicas: int, free: Sequence[float]) -> int:
    """The most units that each replica can have, 0 if they do not fit; none spans two machines.

    Parameters
    ----------
    free : units that are free on each machine.
    """
    shares = range(int(max(free, default=0)), 0, -1)
    return next((share for share in shares if sum(int(n // share) for n in free) >= replicas), 0)


def _free(resource: str, used_too: bool = False) -> list[float]:
    """Free units of a resource on each machine that is alive."""
    from ray._private.state import available_resources_per_node, total_resources_per_node

    nodes = (total_resources_per_node if used_too else available_resources_per_node)()
    return [float(found.get(resource, 0.0)) for found in nodes.values()]


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = " ".join(lines[:2]) or type(error).__name__
    if "connect" in reason:  # Ray does not say here that the token is what is missing
        reason += "; if it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (docs/SCALE.md)"
    return reason


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Throw away what Ray's own code writes to standard error while it joins: its error says as much."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Keep this program's own handlers of signals: `ray.init` sets one for SIGTERM."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not the main thread, where Ray sets none
            for number, handler in before.items():
                signal.signal(number, handler)
