"""What the tests share: a tokenizer of the tiny preset, and a world of tones as messages."""

import json
from pathlib import Path

from tests.training.tones import tone_word, write_wav

ADDED = {"<|endoftext|>": 597, "<|im_start|>": 598, "<|im_end|>": 599}
ASR = "Transcribe the Speech"


def write_tokenizer(folder: Path) -> Path:
    """Byte-level BPE without merges, and Qwen's three special pieces under the ids of the tiny preset."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces += [f"{a}{b}" for a in pieces[:2] for b in pieces][: 597 - len(pieces)]
    tokenizer = Tokenizer(models.BPE({piece: n for n, piece in enumerate(pieces)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(ADDED))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    return folder


def audio(name: str) -> dict:
    """A recording in a message."""
    return {"type": "audio", "audio": name}


def messages(*turns, system: str = "") -> dict:
    """A line of WEST: (content of the user, answer) of each turn."""
    found = [{"role": "system", "content": system}] if system else []
    for asked, reply in turns:
        found += [{"role": "user", "content": asked}, {"role": "assistant", "content": reply}]
    return {"messages": found}


def make_world(folder: Path) -> Path:
    """`folder` with data.jsonl: lines with text, a recording or both, of one turn and of several."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, word in enumerate(("abc", "defgh", "ca", "bead")):
        write_wav(folder / f"{n}.wav", tone_word(word))
    lines = [
        {"wav": "0.wav", "txt": "abc"},
        messages((["Say it.", audio("1.wav")], "defgh")),
        messages(("hi", "ho"), (["And now?", audio("2.wav")], "ca"), system="Be brief."),
        messages((audio("3.wav"), "a reply")),
        messages(("one", "two"), ("three", "four")),
        {"key": "qa", "txt": "blue", "task": "<TEXT2TEXT>", "extra": {"question": "The sky?"}},
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return write_tokenizer(folder)
