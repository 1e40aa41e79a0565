"""A language model as judge: instruction following, and replies on a scale of 1 to 10.

Sources: OSUM-Pangu, section 3.4 (IFR judged by DeepSeek-V3 from instruction and response); the OSUM report,
STTC (AirBench's protocol: question, real answer and given answer, both scored from 1 to 10). The prompts are
in judge_prompts.yaml.

Notable choices
- Each verdict is saved at once (verdicts.jsonl): a repeated run asks only for the missing ones.
- The cache key is a hash of the judge's model and the whole prompt: another answer or judge is asked again.
- If a verdict is missing, no rate is computed.
"""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from mindspore_osum.data.pipeline.intersect import agreement as labels_agreement
from mindspore_osum.errors import UserError
from mindspore_osum.evaluation.asking import GIVE_UP, JOBS, Matter, ask_all, object_in
from mindspore_osum.evaluation.endpoint import Endpoint
from mindspore_osum.files import json_object, whole_lines

CACHE = "verdicts.jsonl"


def instruction_matter(request: str, answer: str) -> Matter:
    """Whether `answer` follows `request`; the verdict is {"followed": bool}."""
    return Matter(_prompts()["instruction"].format(request=request, answer=answer or "(nothing)"), _followed)


def chat_matter(question: str, reference: str, answer: str) -> Matter:
    """Scores of the reference and the given answer; the verdict has them as "answer_1" and "answer_2"."""
    filled = _prompts()["chat"].format(question=question, reference=reference, answer=answer or "(nothing)")
    return Matter(filled, _scores)


def judge(endpoint: Endpoint, matters: Sequence[Matter], folder: Path, note: Callable[[str], None]):
    """Return the verdict on each matter, None where there is none; `note` is called with problems.

    Raises
    ------
    UserError : the server refuses requests, or the cache is damaged.
    """
    path = folder / CACHE
    known = _read_cache(path)
    names = [m.id(endpoint.model) for m in matters]
    todo = {name: m for name, m in zip(names, matters) if name not in known}
    missed = 0
    with open(path, "a", encoding="utf-8") as file, ThreadPoolExecutor(JOBS) as pool:
        for name, verdict, trouble in ask_all(pool, endpoint, todo):
            missed = 0 if verdict else missed + 1
            if verdict:
                known[name] = verdict
                file.write(json.dumps({"id": name, "judge": endpoint.model, "verdict": verdict}) + "\n")
                file.flush()
                continue
            note(f"no verdict from the judge: {trouble}")
            if missed == GIVE_UP:
                pool.shutdown(wait=False, cancel_futures=True)
                note("the judge is given up for now; the same command asks for the rest")
                break
    return [known.get(name) for name in names]


def agreement(first: Sequence[bool], second: Sequence[bool]) -> dict:
    """Return the share of equal verdicts of two judges, and Cohen's kappa (1960), None where undefined."""
    return labels_agreement(Counter(zip(first, second, strict=True)))


@lru_cache(maxsize=1)
def _prompts() -> dict[str, str]:
    import yaml

    return yaml.safe_load(Path(__file__).with_name("judge_prompts.yaml").read_text("utf-8"))


def _read_cache(path: Path) -> dict[str, dict]:
    if not path.exists():
        return {}
    try:
        entries = [json_object(line, f"{path}:{n}") for n, line in enumerate(whole_lines(path), 1)]
        return {entry["id"]: entry["verdict"] for entry in entries}
    except (UserError, KeyError, TypeError):
        raise UserError(f"{path}: damaged; delete it, and the judge is asked again") from None


def _followed(reply: str) -> dict:
    followed = object_in(reply).get("followed")
    if not isinstance(followed, bool):
        raise ValueError("neither true nor false")
    return {"followed": followed}


def _scores(reply: str) -> dict:
    values = object_in(reply)
    scores = {name: values.get(name) for name in ("answer_1", "answer_2")}
    for score in scores.values():
        if isinstance(score, bool) or not isinstance(score, int | float) or not 1 <= score <= 10:
            raise ValueError("not from 1 to 10")
    return scores
