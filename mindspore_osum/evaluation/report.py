"""report.md: the metrics of an evaluation in readable form, compared with the published ones."""

from collections.abc import Iterator, Mapping, Sequence

from mindspore_osum.evaluation.published import Figure, by_table, find_set, metrics, obstacle, published_sets
from mindspore_osum.evaluation.requests import FIXED, NATURAL
from mindspore_osum.tasks import TASKS

SHOWN_PROBLEMS = 20
# name in metrics.json -> title: the metrics of the first table, in this order
MEASURES = {
    "wer": "WER/CER",
    "cer": "character error rate",
    "aas_ms": "AAS",
    "match_rate": "matched words",
    "accuracy": "accuracy",
    "unweighted_accuracy": "unweighted accuracy",
    "macro_f1": "macro F1",
    "judge_score": "judged 1-10",
    "judge_reference_score": "judged 1-10, real answers",
    "rouge_l": "ROUGE-L",
    "bleu": "BLEU",
}
INTERVALS = {"aas_ms": "aas_interval_ms"}  # interval names that are not <name>_interval
Row = Sequence[object]


def write_report(result: Mapping, problems: Mapping[str, Sequence[str]], plots: Sequence[str]) -> str:
    """Return the report as Markdown.

    Parameters
    ----------
    result : the content of metrics.json
    problems : kind of problem -> one line for each
    plots : names of image files in the report's folder
    """
    tables = (line for title, head, rows in TABLES for line in _table(title, head, list(rows(result))))
    lines = [*_head(result), *tables]
    return "\n".join([*lines, *_problems(problems), *_plots(plots), *_notes(result)]) + "\n"


def summary(result: Mapping, problems: Mapping[str, Sequence[str]]) -> str:
    """Return the main numbers and the counts of problems, for a terminal."""
    lines = [
        f"{mode:<8} {task:<9} {title:<28} {shown:>9}  {interval}"
        for task, mode, title, shown, interval, _ in _results(result)
    ]
    lines += [f"{'ifr':<8} {judge:<38} {shown:>9}  {interval}" for judge, shown, interval in _ifr(result)]
    return "\n".join([*lines, *(f"{kind}: {len(some)}" for kind, some in problems.items() if some)])


def _head(result: Mapping) -> Iterator[str]:
    run, speed = result["run"], result["speed"]
    yield "# Evaluation"
    yield ""
    yield f"- model: `{run['model']}`" if run["model"] else f"- answers: `{run['predictions']}`"
    limit = f" (limited to {run['limit']})" if run["limit"] else ""
    yield f"- manifest: `{run['manifest']}`, {result['counts']['utterances']} utterances{limit}"
    yield f"- prompts: {', '.join(run['prompts'])}"
    if run["numbers"]:
        yield "- numbers: in transcripts and replies number words count as their digits (`--numbers`)"
    if speed["rtf"] is not None:
        yield (
            f"- speed: {speed['audio_seconds']:.1f} s of audio in {speed['compute_seconds']:.1f} s of "
            f"computing, real-time factor {speed['rtf']:.3f}"
        )


def _results(result: Mapping) -> Iterator[Row]:
    for mode, task, part, scores in _parts(result):
        for name, title in MEASURES.items():
            if scores.get(name) is not None and not (part and name == "cer" and task != "srwt"):
                title = f"{part} {title}".strip()
                interval = scores.get(INTERVALS.get(name, f"{name}_interval"))
                items = scores.get("utterances", scores.get("items"))
                yield task, mode, title, _show(name, scores[name]), _between(name, interval), items


def _sets(result: Mapping) -> Iterator[Row]:
    """The first metric of each task on each test set, if there are several sets."""
    for name, modes in result["sets"].items():
        first: dict[tuple, Row] = {}
        for row in _results(modes):
            first.setdefault((row[0], row[1]), row)
        yield from ((name, *row) for row in first.values() if len(result["sets"]) > 1)


def _keys(result: Mapping) -> Iterator[Row]:
    """The contribution of each task key to a task, unless the task's own key is the only one."""
    for mode, task, _, scores in _parts(result):
        keys = scores.get("keys", {})
        for key, some in keys.items():
            name = next((n for n in some if n in MEASURES), None)
            if len(keys) > 1 or task in TASKS and key != TASKS[task].key:
                value = (MEASURES[name], _show(name, some[name])) if name else ("", "")
                yield task, mode, key, some["utterances"], *value


def _combined(result: Mapping) -> Iterator[Row]:
    for mode, keys in result.get("combined", {}).items():
        for key, some in keys.items():
            labels = (f"{task} {_show('accuracy', some[task])}" for task in [*TASKS][1:] if task in some)
            shown = _show("whole", some["whole"]), _show("wer", some.get("asr")), ", ".join(labels)
            yield key, mode, some["utterances"], *shown


def _languages(result: Mapping) -> Iterator[Row]:
    for mode, task, _, scores in _parts(result):
        for language, some in scores.get("languages", {}).items():
            if len(scores["languages"]) > 1:
                yield task, mode, language, some["tokens"], _show("wer", some["wer"])


def _classes(result: Mapping) -> Iterator[Row]:
    for mode, task, _, scores in _parts(result):
        for value, some in scores.get("recall", {}).items():
            shown = _between("accuracy", some["interval"])
            yield task, mode, value, some["items"], _show("accuracy", some["recall"]), shown


def _ifr(result: Mapping) -> Iterator[Row]:
    if ifr := result.get("ifr"):
        yield "rule", _show("rule", ifr["rule"]), _between("rule", ifr["rule_interval"])
        for task, some in ifr["by_task"].items():
            shown = _between("rule", some["rule_interval"])
            yield f"rule, {task}", _show("rule", some["rule"]), shown
        if "llm" in ifr:
            missing = f"not reported: {ifr['missing_verdicts']} verdicts are missing"
            shown = missing if ifr["llm"] is None else _show("llm", ifr["llm"])
            yield ifr["judge"], shown, _between("llm", ifr["llm_interval"])
            if ifr["agreement"] is not None:
                kappa = "" if ifr["kappa"] is None else f", kappa {ifr['kappa']:.2f}"
                yield f"agreement of rule and {ifr['judge']}", f"{_show('rule', ifr['agreement'])}{kappa}", ""


def _paired(result: Mapping) -> Iterator[Row]:
    for task, pair in result.get("difference", {}).items():
        name = pair["metric"]
        difference = "" if pair["difference"] is None else _show(name, pair["difference"], "+")
        yield (
            task,
            MEASURES[name],
            _show(name, pair["fixed"]),
            _show(name, pair["natural"]),
            difference,
            _between(name, pair["interval"], "+"),
            pair["pairs"],
        )


def _published(result: Mapping) -> Iterator[Row]:
    """The published figures of measured tasks, with our value on that set or, without it, on all sets."""
    limited = bool(result["run"]["limit"])
    for figure, systems in by_table():
        metric = metrics()[figure.metric]
        mine = [modes for name, modes in result["sets"].items() if find_set(name) == figure.set]
        ours = {
            mode: _ours(result, (mine[0] if mine else result).get(mode, {}), figure, mode)
            for mode in (FIXED, NATURAL)
            if figure.prompts in (None, mode)
        }
        if not any(ours.values()):
            continue
        utterances = max(found[1] for found in ours.values() if found)
        why = obstacle(figure, bool(mine), utterances, limited)
        shown = [metric.show(ours[mode][0]) if ours.get(mode) else "" for mode in (FIXED, NATURAL)]
        asked = f", {figure.prompts} prompts" if figure.prompts else ""
        yield (
            figure.task,
            published_sets()[figure.set].title,
            f"{metric.title}, {metric.unit}",
            f"{systems} ({figure.source}{asked})",
            *shown,
            why,
        )


def _ours(result: Mapping, tasks: Mapping, figure: Figure, mode: str) -> tuple[float, int] | None:
    """Our value of a figure's metric and its number of utterances; None if it was not measured."""
    scores, metric = tasks.get(figure.task), figure.metric
    if figure.task == "ifr" and mode == NATURAL:
        scores = result.get("ifr", {})
        if scores.get("llm") is None:  # published: judged by a language model; without one, use the rule
            metric = "rule"
    if not scores or scores.get(metric) is None:
        return None
    return scores[metric], scores.get("utterances", scores.get("items"))


def _parts(result: Mapping) -> Iterator[tuple[str, str, str, Mapping]]:
    """(prompts, task, part, scores) of the task itself, then of its transcripts."""
    for mode in (FIXED, NATURAL):
        for task, scores in result.get(mode, {}).items():
            yield mode, task, "", scores
            if transcript := scores.get("transcript"):
                yield mode, task, "transcript", transcript


def _table(title: str, head: Row, rows: Sequence[Row]) -> Iterator[str]:
    if rows:
        yield from ("", f"## {title}", "")
        for row in (head, ["---"] * len(head), *rows):
            cells = (_plain("" if cell is None else str(cell)).replace("|", "\\|") for cell in row)
            yield f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Escape tags, which Markdown would read as HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _show(name: str, value: float | None, sign: str = "") -> str:
    if value is None:
        return ""
    if name == "aas_ms":
        return f"{value:{sign}.2f} ms"
    if name in ("judge_score", "judge_reference_score"):
        return f"{value:{sign}.2f}"
    return f"{100 * value:{sign}.2f}%"


def _between(name: str, interval: Sequence[float] | None, sign: str = "") -> str:
    return "" if interval is None else f"{_show(name, interval[0], sign)} to {_show(name, interval[1], sign)}"


def _problems(problems: Mapping[str, Sequence[str]]) -> Iterator[str]:
    yield from ("", "## Problems", "")
    if not any(problems.values()):
        yield "None: every line of the manifest was read, answered and scored."
    for kind, lines in problems.items():
        if lines:
            yield f"- {kind}: {len(lines)}"
            yield from (f"    - {_plain(line)}" for line in lines[:SHOWN_PROBLEMS])
            if len(lines) > SHOWN_PROBLEMS:
                yield f"    - and {len(lines) - SHOWN_PROBLEMS} more, see problems.txt"


def _plots(plots: Sequence[str]) -> Iterator[str]:
    if plots:
        yield from ("", "## Plots", "")
        yield from (f"![{name}]({name})" for name in plots)


def _notes(result: Mapping) -> Iterator[str]:
    yield from ("", "## How it was measured", "")
    yield "An utterance counts for each task whose label, times or reply its key announces."
    yield "Intervals are bootstrap intervals over utterances. Every measure's definition: docs/EVALUATION.md."
    if "difference" in result:
        yield "Fixed and natural prompts are compared in pairs: same recordings, same resamples of them."


TABLES = (  # title, head, rows
    ("Results", ("task", "prompts", "measure", "value", "95% interval", "utterances"), _results),
    ("By test set", ("set", "task", "prompts", "measure", "value", "95% interval", "utterances"), _sets),
    ("By task key", ("task", "prompts", "key", "utterances", "measure", "value"), _keys),
    (
        "Several things at once",
        ("key", "prompts", "utterances", "whole answers", "WER/CER", "accuracy"),
        _combined,
    ),
    ("By language", ("task", "prompts", "language", "tokens", "error rate"), _languages),
    ("By class", ("task", "prompts", "class", "items", "recall", "95% interval"), _classes),
    ("Instruction following", ("judge", "followed", "95% interval"), _ifr),
    (
        "Fixed instructions against natural language",
        ("task", "measure", "fixed", "natural", "natural - fixed", "95% interval", "pairs"),
        _paired,
    ),
    (
        "Beside the published figures",
        ("task", "their test set", "measure", "published", "ours, fixed", "ours, natural", "comparable"),
        _published,
    ),
)
