"""Answers of the bundled model to the bundled recordings, and its scores."""

import json
from pathlib import Path

from tests.equal.checkout import Checkout

# a request in words for each task: those of the released inference scripts, and one in English
WORDS = {
    "asr": "你能听这段语音然后告诉我内容吗？",
    "srwt": "把这段音频里的内容写出来，每个词和字都标上时间",
    "ved": "你帮我听听这段录音，然后把里面的内容写下来，还有标出里面发生的事",
    "ser": "你听一下这段录音，然后说说里面都说了啥，还有里面的人情绪怎么样？",
    "ssr": "你帮我听听这段录音，把里面说的都写下来，还有最后加上个风格标签",
    "sgc": "这段音频里说的啥，能不能告诉我，还有说话的人是男是女？",
    "sap": "Please transcribe the recording and tell me the age of the speaker.",
    "sttc": "Please answer the question in the audio",
}
FEW = 3  # recordings whose labels' probabilities are asked for: they compile graphs of their own


def answers(checkout: Checkout, parts: set[str]) -> dict:
    """Every recording by every task; probabilities; the lines of `osum annotate` and `osum infer`."""
    recordings = checkout.recordings()
    calls = {f"tag/{task}": {"task": task} for task in WORDS}
    calls |= {f"words/{task}": {"request": words} for task, words in WORDS.items()}
    calls["probabilities/labels"] = {
        "tasks": ["ser", "sgc", "sap"],
        "probabilities": True,
        "recordings": recordings[:FEW],
    }
    calls = {name: call for name, call in calls.items() if not parts or name.partition("/")[0] in parts}
    found: dict = {}
    if calls:
        found = checkout.child("ask", {"model": "bundled", "recordings": recordings, "calls": calls})
    if not parts or "annotate" in parts:
        lines = checkout.osum("annotate", *recordings, "--model", "bundled").splitlines()
        found["annotate"] = by_recording(lines)
    if not parts or "manifest" in parts:
        asked = checkout.osum("infer", "--manifest", "recordings/manifest.jsonl", "--model", "bundled")
        found["manifest"] = by_recording(asked.splitlines())
    return found


def by_recording(lines: list[str]) -> dict:
    """The answers of JSON lines by the recording's name (or the key of a manifest)."""
    answers = [json.loads(line) for line in lines]
    return {answer.get("key") or Path(answer["audio"]).stem: answer for answer in answers}


def scores(checkout: Checkout, parts: set[str]) -> dict:
    """metrics.json of `osum eval`, asked by tags and in words, and what the model wrote."""
    where = ["--model", "bundled", "--manifest", "recordings/manifest.jsonl", "--output", "scores"]
    checkout.osum("eval", *where, "--prompts", "both", "--no-plots")
    folder = checkout.work / "scores"
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text("utf-8").splitlines()]
    return {"metrics": json.loads((folder / "metrics.json").read_text("utf-8")), "predictions": lines}
