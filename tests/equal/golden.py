"""The golden published checkpoint: what the model computes of it, and what it answers."""

import json

import numpy as np

from tests.equal.checkout import Checkout
from tests.equal.conversion import into_folder
from tests.equal.values import of_array, of_folder

INFERENCE = "osum_pangu_published_inference"  # the prompts of the released inference code
FORTY = ["--max-new-tokens", "40"]


def record(checkout: Checkout, parts: set[str]) -> dict:
    """Parts `numbers` (arrays by name, gradients by parameter) and `answers`."""
    if checkout.shared is None:
        return {part: {"skipped": "needs the shared folder (OSUM_SHARED)"} for part in ("numbers", "answers")}
    wanted = parts or {"numbers", "answers"}
    source, *more = into_folder(checkout)
    folders = {"model": [], "released": ["--set", f"prompts={INFERENCE}"]}
    checkout.verbs({n: ["convert", source, *more, *words, "--output", n] for n, words in folders.items()})
    found: dict = {}
    if "numbers" in wanted:
        checkout.child("network", {"model": "model", "golden": "golden_data", "arrays": "arrays.npz"})
        with np.load(checkout.work / "arrays.npz") as arrays:
            found["numbers"] = {name: of_array(arrays[name]) for name in arrays.files}
    if "answers" in wanted:
        words = json.loads((checkout.work / "golden_data/config.json").read_text("utf-8"))["instructions"]
        asked = {"tag": ["--task", "asr"], "words": ["--instruction", words["wav1"]]}
        asked |= {"chat": ["--task", "sttc"], "align": ["--task", "<TRANSCRIBE> <ALIGN>"]}
        commands = {
            f"{model}_{name}.jsonl": ["infer", "golden_data/wav1.wav", "--model", model, *how, *FORTY]
            for model in folders
            for name, how in asked.items()
        }
        checkout.verbs({out: [*words, "--output", out] for out, words in commands.items()})
        found["answers"] = {out: of_folder(checkout.work / out)[out] for out in commands}
    return found
