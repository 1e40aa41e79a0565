"""The plan of a load as text; see load.py for its keys."""

from mindspore_osum.planning.hardware import NODE
from mindspore_osum.planning.layouts import gigabytes
from mindspore_osum.planning.load import BUSY, TOKENS_A_SECOND
from mindspore_osum.planning.text import LEAST_MEANS, likely_means


def text(plan: dict) -> str:
    """The lines of a plan of labelling or serving."""
    lines = _labelling(plan) if "audio_hours" in plan else _serving(plan)
    return "\n".join([*lines, "assumed", *(f"  - {line}" for line in plan["assumptions"])])


def assumptions(plan: dict, source: str, device, tokens_given: bool) -> list[str]:
    """What a plan takes for granted, a line each.

    Parameters
    ----------
    source : what was measured, or which model is planned.
    device : of the roofline; None where the time was measured.
    tokens_given : whether the number of tokens is the user's.
    """
    rows, passes = plan["batch"]["rows"], plan["passes"]
    lines = [source, f"a whole model on each device, {NODE} devices a host"]
    if device is None:
        lines += [
            f"measured in batches of {rows} (--answers), on the device and with the answers planned for"
        ]
    else:
        usual = "" if tokens_given else f": {TOKENS_A_SECOND:g} a second of audio, an assumption"
        lines += [
            f"a batch is answered to its longest answer, {plan['tokens']} tokens{usual}",
            "least: " + LEAST_MEANS.format(name=device.name),
            "likely, which devices follow: " + likely_means(device.launch).removeprefix("assumed: "),
        ]
    if "audio_hours" in plan:
        lines += ["recordings are split evenly, and each device always has a full batch"]
        if passes > 1:
            lines += [f"{passes} answers to each recording, each as long and computed from the recording on"]
    else:
        lines += [
            f"devices are busy {BUSY:.0%} of the time at this rate; bursts above it wait longer",
            "a request waits for the batch that runs and for its own; streamed answers are computed alone",
        ]
    return [*lines, "reading, decoding and log-mel keep up (osum bench features), and nothing is compiled"]


def _labelling(plan: dict) -> list[str]:
    least = plan["least_device_hours"]
    bound = "" if least is None else f", at least {least:,.1f}"
    return [
        f"label      {plan['audio_hours']:,.10g} h of audio in recordings of {plan['seconds']:g} s",
        f"speed      {_batch(plan['batch'])}; real-time factor {plan['rtf']:.4f} of a device",
        f"work       {plan['device_hours']:,.1f} device hours{bound}",
        f"devices    {plan['devices']} ({_hosts(plan['hosts'])}): {plan['hours']:,.2f} h",
    ]


def _serving(plan: dict) -> list[str]:
    target = plan["latency_target"]
    asked = "" if target is None else f", each within {target:g} s"
    lines = [
        f"serve      {plan['requests_a_second']:,.10g} requests/s of {plan['seconds']:g} s of audio{asked}",
        f"  {'batch':>5}{'memory':>10}{'seconds':>9}{'req./s a device':>17}{'answered in':>17}{'devices':>9}",
    ]
    for row in plan["choices"]:
        batch = row["batch"]
        memory = "" if batch["memory"] is None else gigabytes(batch["memory"])
        late = "  too slow" if target is not None and row["latency"] > target else ""
        numbers = f"{batch['seconds']:>9.3f}{row['requests_a_device']:>17.2f}{row['latency']:>15.2f} s"
        lines.append(f"  {batch['rows']:>5}{memory:>10}{numbers}{row['devices']:>9}{late}")
    lines.append(
        f"devices    {plan['devices']} ({_hosts(plan['hosts'])}), batches of {plan['batch']['rows']}: "
        f"answered within {plan['latency']:.2f} s"
    )
    return lines


def _batch(batch: dict) -> str:
    least = "" if batch["least"] is None else f", at least {batch['least']:.3f}"
    memory = "" if batch["memory"] is None else f", {gigabytes(batch['memory'])}"
    return f"batches of {batch['rows']} in {batch['seconds']:.3f} s{least}{memory}"


def _hosts(count: int) -> str:
    return f"{count} host{'s' * (count != 1)}"
