"""A plan as text; see report.py for its keys."""

import yaml

from mindspore_osum.planning.layouts import gigabytes
from mindspore_osum.planning.roofline import LIKELY, PUBLISHED

SHOWN = 8  # layouts


def text(plan: dict) -> str:
    """The lines of a plan of training."""
    best = [f"best       {plan['reason']}", *_settings(plan)]
    parts = (_job(plan), _device(plan), _memory(plan), _layouts(plan), best, _answering(plan))
    return "\n\n".join("\n".join(lines) for lines in parts)


def answering_text(plan: dict) -> str:
    """The lines of a plan of answering alone."""
    return "\n\n".join("\n".join(lines) for lines in ([_model(plan)], _device(plan), _answering(plan)))


def _model(plan: dict) -> str:
    sizes = plan["parameters"]
    parts = ", ".join(f"{name} {n / 1e6:.1f} M" for name, n in sizes.items())
    return f"model      {sum(sizes.values()) / 1e9:.3f} B parameters in {plan['dtype']}: {parts}"


def _job(plan: dict) -> list[str]:
    batch = plan["batch"]
    count = batch["audio_rows"]
    audio = f", {count} recordings of {batch['seconds']:g} s" if count else ""
    return [
        _model(plan),
        f"           {', '.join(plan['learn'])} learn",
        f"batch      {batch['rows']} rows of at most {batch['length']} positions (padding included){audio}",
        f"           {plan['micro_batches']} of these a step on each of {plan['devices']} devices",
    ]


def _device(plan: dict) -> list[str]:
    device = plan["device"]
    reserved = ", ".join(f"{name} {gigabytes(size)}" for name, size in device["reserved"].items())
    whole, pool = gigabytes(device["memory"]), gigabytes(device["pool"])
    return [
        f"device     {device['name']}: {whole}, {pool} of it for the job",
        f"           reserved: {reserved}",
    ]


def _memory(plan: dict) -> list[str]:
    best = plan["choices"][0]
    shown = [best, *(c for c in plan["choices"] if c["layout"] == f"{best['layout']} recompute")]
    width = max(18, *(len(c["layout"]) for c in shown[:1]))
    names = {"total": "total", "needed": f"with {plan['margin']:.0%} margin"}
    beside = "     with recompute" if shown[1:] else ""
    lines = [f"memory     {best['layout']:>{width}}{beside}"]
    for part in best["memory"]:
        lines.append(f"  {part:<18}" + "".join(f"{gigabytes(c['memory'][part]):>12}" for c in shown))
    for key, name in names.items():
        lines.append(f"  {name:<18}" + "".join(f"{gigabytes(c[key]):>12}" for c in shown))
    return [*lines, f"  {'of':<18}{gigabytes(plan['limit']):>12}"]


def _layouts(plan: dict) -> list[str]:
    device = plan["device"]
    lines = [
        f"work       {plan['flops_a_micro_batch'] / 1e12:.2f} TFLOP a batch",
        f"least      {LEAST_MEANS.format(name=device['name'])}",
        f"likely     {likely_means(device['launch'])}",
        f"  {'layout':<26}{'memory':>10}{'least':>11}{'likely':>11}{'utt./s':>9}{'MFU':>7}",
    ]
    for c in plan["choices"][:SHOWN]:
        note = ("" if c["fits"] else "does not fit; ") + c["obstacle"].partition(":")[0]
        times = "".join(f"{c[key]:>9.3f} s" for key in ("step_seconds", "likely_seconds"))
        numbers = f"{gigabytes(c['needed']):>10}{times}{c['utterances_a_second']:>9.1f}"
        lines.append(f"  {c['layout']:<26}{numbers}{c['mfu']:>7.0%}  {note}".rstrip())
    return lines


LEAST_MEANS = "a step if every operator runs at a {name}'s peak of arithmetic or memory, without launches"


def likely_means(launch: float) -> str:
    """The assumptions of likely times in one line."""
    r, each = LIKELY, f"{launch * 1e6:.0f} us an operator or more"
    return (
        f"assumed: matrix products at {r.matmul:.0%}, attention at {r.attention:.0%}, memory at "
        f"{r.memory:.0%} and links at {r.links:.0%} of the peak, {each}; {PUBLISHED}"
    )


def _settings(plan: dict) -> list[str]:
    written = yaml.safe_dump(plan["settings"], sort_keys=False, default_flow_style=None, width=200)
    said = plan["job_max_device_memory"]
    instead = f" instead of max_device_memory: {said}" if said else ""
    return [
        f"write      into the job's YAML{instead}:",
        *(f"             {line}" for line in written.splitlines()),
    ]


def _answering(plan: dict) -> list[str]:
    answer, limit = plan["inference"], plan["limit"]
    parts = ", ".join(f"{name} {gigabytes(size)}" for name, size in answer["memory"].items())
    least, likely = (
        f"{answer[f'{kind}prefill_seconds'] * 1e3:.0f} ms for the prompts and "
        f"{answer[f'{kind}step_seconds'] * 1e3:.1f} ms a token"
        for kind in ("", "likely_")
    )
    lines = [
        f"answering  {answer['rows']} at once, prompts of {answer['prompt']}, caches of {answer['places']}: "
        + gigabytes(answer["total"])
        + ("" if answer["fits"] else ", does not fit"),
        f"           {parts}",
        f"           at least {least}",
        f"           likely {likely}: {answer['tokens_a_second']:.0f} tokens/s",
    ]
    if answer["exported"] is not None:  # models of some systems cannot be
        twice, once = (
            f"{gigabytes(size)} {'fit' if size <= limit else 'do not fit'}"
            for size in (answer["exported"], answer["exported_shared"])
        )
        lines += [
            f"exported   {twice}: prefill and decode hold the decoder's weights each",
            f"           {once} where the runtime shares weights between graphs",
        ]
    return lines
