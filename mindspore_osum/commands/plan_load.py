"""`osum plan --serve` and `--annotate`: devices and hours for a load."""

import json
import math
from collections.abc import Callable

from mindspore_osum.errors import UserError
from mindspore_osum.files import read_json

SECONDS, LONGEST = 10.0, 30.0  # mean seconds of a recording where none are given; of a chunk at most
OF_SERVE, OF_ANNOTATE = ("latency",), ("within", "tasks")
OF_BOTH = ("seconds", "tokens", "rtf")
IN_RTF = ("model", "device", "memory", "dtype", "tokens")  # what a measurement has in it already
SPEED_KEY = "whisper_8_ours"  # of `osum bench whisper`: times real time, windows of 30 s in batches of 8


def add_arguments(parser) -> None:
    """The arguments for a load."""
    group = parser.add_argument_group("devices for a load, instead of a job")
    group.add_argument("--serve", type=float, metavar="RATE", help="answer so many requests a second")
    group.add_argument("--annotate", type=float, metavar="HOURS", help="label so many hours of recordings")
    group.add_argument(
        "--seconds", type=float, metavar="S", help=f"mean seconds of a recording (default {SECONDS:g})"
    )
    group.add_argument(
        "--tokens",
        type=int,
        metavar="N",
        help="tokens of the longest answer of a batch (default: 5 a second)",
    )
    group.add_argument(
        "--rtf",
        metavar="RTF|FILE",
        help="measured seconds of computing for a second of audio, in batches of --answers, or a file with "
        "it: metrics.json of osum eval, bench.json of osum bench whisper (default: the roofline of --device)",
    )
    group.add_argument("--latency", type=float, metavar="S", help="--serve: each request within S seconds")
    group.add_argument(
        "--within",
        type=float,
        metavar="HOURS",
        help="--annotate: devices for this time (default: time for --devices)",
    )
    group.add_argument(
        "--tasks", metavar="T[,T...]", help="--annotate: as in osum annotate (default: all eight)"
    )


def asked(args) -> bool:
    """Whether a load is to be planned.

    Raises
    ------
    UserError : options that do not go together, or impossible values.
    """
    load = args.serve is not None or args.annotate is not None
    for names, mode in ((OF_SERVE, "serve"), (OF_ANNOTATE, "annotate"), (OF_BOTH, None)):
        for name in names:
            if getattr(args, name) is not None and (getattr(args, mode) is None if mode else not load):
                raise UserError(f"--{name}: goes with " + (f"--{mode}" if mode else "--serve or --annotate"))
    if not load:
        return False
    if args.serve is not None and args.annotate is not None:
        raise UserError("--serve and --annotate: plan one load at a time")
    for name in ("config", "check_operators"):
        if getattr(args, name):
            raise UserError(f"--{name.replace('_', '-')}: plans a job; leave it away to plan a load")
    if args.devices is not None and (args.serve is not None or args.within is not None):
        raise UserError("--devices: follow from the load here; leave it away")
    for name in ("serve", "annotate", "seconds", "tokens", "latency", "within"):
        value = getattr(args, name)
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"--{name} {value:g}: must be a finite number above 0")
    if args.seconds is not None and args.seconds > LONGEST:
        raise UserError(
            f"--seconds {args.seconds:g}: longer recordings are split at pauses into chunks of at most "
            f"{LONGEST:g} s; give the mean seconds of a chunk"
        )
    return True


def run(args, device, memory: int, read_model: Callable) -> int:
    """Print the plan of a load; UserError, so exit status 1, if no number of devices does it.

    Parameters
    ----------
    read_model : the configuration of --model.
    """
    from mindspore_osum.planning import load as loads
    from mindspore_osum.planning.load_text import assumptions, text

    seconds = SECONDS if args.seconds is None else args.seconds
    tokens = args.tokens or math.ceil(loads.TOKENS_A_SECOND * seconds)
    requests = _requests(args)
    load = loads.Load(seconds, None if args.rtf else tokens, len(requests))
    facts, source = {}, ""
    if args.rtf is not None:
        rtf, source = _rtf(args)
        batches, device = loads.measured(rtf, load, args.answers), None
    else:
        batches, facts = _planned(args, device, memory, load, requests, read_model)
        source = f"{args.model} in {facts['dtype']} on a {device.name}; nothing of it was measured"
    if args.serve is not None:
        plan = loads.serving(batches, load, args.serve, args.latency)
    else:
        plan = loads.labelling(batches, load, args.annotate, args.devices or 1, args.within)
    plan |= facts | {"assumptions": assumptions(plan, source, device, args.tokens is not None)}
    print(json.dumps(plan, ensure_ascii=False) if args.json else text(plan))
    return 0


def _planned(args, device, memory: int, load, requests, read_model) -> tuple[list, dict]:
    """The batches by the roofline, and what is planned for; UserError for requests that the model refuses."""
    from mindspore_osum.inference.sampling import Sampling
    from mindspore_osum.planning.job import Job
    from mindspore_osum.planning.load import planned
    from mindspore_osum.planning.report import device_facts, model_facts
    from mindspore_osum.systems.registry import system_of

    if not args.model:
        raise UserError("give --model NAME for the roofline of --device, or --rtf with what was measured")
    model = read_model()
    for request in requests:
        if request:
            system_of(model.model_type).check_request(request, model)
    job, limit = Job(model, frozenset(), model.dtype != "float32"), device.pool(memory)
    batches = planned(job, device, limit, load, args.answers, Sampling().max_new_tokens)
    return batches, {"device": device_facts(device, memory), "limit": limit, **model_facts(job)}


def _requests(args) -> list:
    """What each recording is asked, one by one; of a server one request, which is not known."""
    if args.annotate is None:
        return [None]
    from mindspore_osum.inference.passes import plan
    from mindspore_osum.tasks import TASKS

    tasks = [name.strip() for name in args.tasks.split(",")] if args.tasks is not None else list(TASKS)
    return plan(tasks)


def _rtf(args) -> tuple[float, str]:
    """The measured real-time factor, and where it is from."""
    for name in IN_RTF:
        if getattr(args, name) is not None:
            raise UserError(
                f"--{name}: an RTF is measured with it; leave --{name} away, or --rtf for the roofline"
            )
    try:
        rtf, source = float(args.rtf), f"real-time factor {args.rtf}, as given"
    except ValueError:
        rtf = _read_rtf(args.rtf)
        source = f"real-time factor {rtf:.4g}, measured: {args.rtf}"
    if not 0 < rtf < math.inf:
        raise UserError(f"--rtf {args.rtf}: must be a finite number above 0")
    return rtf, source


def _read_rtf(path: str) -> float:
    """The real-time factor in a report of `osum eval` or `osum bench whisper`."""
    report = read_json(path, "a report")
    speed, figures = report.get("speed"), report.get("figures")
    if isinstance(speed, dict) and _is_number(speed.get("rtf")):
        return float(speed["rtf"])
    if isinstance(figures, dict) and _is_number(times := figures.get(SPEED_KEY)) and times > 0:
        return 1 / times
    raise UserError(
        f"{path}: has no real-time factor; give the metrics.json of osum eval (speed.rtf), the bench.json of "
        f"osum bench whisper (figures.{SPEED_KEY}), or the number"
    )


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
