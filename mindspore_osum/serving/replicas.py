"""The application of `osum serve` in replicas behind one address, by Ray Serve.

Notable choices
- A replica is a process with a whole model, its own batches, queue and limits. Ray's proxy gives each request
  to the less busy one of two; requests need no session.
- A replica takes requests when its model is loaded and warmed up. One that dies is replaced; requests that it
  was answering get 500, which OpenAI's clients try again by themselves.
- Deploying again replaces the replicas one after the other: each finishes its requests first.
- Ray Serve lets a replica listen on all of a machine's addresses for calls between deployments, which are
  pickles, without a token. Here there are none, and it listens on the address that its cluster has.
"""

import asyncio
import logging
import time

from mindspore_osum.cluster.ray import ENVIRONMENT
from mindspore_osum.errors import UserError
from mindspore_osum.serving.served import Served, application, open_engine

NAME = "osum"
"""Of the application and of its deployment in Ray Serve."""
LOOKS = 16  # requests that take no slot of a replica: /health, /metrics, refusals
QUIET = {"log_level": "WARNING", "enable_access_log": False}


class Replica:
    """A model in a process of its own; what Ray Serve makes, asks for its health, and hands requests to."""

    async def __init__(self, served: Served, deployed: float):
        """Load the model. `deployed` is when (s): by a new value Ray Serve knows a new deployment."""
        from ray import serve

        from mindspore_osum.serving.request_log import RequestLog

        _listen_on_the_cluster_alone()
        log = RequestLog(served.log) if served.log else None
        name = serve.get_replica_context().replica_id.unique_id
        self.answer, self._batcher = application(
            served, lambda enter: open_engine(served, enter)[0], log, name
        )
        await asyncio.wrap_future(self._batcher.loaded)

    def check_health(self) -> None:
        """RuntimeError if the model's thread has ended: Ray Serve replaces this replica."""
        if not self._batcher.alive:
            raise RuntimeError("the model's thread has ended")

    def __del__(self):
        if batcher := getattr(self, "_batcher", None):
            batcher.stop(0.0)


def _listen_on_the_cluster_alone() -> None:
    """Bind the port of this replica, which Ray Serve opens after its constructor, to the node's address."""
    from ray.serve._private import replica
    from ray.util import get_node_ip_address

    add = getattr(replica, "add_port_to_grpc_server", None)
    if not add:
        raise UserError(
            "replicas of this version of Ray listen on all addresses of a machine; install ray 2.60"
        )
    host = get_node_ip_address()
    place = f"[{host}]:0" if ":" in host else f"{host}:0"
    replica.add_port_to_grpc_server = lambda server, _: add(server, place)


def _application():
    """Made in a replica's process: hands requests to the `Replica` there."""

    async def forward(scope, receive, send) -> None:
        from ray import serve

        if scope["type"] == "http":
            await serve.get_replica_context().servable_object.answer(scope, receive, send)

    return forward


def listening() -> tuple[str, int] | None:
    """Host and port of Ray Serve on the cluster, None if it does not run there."""
    from ray.serve.context import _get_global_client

    client = _get_global_client(raise_if_no_controller_running=False)
    return (client.http_config.host, client.http_config.port) if client else None


def is_deployed() -> bool:
    """Whether the application is on the cluster; Ray Serve must run there."""
    from ray import serve

    return NAME in serve.status().applications


def start(host: str, port: int) -> None:
    """Start Ray Serve, whose proxy listens on the cluster's head.

    Raises
    ------
    UserError : it cannot listen there.
    """
    from ray import serve

    quiet_serve()
    try:
        serve.start("HeadOnly", http_options={"host": host, "port": port}, logging_config=QUIET)
    except Exception as error:  # of Ray's own kinds, which differ by version
        raise UserError(
            f"Ray Serve cannot listen on {host} port {port} of the cluster's head: {last(error)}"
        ) from None


def quiet_serve() -> None:
    """Say nothing of what goes well."""
    logging.getLogger("ray.serve").setLevel(logging.ERROR)


def deploy(served: Served, replicas: int, options: dict, grace: float) -> None:
    """Put so many replicas in place of those that are there; return when all of them answer.

    Parameters
    ----------
    options : what each reserves, see `cluster.ray.reserved`.
    grace : seconds for a replica that ends to finish its requests.

    Raises
    ------
    UserError : a replica does not start.
    """
    from ray import serve

    quiet_serve()
    deployment = serve.deployment(
        serve.ingress(_application)(Replica),
        name=NAME,
        num_replicas=replicas,
        ray_actor_options={**options, "runtime_env": {"env_vars": ENVIRONMENT}},
        max_ongoing_requests=served.limits.places + LOOKS,
        max_queued_requests=served.limits.places * replicas,
        graceful_shutdown_timeout_s=grace,
        max_constructor_retry_count=1,
        logging_config=QUIET,
    )
    target = deployment.bind(served, time.time())
    try:
        serve.run(target, name=NAME, route_prefix="/", logging_config=QUIET)
    except Exception as error:  # of Ray's own kinds, which differ by version
        raise UserError(f"the replicas do not start: {last(error)}") from None


def remove() -> None:
    """Take the application away; its replicas finish their requests."""
    from ray import serve

    serve.delete(NAME)


def last(error: Exception) -> str:
    """The reason in a message of Ray: the line of our own error if there is one, else the last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    own = [line.partition("UserError: ")[2] for line in lines if "UserError: " in line]
    return (own or lines or [type(error).__name__])[-1]
