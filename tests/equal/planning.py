"""`osum plan`: what it says of the published jobs and the small ones."""

import json

from tests.equal.checkout import Checkout
from tests.equal.values import PROSE

PANGU = ["--model", "osum_pangu_7b"]
TINY = ["--model", "tiny", "--dtype", "float32", "--devices", "1"]
CASES = {
    "stage1": ["osum_pangu_7b/stage1", *PANGU],
    "stage2": ["osum_pangu_7b/stage2", *PANGU, "--devices", "16", "--answers", "32"],
    "stage3": ["osum_pangu_7b/stage3", *PANGU, "--devices", "24", "--memory", "60GB"],
    "warm_up": ["tiny/warm_up", *TINY],
    "packed": ["tiny/stage1", *TINY]
    + ["--set", "batch.pack=300", "--set", "batch.seconds=[4.2]", "--set", "accumulation=2"],
}
TEXT = ("stage2", "warm_up")  # whose table is recorded, too


def record(checkout: Checkout, parts: set[str]) -> dict:
    """The plan of each case as JSON, of some as the table for people."""
    commands = {}
    for name, (job, *more) in CASES.items():
        if not parts or name in parts:
            commands[name] = ["plan", "--config", f"configs/{job}.yaml", *more, "--json"]
            if name in TEXT:
                commands[f"{name}/{PROSE}"] = commands[name][:-1]
    answers = checkout.verbs(commands)
    plain = {
        name: out["out"] if name.endswith(PROSE) else json.loads(out["out"]) for name, out in answers.items()
    }
    return plain
