"""`osum serve --engine ray`: replicas of the model behind one address."""

import os
import signal
import threading
from dataclasses import replace

from mindspore_osum.commands.arguments import add_engine
from mindspore_osum.commands.console import say
from mindspore_osum.errors import UserError
from mindspore_osum.serving.address import bind, check_open
from mindspore_osum.serving.served import Served


def add_arguments(parser) -> None:
    """The arguments of replicas."""
    add_engine(
        parser,
        "; 0 takes them away from --address",
        "; on a cluster replicas stay when this command ends, and running it again replaces them one by one",
    )


def check(args) -> None:
    """UserError for options that do not go together."""
    for name in ("replicas", "address"):
        if not args.engine and getattr(args, name) is not None:
            raise UserError(f"--{name}: goes with --engine ray")
    if not args.engine:
        return
    if args.replicas is not None and args.replicas < 0:
        raise UserError(
            f"--replicas {args.replicas}: must be 1 or more, or 0 to take them away from --address"
        )
    if args.log_requests == "-":
        raise UserError("--log-requests: replicas have no standard error that is seen; give a FILE")
    if address_of(args) is not None:
        if not args.port:
            raise UserError("--port 0: a cluster's port must be known; give one")
    elif args.replicas == 0:
        raise UserError("--replicas 0: takes replicas away from a cluster; give its --address")


def address_of(args) -> str | None:
    """The cluster that is joined; None: one is started here."""
    return os.environ.get("RAY_ADDRESS") if args.address is None else args.address


def run(args, served: Served) -> int:
    """Serve on a cluster: of this machine alone until a signal, else deploy there and return."""
    from mindspore_osum.cluster.ray import joined
    from mindspore_osum.folder import read_config
    from mindspore_osum.hub import model_folder

    read_config(folder := model_folder(args.model))  # a mistake is said before anything is started
    if os.path.isdir(args.model):  # else each host brings it by its name
        served = replace(served, model=str(folder.resolve()))
    if served.log:
        served = replace(served, log=os.path.abspath(served.log))
    here = address_of(args) is None
    if here:
        with bind(args.host, args.port, served.token) as bound:  # refuses a taken port; Ray takes it then
            args.port = bound.getsockname()[1]
    else:
        check_open(args.host, served.token)
    with joined(args.address) as ray:
        if here:
            return _until_a_signal(args, served)
        return _deployed(args, served, ray)


def _until_a_signal(args, served: Served) -> int:
    """Serve until SIGTERM or Ctrl-C; 0 after a graceful stop."""
    from ray import serve

    def interrupt(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        _deploy(args, served, replacing=False)
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        serve.shutdown()
    say("stopped")
    return 0


def _deployed(args, served: Served, ray) -> int:
    """Deploy on a cluster that stays, in place of what was deployed there before."""
    from mindspore_osum.serving import replicas

    running = replicas.listening()
    before = bool(running) and replicas.is_deployed()
    if args.replicas == 0:
        if not before:
            raise UserError(f"--replicas 0: {replicas.NAME} is not served on this cluster")
        replicas.remove()
        say("the replicas are taken away")
        return 0
    if running and running != (args.host, args.port):
        host, port = running
        raise UserError(
            f"--host {args.host} --port {args.port}: Ray Serve listens on {host} port {port} of this cluster "
            "already; give these, or end it with `serve shutdown`"
        )
    try:
        _deploy(args, served, replacing=before)
    except UserError:
        if not before and replicas.listening() and replicas.is_deployed():
            replicas.remove()
        raise
    say(f"they stay on the cluster; `--replicas 0 --address {args.address or '...'}` takes them away")
    return 0


def _deploy(args, served: Served, replacing: bool) -> None:
    """Replicas that fit into the cluster, behind the address."""
    from mindspore_osum.cluster.ray import reserved, usual_replicas
    from mindspore_osum.serving import replicas

    count = usual_replicas(args.device) if args.replicas is None else args.replicas
    options = reserved(count, args.device, replacing=replacing)
    replicas.start(args.host, args.port)
    say(f"{count} replicas are loading; until the first one is ready, requests wait")
    replicas.deploy(served, count, options, args.grace)
    host = f"[{args.host}]" if ":" in args.host else args.host
    say(f"{served.names[0]} is served on http://{host}:{args.port}/v1 by {count} replicas")
