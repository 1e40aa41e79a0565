"""`osum convert` from every form to a model folder, and back."""

import json

from tests.equal.checkout import Checkout
from tests.equal.values import PROSE, of_folder

DECODERS = {
    "pangu": ["LlamaConfig", "float32", {"attention_bias": True, "rms_norm_eps": 1e-5}],
    "llama": ["LlamaConfig", "float16", {"rms_norm_eps": 1e-4}],
    "qwen2": ["Qwen2Config", "bfloat16", {"hidden_size": 48, "tie_word_embeddings": True}],
    "qwen3": ["Qwen3Config", "float32", {}],
}
SMALL = ["--set", "adapter.n_heads=2", "--set", "speech_token_num=7"]
PRESET = ["--preset", "osum_pangu_7b"]  # for what neither a tensor nor --set says
LORA = ["--set", "lora.rank=3", "--set", "lora.alpha=5"]


def whole(name: str, *more: str) -> dict[str, list[str]]:
    """The ways out of a model folder that has LoRA, and the ways back into one."""
    merged = f"{name}_merged"
    return {
        f"{name}_back.pt": [name, "--buffers"],
        f"{name}_back.safetensors": [name],
        f"{name}_again": [f"{name}_back.pt", *more],
        f"{name}_peft": [name, "--to", "peft", "--base-name", "org/base"],
        f"{name}_tuned": [merged, "--adapters", f"{name}_peft"],
        merged: [name, "--merge-lora"],
        f"{name}_whisper": [name, "--to", "hf_whisper"],
        f"{name}_openai.pt": [name, "--to", "openai_whisper"],
        f"{name}_decoder": [merged, "--to", "hf_decoder"],
    }


def stock(checkout: Checkout) -> dict[str, list[str]]:
    """Folders out of stock parts, with adapter and LoRA drawn at random."""
    checkout.child("parts", DECODERS)
    ways = {
        f"of_{name}": ["--encoder", "whisper", "--decoder", name, *SMALL, *LORA, "--seed", "5"]
        for name in DECODERS
    }
    ways["of_openai"] = ["--encoder", "openai.pt", "--decoder", "qwen3", *SMALL, "--set", "lora.rank=0"]
    sizes = ["encoder.n_heads=3", "adapter.n_heads=2", "decoder.n_heads=6", "decoder.rope_theta=12345.0"]
    sizes += ["decoder.eos_id=7", "lora.alpha=5.0", "decoder.max_positions=99"]
    again = [*PRESET, *(word for size in sizes for word in ("--set", size))]
    return ways | whole("of_pangu", *again) | {"of_qwen2_merged": ["of_qwen2", "--merge-lora"]}


def published(checkout: Checkout) -> dict[str, list[str]]:
    """The bundled model, which has no LoRA, out and back in."""
    parts = ["--encoder", "bundled_whisper", "--decoder", "bundled_decoder"]
    return {
        "bundled_back.pt": ["bundled"],
        "bundled_again": ["bundled_back.pt", "--preset", "tiny", "--tokenizer", "bundled/tokenizer.model"],
        "bundled_whisper": ["bundled", "--to", "hf_whisper"],
        "bundled_decoder": ["bundled", "--to", "hf_decoder"],
        "bundled_joined": [*parts, "--preset", "tiny", "--shard-gb", "0.002"],
    }


def golden(checkout: Checkout) -> dict[str, list[str]]:
    """The golden published checkpoint, in and out."""
    described = into_folder(checkout)
    return {"golden": described} | whole("golden", *described[1:])


def into_folder(checkout: Checkout) -> list[str]:
    """The arguments of `osum convert` that make a folder of the golden checkpoint, but --output.

    `golden_data` then leads to the golden folder.
    """
    link = checkout.work / "golden_data"
    if not link.exists():
        link.symlink_to(checkout.shared / "golden")
    values = json.loads((link / "config.json").read_text("utf-8"))
    llm, adapter = values["llm"], values["adapter"]["speech_transformer"]
    sizes = {
        "encoder.n_heads": values["encoder"]["attention_heads"],
        "adapter.n_heads": adapter["attention_heads"],
        "decoder.n_heads": llm["num_attention_heads"],
        "decoder.rope_theta": llm["rope_theta"],
        "decoder.eos_id": llm["eos_token_id"],
        "lora.alpha": values["lora"]["alpha"],
        "lora.dropout": 0.0,
    }
    words = [word for name, value in sizes.items() for word in ("--set", f"{name}={value}")]
    return ["golden_data/model.pt", "--tokenizer", "golden_data/tokenizer.model", *PRESET, *words]


def record(checkout: Checkout, parts: set[str]) -> dict:
    """Reports and files of each part's conversions."""
    found: dict = {}
    for part in (stock, published, golden):
        name = part.__name__
        if parts and name not in parts:
            continue
        if part is golden and checkout.shared is None:
            found[name] = {"skipped": "needs the shared folder (OSUM_SHARED)"}
            continue
        commands = {
            out: ["convert", *words, "--output", out] for out, words in in_order(part(checkout)).items()
        }
        answers = checkout.verbs(commands)
        found[name] = {out: of_output(checkout, out, answers[out]["out"]) for out in commands}
    return found


def in_order(ways: dict[str, list[str]]) -> dict[str, list[str]]:
    """The same, each conversion behind those whose output it reads."""
    done: dict[str, list[str]] = {}
    while len(done) < len(ways):
        for out, words in ways.items():
            if not any(word in ways and word not in done for word in words):
                done[out] = words
    return done


def of_output(checkout: Checkout, out: str, table: str) -> dict:
    """What was printed, and the files; texts for people are marked as such."""
    files = of_folder(checkout.work / out)
    if report := files.get("conversion_report.json"):
        for name in ("ignored", "unexpected", "wrong_shape"):
            report[name] = {key: {PROSE: why} for key, why in report[name].items()}
        report["notes"] = [{PROSE: note} for note in report["notes"]]
    lines = [line for line in table.splitlines() if " MB in " not in line]  # the line of the speed
    return {PROSE: "\n".join(lines), "files": files}
