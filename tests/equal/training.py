"""Twenty steps of small jobs: what their metrics say, and the tensors they end with."""

import json
import socket

import yaml

from tests.equal.checkout import Checkout
from tests.equal.values import of_folder, of_safetensors

STEPS = 20
SMALL = {
    "encoder": {"d_model": 32, "n_layers": 1, "n_heads": 2, "d_ff": 64},
    "adapter": {"n_layers": 1, "n_heads": 2, "d_ff": 64},
    "decoder": {"d_model": 32, "n_layers": 2, "n_heads": 2, "n_kv_heads": 1, "head_dim": 16, "d_ff": 64},
}
SPEECH = [{"name": "speech", "path": "recordings/manifest.jsonl"}]
TEXT = [{"name": "intent", "path": "intent.jsonl"}, {"name": "questions", "path": "questions.jsonl"}]
BASE = {
    "seed": 3,
    "device": "CPU",
    "model": {"start": "tiny", "overrides": SMALL},
    "tokenizer": "bundled/tokenizer.model",
    "learn": ["encoder", "adapter", "decoder"],
    "data": {"train": SPEECH, "requests": "tag"},
    "batch": {"size": 4, "seconds": [3.4], "text_tokens": 64},
    "spec_augment": {
        "time_masks": 1,
        "time_max": 10,
        "freq_masks": 1,
        "freq_max": 8,
        "subs": 1,
        "sub_max": 9,
    },
    "optimizer": {"lr": 3e-3},
    "schedule": {"kind": "inverse_sqrt", "warmup_steps": 5},
    "steps": STEPS,
    "log_every": 1,
    "save_every": 100,
}
# the names of a part's values begin with these; what each lays on BASE
JOBS = {
    "padded": {
        "data": {"train": SPEECH + TEXT[1:], "valid": SPEECH, "requests": "both", "other_requests": 0.2},
        "batch": {"size": 4, "seconds": [2.0, 3.4], "text_tokens": 64},
        "loss": {"intent": 0.5, "content": 2.0},
        "wave_augment": {"speeds": [0.9, 1.0, 1.1], "volume_db": [-3.0, 3.0]},
        "schedule": {"kind": "cosine", "warmup_steps": 5},
    },
    "packed": {
        "data": {"train": SPEECH + TEXT, "valid": TEXT, "requests": "natural"},
        "batch": {"size": 2, "seconds": [3.4], "text_tokens": 64, "pack": 220},
        "ctc": {"weight": 0.3},
    },
    "heads_encoder": {
        "data": {"train": SPEECH, "valid": SPEECH, "cache": True},
        "ctc": {"weight": 0.3, "at": "encoder"},
        "classify": {"weight": 0.2},
    },
    "heads_adapter": {
        "batch": {"size": 4, "seconds": [3.4], "text_tokens": 64, "pack": 220},
        "ctc": {"weight": 0.3, "at": "adapter", "aligned": 0.4},
        "classify": {"weight": 0.2},
    },
    "heads_only": {
        "learn": ["encoder", "adapter"],
        "ctc": {"weight": 0.3, "at": "adapter", "aligned": 0.4, "only": True},
        "classify": {"weight": 0.2},
    },
    "lora": {
        "model": {
            "start": "tiny",
            "overrides": SMALL
            | {
                "lora": {"rank": 2, "alpha": 4.0, "dropout": 0.2},
                "adapter": {"kind": "conv2d", "dropout": 0.1},
            },
        },
        "learn": ["adapter", "lora"],
        "clip_norm": 0.5,
    },
    "text": {
        "data": {"train": TEXT, "valid": TEXT},
        "batch": {"size": 4, "seconds": [], "text_tokens": 72},
        "learn": ["decoder"],
    },
    "accumulation": {
        "batch": {"seconds": [2.0, 3.4], "text_tokens": 64, "max_tokens": 300},
        "schedule": {"kind": "linear", "warmup_steps": 5},
        "accumulation": 2,
    },
}
TWO = "processes"  # of the padded job's kind


def record(checkout: Checkout, parts: set[str]) -> dict:
    """Metrics, last checkpoint and model of each job; all but the last run in one process, one by one."""
    for name, lines in texts().items():
        (checkout.work / name).write_text("".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines))
    chosen = [name for name in JOBS if not parts or name in parts]
    if chosen:
        checkout.osum("train", "--config", *(write(checkout, name, JOBS[name]) for name in chosen))
    if not parts or TWO in parts:
        run_two(checkout)
        chosen.append(TWO)
    return {name: of_run(checkout, name) for name in chosen}


def texts() -> dict[str, list[dict]]:
    """File -> lines without speech: requests with their tags, questions with their answers."""
    requests = [("what is said", "<asr>"), ("谁在说话，多大年纪？", "<asr><age>"), ("answer me", "<chat>")]
    requests += [("how does he feel", "<asr><emotion>"), ("写下来，标上时间", "<asr><align>")]
    questions = [("what is two and two", "four"), ("一加一等于几", "二"), ("the capital of france", "paris")]
    return {
        "intent.jsonl": [
            {"key": f"i{i}", "txt": tags, "task": "<INTENT_CLASSIFICATION>", "extra": {"intent": words}}
            for i, (words, tags) in enumerate(requests)
        ],
        "questions.jsonl": [
            {"key": f"q{i}", "txt": answer, "task": "<TEXT2TEXT>", "extra": {"question": question}}
            for i, (question, answer) in enumerate(questions)
        ],
    }


def write(checkout: Checkout, name: str, changes: dict) -> str:
    """The job's YAML; a key of `changes` takes the place of the whole section."""
    path = checkout.work / f"{name}.yaml"
    path.write_text(
        yaml.safe_dump(BASE | changes | {"output_dir": f"runs/{name}"}, allow_unicode=True), "utf-8"
    )
    return path.name


def run_two(checkout: Checkout) -> None:
    """The job in two processes, data parallel, as users start them."""
    job = write(checkout, TWO, {"ctc": {"weight": 0.3}, "batch": BASE["batch"] | {"size": 2}})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    scripts = checkout.root / "scripts"
    command = f"{scripts / 'train.py'} --config {job}"
    checkout.run("bash", scripts / "msrun_launcher.sh", command, "2", port, "msrun")


def of_run(checkout: Checkout, name: str) -> dict:
    """A run's folder as values."""
    run = checkout.work / "runs" / name
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    state = run / f"checkpoints/step_{STEPS:06d}/state.safetensors"
    found = {"metrics": lines, "checkpoint": of_safetensors(state)}
    return found | {"model": of_folder(run / "model")}
