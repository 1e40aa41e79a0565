"""All metrics of an evaluation, in the form of metrics.json.

    {"fixed": {"asr": {"wer": ...}, "sgc": {"accuracy": ...}}, "natural": {...}, "ifr": {"rule": ...},
     "difference": {...}, "combined": {...}, "sets": {...}, "speed": {...}, "counts": {...}, "run": {...}}

Rates are fractions. Section by section: docs/EVALUATION.md.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mindspore_osum.evaluation.bootstrap import ratio_interval
from mindspore_osum.evaluation.compare import compare_prompts
from mindspore_osum.evaluation.llm_judge import agreement
from mindspore_osum.evaluation.predictions import Place, Prediction
from mindspore_osum.evaluation.requests import FIXED, NATURAL
from mindspore_osum.evaluation.scoring import Case, headline, score_task, tasks_of
from mindspore_osum.tasks import task_of_tags

Verdicts = Mapping[Place, dict | None]  # verdicts of a judge, by prompts and key


def group(cases: Iterable[Case]) -> dict[str, list[Case]]:
    """Group cases by task; a case may count for several tasks."""
    out: dict[str, list[Case]] = {}
    for case in sorted(cases, key=lambda c: c.utterance.key):
        for task in tasks_of(case.key):
            out.setdefault(task, []).append(case)
    return dict(sorted(out.items()))


def instructed(cases: Iterable[Case]) -> list[Case]:
    """The cases that have an instruction to follow (those with a recording), sorted by key."""
    return sorted((c for c in cases if c.tags), key=lambda c: c.utterance.key)


def measure(cases: Mapping[str, Sequence[Case]]) -> dict:
    """Compute all metrics that need no judge.

    Parameters
    ----------
    cases : prompts ("fixed", "natural") -> cases
    """
    out: dict = {mode: _score(mine) for mode, mine in cases.items()}
    if mine := instructed(cases.get(NATURAL, ())):
        out["ifr"] = rule_ifr(mine)
    if len(cases) == 2:
        first, second = group(cases[FIXED]), group(cases[NATURAL])
        pairs = {name: compare_prompts(name, first[name], second[name]) for name in first if name in second}
        out["difference"] = {name: result for name, result in pairs.items() if result}
    out["combined"] = {mode: found for mode, mine in cases.items() if (found := combined(mine))}
    out["sets"] = _by_set(cases)
    out["speed"] = _speed([c.prediction for mine in cases.values() for c in mine])
    return out


def rule_ifr(cases: Sequence[Case]) -> dict:
    """Instruction following by rule: ``rule``, its 95% interval, and the reasons for failures.

    ``by_task`` has the same for each task. Combined tasks are listed under their published key, since a
    request counts as followed only as a whole.
    """
    faults = [case.fault for case in cases]
    by_task: dict[str, list[bool]] = {}
    for case, reason in zip(cases, faults, strict=True):
        by_task.setdefault(task_of_tags(case.tags) or case.key, []).append(reason is None)
    tasks = {name: _followed("rule", some) | {"items": len(some)} for name, some in sorted(by_task.items())}
    return _followed("rule", [reason is None for reason in faults]) | {
        "by_task": tasks,
        "faults": dict(sorted(Counter(f for f in faults if f).items())),
        "items": len(cases),
    }


def combined(cases: Iterable[Case]) -> dict:
    """The answers to keys that ask for several things at once, by key.

    ``whole`` is the share of answers with all that was asked for and nothing else (rule_judge.py), ``asr``
    the error rate of the transcripts; the other tasks of the key have their headline metric.
    """
    out: dict = {}
    for case in sorted(cases, key=lambda c: (c.key, c.utterance.key)):
        if len(case.tags) > 1 and task_of_tags(case.tags) is None:
            out.setdefault(case.key, []).append(case)
    return {key: _several(key, some) for key, some in out.items()}


def _several(key: str, cases: Sequence[Case]) -> dict:
    found = {"utterances": len(cases), "whole": float(np.mean([case.fault is None for case in cases]))}
    spoken = [case for case in cases if case.spoken and "asr" in case.tags]
    for task, some in (("asr", spoken), *((task, cases) for task in tasks_of(key))):
        if some and (measured := headline(task, some)):
            part, items = measured[1].sum(0)
            found[task] = float(part / items) if items else None
    return found


def _followed(judge: str, verdicts: Sequence[bool]) -> dict:
    """The rate of one judge and its 95% interval."""
    rate, followed_N2 = float(np.mean(verdicts)), np.array([(yes, 1) for yes in verdicts])
    return {judge: rate, f"{judge}_interval": ratio_interval(followed_N2)}


def llm_ifr(cases: Sequence[Case], verdicts: Verdicts, model: str) -> dict:
    """Instruction following by a language model and agreement with the rule; None if verdicts are missing."""
    given = [(c, verdicts.get(c.prediction.place)) for c in cases]
    judged = [(c, bool(v["followed"])) for c, v in given if v]
    missing = len(cases) - len(judged)
    out = {"llm": None, "llm_interval": None, "judge": model, "missing_verdicts": missing}
    if missing:
        return out | agreement([], [])
    out |= _followed("llm", [yes for _, yes in judged])
    return out | agreement([c.fault is None for c, _ in judged], [yes for _, yes in judged])


def chat_judgement(cases: Sequence[Case], verdicts: Verdicts, model: str) -> dict:
    """Scores of replies from 1 to 10: ``judge_score``, and the references'; None if a verdict is missing."""
    given = [verdicts.get(c.prediction.place) for c in sorted(cases, key=lambda c: c.utterance.key)]
    judged = [v for v in given if v]
    out = {
        "judge_score": None,
        "judge_score_interval": None,
        "judge_reference_score": None,
        "judge": model,
        "missing_verdicts": len(given) - len(judged),
    }
    if judged and len(judged) == len(given):
        scores_N2 = np.array([(v["answer_2"], 1) for v in judged])
        out |= {
            "judge_score": float(scores_N2[:, 0].mean()),
            "judge_score_interval": ratio_interval(scores_N2),
            "judge_reference_score": float(np.mean([v["answer_1"] for v in judged])),
        }
    return out


def _by_set(cases: Mapping[str, Sequence[Case]]) -> dict:
    out: dict = {}
    for mode, mine in cases.items():
        sets: dict[str, list[Case]] = {}
        for case in mine:
            if name := case.set_name:
                sets.setdefault(name, []).append(case)
        for name, some in sorted(sets.items()):
            out.setdefault(name, {})[mode] = _score(some)
    return out


def _score(cases: Iterable[Case]) -> dict:
    return {name: score_task(name, some) for name, some in group(cases).items()}


def _speed(predictions: Sequence[Prediction]) -> dict:
    """Real-time factor: seconds of computing per second of audio, over answers with known times."""
    timed = [p for p in predictions if p.seconds and p.compute_seconds is not None]
    audio, spent = sum(p.seconds for p in timed), sum(p.compute_seconds for p in timed)
    return {
        "rtf": spent / audio if audio else None,
        "audio_seconds": audio,
        "compute_seconds": spent,
        "answers": len(timed),
    }
