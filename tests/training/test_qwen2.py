"""A run of the preset osum_qwen2_tiny: transcripts and labels as OSUM with Qwen2 learns them."""

import json

import numpy as np

from mindspore_osum.training.config import job_from
from mindspore_osum.training.run import run_job
from mindspore_osum.weights_io import open_weights
from tests.systems.whisper_asr.common import write_tokenizer
from tests.training.tones import make_world, random_words, small_job


def test_it_learns_transcripts_and_labels(tmp_path):
    world = make_world(tmp_path / "world", random_words(6))
    lines = [json.loads(line) for line in (world / "words.jsonl").read_text("utf-8").splitlines()]
    for n, line in enumerate(lines):  # ASR+X: the labels follow the transcript
        if n % 2:
            line |= {"task": "<TRANSCRIBE> <GENDER>", "txt": line["txt"] + ("<MALE>", "<FEMALE>")[n % 4 // 2]}
    (world / "words.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    job = small_job(
        world,
        tmp_path / "run",
        tokenizer=str(write_tokenizer(tmp_path, 256)),
        batch={"size": 6, "seconds": [0.64], "text_tokens": 180},
        steps=40,
    )
    job["model"]["start"], job["learn"] = "osum_qwen2_tiny", ["encoder", "adapter", "lora", "decoder"]
    assert run_job(job_from(job, "job")) == 0
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text("utf-8").splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[0] > 5 and np.mean(losses[-3:]) < 0.4 * losses[0]
    with open_weights(tmp_path / "run/model") as weights:
        lora_b = [name for name in weights.infos if "lora_B" in name]
        assert len(lora_b) == 6 and all(np.abs(weights.read(name)).max() > 0 for name in lora_b)
