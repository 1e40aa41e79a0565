"""Devices and hours for a load: recordings to label, or requests to answer, a whole model on each device.

Notable choices
- The unit is a batch of recordings that are answered together to the end, as `osum annotate` and `osum serve`
  do.
- Serving: a request waits for the batch that is computed when it arrives and for its own. Two batches bound
  its time as long as batches are not overfull, so devices are planned to be busy `BUSY` of the time.
- A measured real-time factor takes the place of the roofline: it has model, device and answers in it.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mindspore_osum.errors import UserError
from mindspore_osum.planning.hardware import NODE, Device
from mindspore_osum.planning.job import Job
from mindspore_osum.planning.layouts import gigabytes
from mindspore_osum.planning.programs import cost_of
from mindspore_osum.planning.report import inference, prompt_of

BUSY = 0.7  # share of the time that a device answers; the rest is for bursts: an assumption
TOKENS_A_SECOND = 5.0  # of speech that is written down with labels: an assumption
WAITS = 2  # batches until a request is answered: the one that runs, and its own


@dataclass(frozen=True)
class Load:
    """What is asked of each recording.

    Attributes
    ----------
    seconds : of audio.
    tokens : of an answer, the longest of a batch; None where they are part of a measurement.
    passes : answers to a recording, each computed on its own.
    """

    seconds: float
    tokens: int | None
    passes: int = 1


@dataclass(frozen=True)
class Batch:
    """Recordings answered together once on a device.

    Attributes
    ----------
    seconds : for the answers to all `rows`.
    least : the same if every operator ran at the device's peaks; None where `seconds` was measured.
    memory : bytes; None where it is not known.
    """

    rows: int
    seconds: float
    least: float | None = None
    memory: int | None = None


def planned(job: Job, device: Device, limit: int, load: Load, most: int, capacity: int) -> list[Batch]:
    """The batches of 1, 2, 4, ... recordings, at most `most`, that fit a device, by the roofline.

    Parameters
    ----------
    limit : bytes of the device for the job.
    capacity : tokens of an answer for which the KV cache has slots.

    Raises
    ------
    UserError : not even one recording fits, or the model writes no such answer.
    """
    can = cost_of(job.model).answer_tokens(job.model, load.tokens)
    if can < load.tokens:
        raise UserError(f"--tokens {load.tokens}: this model writes at most {can}")
    prompt, found = prompt_of(job.model, load.seconds), []
    for rows in (1 << n for n in range(most.bit_length())):
        one = inference(job, prompt, rows, max(capacity, load.tokens), device, limit)
        if not one["fits"]:
            if not found:
                need, has = gigabytes(one["total"]), gigabytes(limit)
                raise UserError(
                    f"{device.name}: one recording needs {need} and it has {has}; take a larger device"
                )
            break
        likely, least = (
            one[f"{kind}prefill_seconds"] + load.tokens * one[f"{kind}step_seconds"]
            for kind in ("likely_", "")
        )
        found.append(Batch(rows, likely, least, one["total"]))
    return found


def measured(rtf: float, load: Load, rows: int) -> list[Batch]:
    """The batch of a measurement: `rtf` seconds of computing for a second of audio, `rows` together."""
    return [Batch(rows, rtf * load.seconds * rows)]


def labelling(batches: Sequence[Batch], load: Load, hours: float, devices: int, within: float | None) -> dict:
    """Devices and hours to label `hours` of recordings, with the batch that is fastest.

    Parameters
    ----------
    devices : that there are, if nothing is said about the time.
    within : hours that it may take; devices follow.
    """

    def spent(seconds: float, rows: int) -> float:
        return hours * load.passes * seconds / (rows * load.seconds)

    best = min(batches, key=lambda batch: batch.seconds / batch.rows)
    total = spent(best.seconds, best.rows)
    if within:
        devices = math.ceil(total / within)
    return {
        "audio_hours": hours,
        **asdict(load),
        "batch": asdict(best),
        "rtf": total / hours,
        "device_hours": total,
        "least_device_hours": None if best.least is None else spent(best.least, best.rows),
        "devices": devices,
        "hosts": -(-devices // NODE),
        "hours": total / devices,
    }


def serving(batches: Sequence[Batch], load: Load, rate: float, latency: float | None) -> dict:
    """Devices that answer `rate` requests a second, each within `latency` seconds if that is given.

    Raises
    ------
    UserError : no batch is that fast.
    """
    rows = [_served(batch, rate) for batch in batches]
    quick = [row for row in rows if latency is None or row["latency"] <= latency]
    if not quick:
        least = min(row["latency"] for row in rows)
        raise UserError(
            f"--latency {latency:g}: a request can take {least:.2f} s even in the smallest batch; give more "
            "time, fewer --tokens or a faster --device"
        )
    best = min(quick, key=lambda row: (row["devices"], row["latency"]))
    return {
        "requests_a_second": rate,
        **asdict(load),
        "latency_target": latency,
        "busy": BUSY,
        "choices": rows,
        **{key: best[key] for key in ("batch", "devices", "hosts", "latency")},
    }


def _served(batch: Batch, rate: float) -> dict:
    capacity = batch.rows / batch.seconds
    devices = max(1, math.ceil(rate / (BUSY * capacity)))
    return {
        "batch": asdict(batch),
        "requests_a_device": capacity,
        "devices": devices,
        "hosts": -(-devices // NODE),
        "latency": WAITS * batch.seconds,
    }
