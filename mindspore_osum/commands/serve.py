"""`osum serve`: the model behind HTTP, with OpenAI's API."""

import contextlib
import math
import os
import re
import signal
import sys

from mindspore_osum.commands import serve_ray
from mindspore_osum.commands.arguments import add_model_arguments
from mindspore_osum.commands.console import Progress, loading, say
from mindspore_osum.errors import UserError
from mindspore_osum.files import read_text
from mindspore_osum.quiet import quiet_libraries
from mindspore_osum.serving.address import BACKLOG, TOKEN, bind
from mindspore_osum.serving.request_log import RequestLog
from mindspore_osum.speech.config import SAMPLE_RATE

EXAMPLES = """\
examples:
  osum serve                                                     # the bundled model on http://127.0.0.1:8000/v1
  osum serve --model DIR --warm-up 2,5,10 --port 9000            # compile for these seconds before it answers
  osum serve --host 0.0.0.0 --token-file token.txt               # for others: only with a token
  osum serve --engine ray --replicas 8                           # eight models behind one address
  osum serve --alias whisper-1 --cors-origin https://example.org --log-requests requests.log
  curl -F file=@a.wav -F model=tiny -F response_format=srt http://127.0.0.1:8000/v1/audio/transcriptions
"""
MIB = 2**20
WAV_BYTES = 2 * SAMPLE_RATE * 4 / 3  # a second of WAV at 16 kHz, in base64 as a chat has it
DENSE_BYTES = 32_000 / 8  # a second of MP3 at 32 kbit/s: with less, no recording of --max-audio arrives
USUAL_BODY = 32  # MiB; this for each of --queue is the memory for bodies


def add_arguments(parser) -> None:
    """The arguments of `osum serve`."""
    add_model_arguments(parser)
    parser.add_argument("--host", default="127.0.0.1", metavar="NAME", help="to bind (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="0: any free one (default 8000)")
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help=f"what clients must send as their API key; or the environment's {TOKEN}",
    )
    parser.add_argument("--name", help="the model's name for clients (default: that of its folder)")
    parser.add_argument(
        "--alias",
        action="append",
        default=[],
        metavar="NAME[=MODEL]",
        help="another name for the model, for clients that ask for it; may be given again",
    )
    parser.add_argument(
        "--cors-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="web pages of this origin may ask from a browser, * for all; may be given again (default: none)",
    )
    parser.add_argument(
        "--log-requests",
        nargs="?",
        const="-",
        metavar="FILE",
        help="a line for each request, without its content, to FILE or standard error",
    )
    parser.add_argument(
        "--warm-up",
        default="",
        metavar="S[,S...]",
        help="compile for recordings of these seconds, in all batch sizes, before requests are answered",
    )
    parser.add_argument(
        "--max-body",
        type=float,
        metavar="N",
        help="longest body in MiB (default: what a WAV of --max-audio at 16 kHz needs)",
    )
    for flag, kind, value, what in (
        ("--wait", float, 5.0, "milliseconds that the first of several requests waits for others"),
        ("--queue", int, 64, "requests at once; more are refused, to come again later (503)"),
        ("--max-audio", float, 7200.0, "longest recording in seconds"),
        ("--max-seconds", float, 30.0, "longer recordings are split at pauses into chunks of this length"),
        ("--max-new-tokens", int, 400, "longest answer to a chunk, in tokens"),
        ("--grace", float, 30.0, "seconds to finish what runs after SIGTERM"),
    ):
        parser.add_argument(flag, type=kind, default=value, metavar="N", help=f"{what} (default {value:g})")
    serve_ray.add_arguments(parser)


def run(args) -> int:
    """Serve until SIGTERM or Ctrl-C; 0 after a graceful stop."""
    seconds, body_bytes = _check(args)
    token = _token(args.token_file)
    _need_packages()
    log = RequestLog(args.log_requests) if args.log_requests else None
    if args.engine:
        quiet_libraries()
        return serve_ray.run(args, _served(args, seconds, body_bytes, token))
    bound = bind(args.host, args.port, token)
    quiet_libraries()
    served = _served(args, seconds, body_bytes, token)
    from mindspore_osum.serving.served import application

    loading(args)
    app, batcher = application(served, lambda enter: _load(args, served, enter), log)
    return _serve(app, batcher, bound, served.names[0], args.grace)


def _served(args, seconds: list[float], body_bytes: int, token: str | None):
    """What is served, as the arguments say; UserError without such a model."""
    from mindspore_osum.hub import title
    from mindspore_osum.serving.bodies import Limits
    from mindspore_osum.serving.served import Served

    return Served(
        model=args.model,
        device=args.device,
        names=tuple(_names(args.name or title(args.model), args.alias)),
        limits=Limits(
            body_bytes=body_bytes,
            total_bytes=args.queue * USUAL_BODY * MIB,
            places=args.queue,
            max_new_tokens=args.max_new_tokens,
        ),
        batch_size=args.batch_size,
        wait_s=args.wait / 1000,
        chunk_seconds=args.max_seconds,
        audio_seconds=args.max_audio,
        warm_up=tuple(seconds),
        token=token,
        origins=tuple(args.cors_origin),
        log=args.log_requests,
    )


def _serve(app, batcher, bound, name: str, grace: float) -> int:
    """Serve until a signal, or until the model cannot be loaded."""
    import uvicorn

    from mindspore_osum.serving.batcher import Stopped
    from mindspore_osum.serving.connections import Patient, limit_connections, limit_logs

    limit_connections()
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=Patient,
            log_level="warning",
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=max(1, round(grace)),
            backlog=BACKLOG,
        )
    )
    limit_logs()
    url = _url(bound)
    port = bound.getsockname()[1]
    say(f"port {port} is open; until the model is ready requests get 503 and /health says how far it is")

    def loaded(future) -> None:
        if future.exception():
            server.should_exit = True
        else:
            say(f"{name} is served on {url}/v1")

    batcher.loaded.add_done_callback(loaded)
    # uvicorn stops gracefully and raises the signal again; this is ignored, and the exit status is 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        server.run(sockets=[bound])
    finally:
        ended = batcher.stop(grace if batcher.stage else None)
    error = batcher.loaded.exception() if ended else None
    if error and not isinstance(error, Stopped):
        raise error
    say("stopped")
    if not ended:  # its thread still loads or compiles, and cannot be ended in another way
        sys.stderr.flush()
        os._exit(0)
    return 0


def _load(args, served, enter):
    """The engine, warmed up; in the thread that will own it."""
    from mindspore_osum.inference.pool import BUDGET
    from mindspore_osum.serving.served import open_engine

    with contextlib.ExitStack() as shown:
        bar = None

        def show(stage) -> None:
            nonlocal bar
            if bar is None:
                say(f"compiling graphs for recordings of {args.warm_up} s")
                bar = shown.enter_context(Progress(stage.total, "graph"))
            bar(stage.done - bar.done)
            enter(stage)

        engine, kept = open_engine(served, show)
    if not kept:
        budget = engine.generator.pool.budget / 1e9
        say(
            f"warning: --warm-up {args.warm_up}: these graphs take more than {budget:.1f} GB, so some are "
            f"compiled again when they are needed; set {BUDGET}, or fewer lengths, or a smaller --batch-size"
        )
    return engine


def _url(bound) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _names(name: str, aliases: list[str]) -> list[str]:
    """The model's name and its aliases; each is NAME, or NAME=MODEL with the name of the model."""
    names = [name]
    for alias in aliases:
        other, _, model = alias.partition("=")
        if not other or "=" in alias and model != name:
            raise UserError(f"--alias {alias}: expected NAME or NAME={name}, the model served here")
        names.append(other)
    return list(dict.fromkeys(names))


def _check(args) -> tuple[list[float], int]:
    """(seconds of --warm-up, bytes of --max-body); refuses impossible settings before the model is loaded."""
    from mindspore_osum.inference.sampling import Sampling
    from mindspore_osum.speech.long import check_max_seconds

    check_max_seconds(args.max_seconds)
    Sampling(max_new_tokens=args.max_new_tokens)
    serve_ray.check(args)
    for name, least in (("batch_size", 1), ("queue", 1), ("wait", 0), ("grace", 0), ("port", 0)):
        if not least <= getattr(args, name) < (65536 if name == "port" else float("inf")):
            raise UserError(f"--{name.replace('_', '-')} {getattr(args, name)}: not a possible value")
    for origin in args.cors_origin:
        if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#]+", origin):
            raise UserError(f"--cors-origin {origin}: expected an origin like https://example.org, or *")
    if not 0 < args.max_audio < float("inf"):
        raise UserError(f"--max-audio {args.max_audio}: must be above 0")
    if args.max_body is None:
        args.max_body = max(USUAL_BODY, 1 + math.ceil(args.max_audio * WAV_BYTES / MIB))
    if not 0 < args.max_body < float("inf"):
        raise UserError(f"--max-body {args.max_body}: must be above 0")
    if (holds := args.max_body * MIB / DENSE_BYTES) < args.max_audio:
        raise UserError(
            f"--max-body {args.max_body:g}: takes {holds:.0f} s even of MP3 at 32 kbit/s, and --max-audio is "
            f"{args.max_audio:g} s; raise the one or lower the other"
        )
    try:
        seconds = [float(part) for part in args.warm_up.split(",") if part.strip()]
    except ValueError:
        raise UserError(f"--warm-up {args.warm_up}: expected comma-separated seconds, like 2,5") from None
    if not all(0 < s <= args.max_seconds for s in seconds):
        raise UserError(f"--warm-up {args.warm_up}: seconds are above 0 and at most --max-seconds")
    return seconds, round(args.max_body * MIB)


def _token(path: str | None) -> str | None:
    """The token of the file or the environment, None without either."""
    if path is None:
        where, token = TOKEN, os.environ.get(TOKEN)
        if token is None:
            return None
    else:
        where, token = path, read_text(path, "a token")
    token = token.strip()
    if not token or not all("!" <= c <= "~" for c in token):
        raise UserError(f"{where}: the token must be visible ASCII characters without spaces, at least one")
    return token


def _need_packages() -> None:
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(
            f'osum serve needs {error.name}, which is not installed: pip install "mindspore_osum[serve]"'
        ) from None
