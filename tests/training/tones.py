"""A world of tones for the training tests: each letter is a tone, each utterance a word of them."""

import io
import json
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np

from mindspore_osum.config import from_dict, merge
from mindspore_osum.systems.osum.config import ModelConfig
from mindspore_osum.systems.osum.extractor import OsumExtractor
from mindspore_osum.systems.osum.template import load_template
from mindspore_osum.systems.osum.texts import Texts
from mindspore_osum.systems.registry import preset
from mindspore_osum.text.tokenizer import open_tokenizer
from mindspore_osum.training.config import job_from

LETTERS = "abcdefgh"
TONE_SECONDS = 0.12
SMALL_MODEL = {
    "encoder": {"d_model": 32, "n_layers": 1, "n_heads": 2, "d_ff": 64},
    "adapter": {"n_layers": 1, "n_heads": 2, "d_ff": 64},
    "decoder": {"d_model": 32, "n_layers": 1, "n_heads": 2, "n_kv_heads": 1, "head_dim": 16, "d_ff": 64},
}


def shape(size: int, frames: int, text_tokens: int):
    """A batch's static shape, for the tiny preset."""
    from mindspore_osum.data.batches.batching import bucket_shapes
    from mindspore_osum.systems.registry import preset

    return bucket_shapes(preset("tiny"), size, [frames], text_tokens)[0]


def tone_word(word: str) -> np.ndarray:
    """int16 samples of a word: one tone a letter, faded in and out."""
    t = np.arange(round(TONE_SECONDS * 16000)) / 16000
    fade = np.minimum(1, np.minimum(t, t[::-1]) / 0.01)
    tones = [0.5 * fade * np.sin(2 * np.pi * (300 + 250 * LETTERS.index(c)) * t) for c in word]
    return (np.concatenate(tones) * 32767).astype(np.int16)


def write_wav(path: Path, samples: np.ndarray) -> None:
    """A 16 kHz mono file."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())


def write_tokenizer(path: Path) -> None:
    """A tokenizer with a piece for every letter and byte, bos 1 and the end piece [unused10] as 4."""
    import sentencepiece as spm

    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c d e f g h", "<asr>abc", "<asr>defgh"] * 4),
        model_writer=model,
        model_type="char",
        vocab_size=320,
        user_defined_symbols=["[unused9]", "[unused10]"],
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())


def make_world(folder: Path, words: list[str], task: str = "<TRANSCRIBE>") -> Path:
    """`folder` with words.jsonl, its recordings and tokenizer.model."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, word in enumerate(words):
        write_wav(folder / f"{i}.wav", tone_word(word))
        line = {"key": f"u{i}", "wav": f"{i}.wav", "txt": word, "task": task, "extra": {}}
        lines.append(json.dumps(line))
    (folder / "words.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    write_tokenizer(folder / "tokenizer.model")
    return folder


def extractor(
    world: Path, requests: str = "tag", ctc: str = "", pad_to_seconds: float = 0.0
) -> OsumExtractor:
    """What the preset `tiny` makes of the utterances of `world`, with the prompts `compact`."""
    model = preset("tiny")
    model = replace(model, encoder=replace(model.encoder, pad_to_seconds=pad_to_seconds))
    texts = Texts(open_tokenizer(world / "tokenizer.model"), load_template("compact"), requests)
    return OsumExtractor(model, texts, ctc)


def add_texts(world: Path) -> None:
    """qa.jsonl (2 questions) and intent.jsonl (6 requests) beside the recordings of `world`."""
    qa = [
        {"key": f"q{i}", "txt": "ab" * i, "task": "<TEXT2TEXT>", "extra": {"question": "cd" * i}}
        for i in (1, 2)
    ]
    intent = [
        {"key": f"i{i}", "txt": tags, "task": "<INTENT_CLASSIFICATION>", "extra": {"intent": "abc" * i}}
        for i, tags in enumerate(("<asr>", "<asr><age>", "<chat>", "<age>", "<asr>", "<chat>"), 1)
    ]
    for name, lines in (("qa", qa), ("intent", intent)):
        (world / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")


def random_words(count: int, seed: int = 0) -> list[str]:
    """Words of 2 to 5 letters."""
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list(LETTERS), rng.integers(2, 6))) for _ in range(count)]


def model_folder(world: Path, folder: Path, poison: str = "", **over) -> str:
    """A folder with random weights, `over` laid on its config; the embedding of `poison` is not a number."""
    from mindspore import Tensor

    from mindspore_osum.folder import save_folder
    from mindspore_osum.systems.osum.network import OsumModel
    from mindspore_osum.systems.osum.system import SYSTEM

    config = merge(merge(preset("tiny").to_dict(), SMALL_MODEL), over)
    model = OsumModel(from_dict(ModelConfig, config, "small"))
    SYSTEM.init_weights(model, 1)
    if poison:
        embed = model.decoder.model.embed_tokens.weight
        values = embed.asnumpy()
        values[open_tokenizer(str(world / "tokenizer.model")).encode(poison)[-1]] = np.nan
        embed.set_data(Tensor(values))
    save_folder(folder, model, world / "tokenizer.model")
    return str(folder)


def small_job(world: Path, out: Path, **over) -> dict:
    """A job for a small model on CPU, as read from YAML, with `over` laid on it."""
    job = {
        "output_dir": str(out),
        "seed": 3,
        "device": "CPU",
        "model": {"start": "tiny", "overrides": SMALL_MODEL},
        "tokenizer": str(world / "tokenizer.model"),
        "learn": ["encoder", "adapter", "decoder"],
        "data": {"train": [{"name": "words", "path": str(world / "words.jsonl")}], "requests": "tag"},
        "batch": {"size": 4, "seconds": [0.64], "text_tokens": 24},
        "spec_augment": {"time_masks": 0, "freq_masks": 0, "subs": 0},
        "optimizer": {"lr": 3e-3},
        "schedule": {"kind": "inverse_sqrt", "warmup_steps": 10},
        "steps": 6,
        "log_every": 1,
        "save_every": 100,
    }
    return merge(job, over)


STORED_STEPS = 120


def stored_job(world: Path, out: Path) -> dict:
    """The job of the run that the tests share: it learns the words of `world` by heart."""
    return small_job(
        world,
        out,
        steps=STORED_STEPS,
        save_every=40,
        ctc={"weight": 0.3},
        data={"valid": [{"name": "again", "path": str(world / "words.jsonl")}]},
        spec_augment={"time_masks": 1, "time_max": 5, "freq_masks": 1},
    )


def store_run(folder: Path) -> None:
    """Train it: folder/world has its words, folder/run is the run."""
    from mindspore_osum.training.run import run_job

    job = stored_job(make_world(folder / "world", random_words(8)), folder / "run")
    assert run_job(job_from(job, "job")) == 0
