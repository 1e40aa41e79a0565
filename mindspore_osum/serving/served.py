"""What a server serves, as values that can be sent to another process, and the application made of them."""

from collections.abc import Callable
from dataclasses import dataclass

from mindspore_osum.serving.batcher import Batcher
from mindspore_osum.serving.bodies import Limits
from mindspore_osum.serving.request_log import RequestLog


@dataclass(frozen=True)
class Served:
    """A model and how it answers.

    Attributes
    ----------
    model : folder, or owner/name on a hub.
    device : "CPU" or "Ascend".
    names : of the model for clients; the first is its own.
    batch_size, wait_s, chunk_seconds, audio_seconds : see `Batcher`.
    warm_up : seconds of recordings for which graphs are compiled first.
    token, origins : see `create_app`.
    log : file for a line of each request, "-" for standard error; None without.
    """

    model: str
    device: str
    names: tuple[str, ...]
    limits: Limits
    batch_size: int
    wait_s: float
    chunk_seconds: float
    audio_seconds: float
    warm_up: tuple[float, ...] = ()
    token: str | None = None
    origins: tuple[str, ...] = ()
    log: str | None = None


def open_engine(served: Served, enter: Callable) -> tuple:
    """The engine, and whether all graphs of the warm-up are kept; in the thread that will own it.

    Parameters
    ----------
    enter : as in `warm_up`.
    """
    from mindspore_osum.inference.engine import Engine
    from mindspore_osum.inference.sampling import Sampling
    from mindspore_osum.serving.warm_up import warm_up

    engine = Engine(served.model, served.device)
    # all graphs that requests can need
    how = Sampling(max_new_tokens=served.limits.max_new_tokens, confidence=True)
    return engine, warm_up(engine, served.warm_up, served.batch_size, how, enter)


def application(served: Served, load: Callable, log: RequestLog | None, replica: str = "") -> tuple:
    """The ASGI application, and the batcher behind it, whose thread begins to load the model.

    Parameters
    ----------
    load : as in `Batcher`. log : of requests.
    replica : which one this is, for /metrics; "" if there is one process only.
    """
    from mindspore_osum.serving.app import create_app
    from mindspore_osum.serving.metrics import Metrics

    metrics = Metrics(replica)
    batcher = Batcher(
        load,
        metrics,
        batch_size=served.batch_size,
        wait_s=served.wait_s,
        chunk_seconds=served.chunk_seconds,
        audio_seconds=served.audio_seconds,
    )
    app = create_app(
        batcher, metrics, served.names, served.limits, served.token, origins=served.origins, log=log
    )
    return app, batcher
