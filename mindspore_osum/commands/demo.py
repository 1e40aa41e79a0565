"""`osum demo`: a web page on this machine to record, ask and look."""

import contextlib
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Mapping

from mindspore_osum.commands.arguments import add_model_arguments
from mindspore_osum.commands.console import loading, say
from mindspore_osum.errors import UserError
from mindspore_osum.hub import parse, title
from mindspore_osum.quiet import quiet_libraries
from mindspore_osum.serving.address import binding

EXAMPLES = """\
examples:
  osum demo                                # the bundled model on http://127.0.0.1:7860
  osum demo --model DIR --port 9000
  ssh -L 7860:127.0.0.1:7860 HOST          # a page on another machine: nothing but this machine reaches it
"""
HOST = "127.0.0.1"
GRACE = 2.0  # seconds to end what runs when the page is stopped


def add_arguments(parser) -> None:
    """The arguments of `osum demo`."""
    add_model_arguments(parser, batch_size=None)
    parser.add_argument("--port", type=int, default=7860, metavar="N", help="0: any free one (default 7860)")
    for flag, kind, value, what in (
        ("--max-body", float, 32.0, "longest file in MiB"),
        ("--max-audio", float, 300.0, "longest recording in seconds"),
        ("--max-seconds", float, 30.0, "longer recordings are split at pauses into chunks of this length"),
        ("--max-new-tokens", int, 400, "longest answer to a chunk, in tokens"),
    ):
        parser.add_argument(flag, type=kind, default=value, metavar="N", help=f"{what} (default {value:g})")


def run(args) -> int:
    """Show the page until SIGTERM or Ctrl-C; 0."""
    _check(args)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # no usage statistics are sent
    if parse(args.model) is None:  # nor is anything fetched but a model that is named
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ |= _without_proxy(os.environ)  # gradio checks that its page is reachable
    quiet_libraries()
    warnings.filterwarnings("ignore", module="gradio")  # of one of its libraries about another
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise UserError(
            f'osum demo needs {error.name}, which is not installed: pip install "mindspore_osum[demo]"'
        ) from None
    port = _free_port(args.port)
    from mindspore_osum.api import OSUM
    from mindspore_osum.demo.listener import Limits, Listener
    from mindspore_osum.demo.page import build

    name = title(args.model)  # refuses what is no model folder
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    loading(args)
    limits = Limits(args.max_audio, args.max_seconds, args.max_new_tokens)
    listener = Listener(lambda waiting: OSUM.load(args.model, args.device, waiting), limits)
    page = build(listener, name, _tasks(args.model))
    try:
        _launch(page, port, args.max_body)
        say(f"the page is on http://{HOST}:{port}")
        listener.model.add_done_callback(lambda model: stop.set() if model.exception() else say("ready"))
        stop.wait()
        if listener.model.done():
            listener.model.result()  # raises why there is none
    finally:
        with contextlib.redirect_stdout(sys.stderr):
            page.close(verbose=False)
        idle = listener.close(GRACE)
    say("stopped")
    if not idle:  # the interpreter would wait for a model that is being loaded, or for an answer
        os._exit(0)
    return 0


def _tasks(model: str) -> list[str]:
    """The tasks that a model can be asked, by its config.json."""
    from mindspore_osum.folder import read_config
    from mindspore_osum.hub import model_folder
    from mindspore_osum.inference.request import make_request
    from mindspore_osum.systems.registry import system_of
    from mindspore_osum.tasks import TASKS

    cfg, found = read_config(model_folder(model)), []
    for task in TASKS:
        with contextlib.suppress(UserError):
            system_of(cfg.model_type).check_request(make_request(task), cfg)
            found.append(task)
    return found


def _check(args) -> None:
    """Refuse impossible settings before anything is loaded."""
    from mindspore_osum.inference.sampling import Sampling
    from mindspore_osum.speech.long import check_max_seconds

    check_max_seconds(args.max_seconds)
    Sampling(max_new_tokens=args.max_new_tokens)
    if not 0 <= args.port < 65536:
        raise UserError(f"--port {args.port}: not a possible port")
    for name in ("max_body", "max_audio"):
        if not 0 < getattr(args, name) < float("inf"):
            raise UserError(f"--{name.replace('_', '-')} {getattr(args, name)}: must be above 0")


def _without_proxy(env: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that exclude this machine's own address from any proxy."""
    others = env.get("no_proxy", env.get("NO_PROXY"))  # in this order they are read
    return dict.fromkeys(("no_proxy", "NO_PROXY"), f"{others},{HOST}" if others else HOST)


def _launch(page, port: int, max_body: float) -> None:
    """Open the page; UserError if its port was taken while the model was loaded."""
    from mindspore_osum.demo.page import theme
    from mindspore_osum.demo.views import SCRIPT, STYLE

    try:
        page.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            max_file_size=round(max_body * 2**20),
            ssr_mode=False,
            theme=theme(),
            css=STYLE,
            head=SCRIPT,
            footer_links=[],
        )
    except OSError as error:
        if error.errno is not None:  # gradio's own, of the port, has none
            raise
        raise UserError(f"{HOST} port {port}: it was taken meanwhile; take another") from None


def _free_port(port: int) -> int:
    """`port` itself, or a free one for 0; UserError if it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with binding(HOST, port):
            probe.bind((HOST, port))
        return probe.getsockname()[1]
