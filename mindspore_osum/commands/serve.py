"""`osum serve`: the model behind HTTP, with OpenAI's API."""

import os
import signal
from pathlib import Path

from mindspore_osum.commands.arguments import add_model_arguments
from mindspore_osum.commands.console import loading, say
from mindspore_osum.errors import UserError
from mindspore_osum.quiet import quiet_libraries
from mindspore_osum.serving.address import TOKEN, bind, binding

EXAMPLES = """\
examples:
  osum serve                                                     # the bundled model on http://127.0.0.1:8000/v1
  osum serve --model DIR --warm-up 2,5,10 --port 9000            # compile for these seconds before it opens
  osum serve --host 0.0.0.0 --token-file token.txt               # for others: only with a token
  curl -F file=@a.wav -F model=tiny -F response_format=srt http://127.0.0.1:8000/v1/audio/transcriptions
"""
BACKLOG = 128


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
        "--warm-up",
        default="",
        metavar="S[,S...]",
        help="compile for recordings of these seconds, in all batch sizes, before the port opens",
    )
    for flag, kind, value, what in (
        ("--wait", float, 5.0, "milliseconds that the first of several requests waits for others"),
        ("--queue", int, 64, "requests at once; more are refused, to come again later (503)"),
        ("--max-body", float, 32.0, "longest body in MiB"),
        ("--max-audio", float, 7200.0, "longest recording in seconds"),
        ("--max-seconds", float, 30.0, "longer recordings are split at pauses into chunks of this length"),
        ("--max-new-tokens", int, 400, "longest answer to a chunk, in tokens"),
        ("--grace", float, 30.0, "seconds to finish what runs after SIGTERM"),
    ):
        parser.add_argument(flag, type=kind, default=value, metavar="N", help=f"{what} (default {value:g})")


def run(args) -> int:
    """Serve until SIGTERM or Ctrl-C; 0 after a graceful stop."""
    seconds = _check(args)
    token = _token(args.token_file)
    _need_packages()
    bound = bind(args.host, args.port, token)
    quiet_libraries()
    import uvicorn

    from mindspore_osum.folder import find_model
    from mindspore_osum.inference.engine import Engine
    from mindspore_osum.inference.sampling import Sampling
    from mindspore_osum.serving.app import Limits, create_app
    from mindspore_osum.serving.batcher import Batcher
    from mindspore_osum.serving.metrics import Metrics
    from mindspore_osum.serving.warm_up import warm_up

    def engine():
        made = Engine(args.model, args.device)
        warm_up(made, seconds, args.batch_size, Sampling(max_new_tokens=args.max_new_tokens))
        return made

    name = args.name or find_model(args.model).resolve().name
    loading(args.model)
    metrics = Metrics()
    batcher = Batcher(
        engine,
        metrics,
        batch_size=args.batch_size,
        wait_s=args.wait / 1000,
        chunk_seconds=args.max_seconds,
        audio_seconds=args.max_audio,
    )
    limits = Limits(
        body_bytes=round(args.max_body * 2**20), places=args.queue, max_new_tokens=args.max_new_tokens
    )
    config = uvicorn.Config(
        create_app(batcher, metrics, name, limits, token),
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=max(1, round(args.grace)),
        backlog=BACKLOG,
    )
    try:
        # uvicorn stops gracefully and raises the signal again; this is ignored, and the exit status is 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        with binding(args.host, args.port):  # another server may listen there by now
            bound.listen(BACKLOG)  # clients that connect from here on are queued
        host, port = bound.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        say(f"{name} is served on http://{shown}:{port}/v1")
        uvicorn.Server(config).run(sockets=[bound])
    finally:
        batcher.stop()
    say("stopped")
    return 0


def _check(args) -> list[float]:
    """The seconds of --warm-up; refuses impossible settings before the model is loaded."""
    from mindspore_osum.inference.sampling import Sampling
    from mindspore_osum.speech.long import check_max_seconds

    check_max_seconds(args.max_seconds)
    Sampling(max_new_tokens=args.max_new_tokens)
    for name, least in (("batch_size", 1), ("queue", 1), ("wait", 0), ("grace", 0), ("port", 0)):
        if not least <= getattr(args, name) < (65536 if name == "port" else float("inf")):
            raise UserError(f"--{name.replace('_', '-')} {getattr(args, name)}: not a possible value")
    for name in ("max_body", "max_audio"):
        if not 0 < getattr(args, name) < float("inf"):
            raise UserError(f"--{name.replace('_', '-')} {getattr(args, name)}: must be above 0")
    try:
        seconds = [float(part) for part in args.warm_up.split(",") if part.strip()]
    except ValueError:
        raise UserError(f"--warm-up {args.warm_up}: expected comma-separated seconds, like 2,5") from None
    if not all(0 < s <= args.max_seconds for s in seconds):
        raise UserError(f"--warm-up {args.warm_up}: seconds are above 0 and at most --max-seconds")
    return seconds


def _token(path: str | None) -> str | None:
    """The token of the file or the environment, None without either."""
    if path is None:
        where, token = TOKEN, os.environ.get(TOKEN)
        if token is None:
            return None
    else:
        where = path
        try:
            token = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise UserError(f"{path}: cannot read the token ({reason})") from None
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
