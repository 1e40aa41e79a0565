"""A plan as text; see report.py for its keys."""

from mindspore_osum.planning.layouts import gigabytes

SHOWN = 8  # layouts


def text(plan: dict) -> str:
    """The lines of a plan."""
    best = f"best       {plan['reason']}"
    parts = (_job(plan), _memory(plan), _layouts(plan), [best], _answering(plan["inference"]))
    return "\n\n".join("\n".join(lines) for lines in parts)


def _job(plan: dict) -> list[str]:
    sizes, batch = plan["parameters"], plan["batch"]
    parts = ", ".join(f"{name} {n / 1e6:.1f} M" for name, n in sizes.items())
    count = batch["audio_rows"]
    audio = f", {count} recordings of {batch['seconds']:g} s" if count else ""
    return [
        f"model      {sum(sizes.values()) / 1e9:.3f} B parameters in {plan['dtype']}: {parts}",
        f"           {', '.join(plan['learn'])} learn",
        f"batch      {batch['rows']} rows of {batch['length']} positions{audio}",
        f"           {plan['micro_batches']} of these a step on each of {plan['devices']} devices",
    ]


def _memory(plan: dict) -> list[str]:
    best = plan["choices"][0]
    shown = [best, *(c for c in plan["choices"] if c["layout"] == f"{best['layout']} recompute")]
    names = {"total": "total", "needed": f"with {plan['margin']:.0%} margin"}
    beside = "     with recompute" if shown[1:] else ""
    lines = [f"memory     {best['layout']:>18}{beside}"]
    for part in best["memory"]:
        lines.append(f"  {part:<18}" + "".join(f"{gigabytes(c['memory'][part]):>12}" for c in shown))
    for key, name in names.items():
        lines.append(f"  {name:<18}" + "".join(f"{gigabytes(c[key]):>12}" for c in shown))
    return [*lines, f"  {'of':<18}{gigabytes(plan['limit']):>12}"]


def _layouts(plan: dict) -> list[str]:
    lines = [
        f"work       {plan['flops_a_micro_batch'] / 1e12:.2f} TFLOP a batch",
        f"           times are the least a {plan['device']['name']} could take, rates the most",
        f"  {'layout':<26}{'memory':>10}{'step':>11}{'utt./s':>9}{'MFU':>7}",
    ]
    for c in plan["choices"][:SHOWN]:
        note = ("" if c["fits"] else "does not fit; ") + c["obstacle"].partition(":")[0]
        numbers = f"{gigabytes(c['needed']):>10}{c['step_seconds']:>9.3f} s{c['utterances_a_second']:>9.1f}"
        lines.append(f"  {c['layout']:<26}{numbers}{c['mfu']:>7.0%}  {note}".rstrip())
    return lines


def _answering(answer: dict) -> list[str]:
    parts = ", ".join(f"{name} {gigabytes(size)}" for name, size in answer["memory"].items())
    return [
        f"answering  {answer['rows']} at once, prompts of {answer['prompt']}, caches of {answer['places']}: "
        + gigabytes(answer["total"])
        + ("" if answer["fits"] else ", does not fit"),
        f"           {parts}",
        f"           at least {answer['prefill_seconds'] * 1e3:.0f} ms for the prompts and "
        f"{answer['step_seconds'] * 1e3:.1f} ms a token: {answer['tokens_a_second']:.0f} tokens/s at most",
    ]
