"""Lets a language model judge the cases of an evaluation and adds the verdicts to its metrics."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mindspore_osum.evaluation.endpoint import Endpoint
from mindspore_osum.evaluation.llm_judge import Matter, chat_matter, instruction_matter, judge
from mindspore_osum.evaluation.measure import chat_judgement, group, instructed, llm_ifr
from mindspore_osum.evaluation.requests import NATURAL
from mindspore_osum.evaluation.scoring import REPLY_TASKS, Case


def add_judgements(
    endpoint: Endpoint, cases: Mapping[str, Sequence[Case]], result: dict, folder: Path
) -> list[str]:
    """Judge the cases; adds to `result` the "ifr" of natural prompts and the scores of tasks with replies.

    Returns one line for each missing verdict. Verdicts are cached in `folder`.
    """
    instructions = instructed(cases.get(NATURAL, ()))
    chats = [c for mine in cases.values() for c in mine if c.replies]
    asked = [c for c in chats if _question(c)]
    matters: list[Matter] = [instruction_matter(c.request, c.prediction.raw) for c in instructions]
    matters += [chat_matter(_question(c), c.accepted[0], c.answer.answer or "") for c in asked]
    troubles: list[str] = []
    verdicts = judge(endpoint, matters, folder, troubles.append)
    followed = {c.prediction.place: v for c, v in zip(instructions, verdicts)}
    scored = {c.prediction.place: v for c, v in zip(asked, verdicts[len(instructions) :])}
    if instructions:
        result["ifr"] |= llm_ifr(instructions, followed, endpoint.model)
    for mode, mine in cases.items():
        for task, some in group(c for c in mine if c.replies).items():
            if task in REPLY_TASKS:
                result[mode][task] |= chat_judgement(some, scored, endpoint.model)
    silent = [
        f"{c.utterance.where}: no text of the question (extra.transcript), which a judge needs"
        for c in chats
        if not _question(c)
    ]
    return silent + troubles


def _question(case: Case) -> str:
    """The user's question: extra.transcript (of a spoken question, see importers) or extra.question."""
    found = (case.utterance.extra.get(name) for name in ("transcript", "question"))
    return next((q for q in found if isinstance(q, str) and q), "")
