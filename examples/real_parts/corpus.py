"""The corpus of a small speech language model, before and after it is spoken.

    python examples/real_parts/corpus.py texts --model parts --output corpus
    osum data speak corpus/train_texts.jsonl --voices corpus/train_voices.jsonl --output corpus/train_spoken
    python examples/real_parts/corpus.py lines --output corpus

Notable choices
- Sentences are of telephones and of everyday (sentences.py), or the language model's own (written.py). No
  sentence is in two splits.
- Lists of words give the aligner more of the language than sentences would in the same time: it places a word
  by its sound, whatever stands beside it.
- A recording is asked for its words, every second also for its speaker; a question is also answered.
- Prompts of people are up to 15 s long: two or three recordings of one voice are joined, with pauses, as a
  model that has heard 5 s at most stops in the middle of longer ones.
- Voices of `UNSEEN` are in the test part alone. The validation part has voices of training.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "speech_world"))

import numpy as np  # noqa: E402
import soundfile as sf  # noqa: E402
from notes import is_noted, write_note  # noqa: E402
from sentences import drawn  # noqa: E402
from written import CHARACTERS, answers, frequent_words, sentences  # noqa: E402

from mindspore_osum.errors import UserError  # noqa: E402
from mindspore_osum.files import write_text  # noqa: E402

# engine, voice, gender -> share of the recordings
VOICES = {
    ("flite", "slt", "woman"): 20,
    ("flite", "awb", "man"): 14,
    ("flite", "kal16", "man"): 6,
    ("piper", "joe", "man"): 16,
    ("kokoro", "jf_alpha", "woman"): 4,
    ("kokoro", "jf_gongitsune", "woman"): 4,
    ("kokoro", "jf_nezumi", "woman"): 3,
    ("kokoro", "jm_kumo", "man"): 3,
    **{("espeak", f"en-us+f{n}", "woman"): 4 for n in (1, 2, 3, 5)},
    **{("espeak", f"{accent}+m{n}", "man"): 2 for accent in ("en-us", "en-gb") for n in (1, 2, 3)},
    ("espeak", "en-gb-scotland", "man"): 2,
}
UNSEEN = {("flite", "rms", "man"): 1, ("kokoro", "jf_tebukuro", "woman"): 1}
SPEEDS = (0.9, 1.0, 1.1, 1.2)
SPEAKER = "Is the speaker a man or a woman?"
SPOKEN = "{}_spoken"
# split -> sentences of templates, sentences of the model, questions, lists of words
SIZES = {"train": (3000, 700, 240, 1500), "valid": (40, 20, 10, 0), "test": (60, 30, 20, 0)}
SMALL = {"train": (24, 8, 8, 6), "valid": (4, 2, 2, 0), "test": (4, 2, 2, 0)}
TYPED = 120  # questions that are typed alone
FREQUENT = 1200  # words, of which about half give a sentence
LISTED = 3000  # words that lists are drawn from
LIST = 5  # words of a list
JOINED = 900  # recordings made of several
PAUSE, LONGEST = (0.15, 0.6), 12.0  # seconds: between two of them, and of all


def texts(options: argparse.Namespace) -> None:
    """Write what is to be said, by which voices, and what is typed."""
    from mindspore_osum import OSUM

    output, sizes = options.output, SMALL if options.small else SIZES
    typed, frequent = (6, 40) if options.small else (TYPED, FREQUENT)
    model = OSUM.load(str(options.model), device="CPU")
    own = sentences(model, frequent_words(model.engine.tokenizer, frequent), seed=1)
    random.Random(1).shuffle(own)
    lists = word_lists(frequent_words(model.engine.tokenizer, LISTED), sum(n for *_, n in sizes.values()))
    each = sum(few for few, *_ in sizes.values())
    of_templates = [text for kind in ("phone", "everyday") for text in drawn(kind, each, "1")]
    random.Random(2).shuffle(of_templates)
    of_templates = [text for text in of_templates if len(text) <= CHARACTERS]
    asked = drawn("questions", typed + sum(asked for *_, asked, _ in sizes.values()), "2")
    answered = list(answers(model, asked).items())
    for split in ("test", "valid", "train"):  # the last one takes what is left
        few, many, questions, listed = sizes[split]
        said = [_line(text, text, "sentence") for text in (*_taken(of_templates, few), *_taken(own, many))]
        said += [_line(text, text, "words") for text in _taken(lists, listed)]
        said += [_line(question, answer, "question") for question, answer in _taken(answered, questions)]
        _write(output / f"{split}_texts.jsonl", _numbered(said, split))
        _write(output / f"{split}_voices.jsonl", _voices(UNSEEN if split == "test" else VOICES))
    kept = [_line(question, answer, "typed") for question, answer in answered]
    _write(output / "text.jsonl", _numbered(kept[: len(kept) * 9 // 10], "text"))
    _write(output / "text_test.jsonl", _numbered(kept[len(kept) * 9 // 10 :], "text_test"))


def word_lists(words: list[str], count: int) -> list[str]:
    """`count` lists of `LIST` words; every word is in one before any is in a second."""
    rng, left, found = random.Random(3), [], []
    while len(found) < count:
        if len(left) < LIST:
            left += rng.sample(words, len(words))
        found.append(", ".join(_taken(left, LIST)).capitalize() + ".")
    return found


def _taken(left: list, count: int) -> list:
    """The first `count`, which are removed."""
    found, left[:count] = left[:count], []
    return found


def _line(text: str, answer: str, kind: str) -> dict:
    return {"txt": answer, "task": "<TEXT2TEXT>", "extra": {"question": text, "kind": kind, "lang": "en"}}


def _numbered(lines: list[dict], split: str) -> list[dict]:
    return [{"key": f"{split}_{number:05d}"} | line for number, line in enumerate(lines)]


def _voices(shares: dict) -> list[dict]:
    """A line for each share of a voice, at a speed."""
    return [
        {"engine": engine, "voice": voice, "speed": SPEEDS[n % len(SPEEDS)], "gender": gender}
        for (engine, voice, gender), share in shares.items()
        for n in range(share * len(SPEEDS))
    ]


def lines(options: argparse.Namespace) -> None:
    """Write the manifests of training and tests from what was spoken."""
    for split in SIZES:
        folder = options.output / SPOKEN.format(split)
        spoken = [json.loads(line) for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines()]
        for line in spoken:
            line["wav"] = str((folder / line["wav"]).resolve())
        found = [one for line in spoken for one in _asked(line, split == "test")]
        if split == "train":
            found += joined(spoken, options.output / "joined", JOINED)
        if split == "test":
            for name in ("words", "speaker"):
                own = [one for one in found if one["key"].endswith(name)]
                _write(options.output / f"test_{name}.jsonl", own)
        else:
            _write(options.output / f"{split}.jsonl", found)


def _asked(line: dict, everything: bool) -> Iterator[dict]:
    """What a recording is asked."""
    key, about, answer = line["key"], line["extra"], line["txt"]
    extra = {name: about[name] for name in ("kind", "lang", "voice")}
    yield line | {"key": f"{key}_words", "txt": about["transcript"], "task": "<TRANSCRIBE>", "extra": extra}
    if about["kind"] == "question":
        yield line | {"key": f"{key}_answer", "txt": answer, "task": "<S2TCHAT>", "extra": extra}
    if everything or random.Random(f"speaker/{key}").random() < 0.5:
        said = f"A {about['voice']['gender']}."
        asked = extra | {"request": SPEAKER}
        yield line | {"key": f"{key}_speaker", "txt": said, "task": "<S2TCHAT>", "extra": asked}


def joined(spoken: list[dict], folder: Path, most: int) -> list[dict]:
    """Lines of up to `most` recordings in `folder`, each of two or three that the same voice spoke."""
    rng, of_voice = random.Random(4), {}
    for line in spoken:
        voice = line["extra"]["voice"]
        of_voice.setdefault((voice.get("engine"), voice.get("voice")), []).append(line)
    groups = []
    for own in of_voice.values():
        left = rng.sample(own, len(own))
        while len(left) >= 3:
            groups.append(_taken(left, rng.choice((2, 3))))
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for group in rng.sample(groups, len(groups)):
        pieces, rate = _pieces(group, rng)
        if len(found) < most and sum(map(len, pieces)) <= LONGEST * rate:
            path = folder / f"{len(found):05d}.wav"
            sf.write(path, np.concatenate(pieces), rate, "PCM_16")
            text = " ".join(line["extra"]["transcript"] for line in group)
            extra = {"kind": "joined", "lang": "en", "voice": group[0]["extra"]["voice"]}
            line = {"key": f"joined_{len(found):05d}_words", "wav": str(path.resolve()), "txt": text}
            found.append(line | {"task": "<TRANSCRIBE>", "extra": extra})
    return found


def _pieces(group: list[dict], rng: random.Random) -> tuple[list[np.ndarray], int]:
    """The recordings of a group with pauses between them, and their sample rate."""
    pieces = []
    for line in group:
        x_N, rate = sf.read(line["wav"], dtype="float32")
        pieces += [x_N, np.zeros(int(rng.uniform(*PAUSE) * rate), np.float32)]
    return pieces[:-1], rate


def _write(path: Path, found: list[dict]) -> None:
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in found))
    print(f"{path.name}: {len(found)} lines")


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("texts", "lines"))
    parser.add_argument(
        "--model", type=Path, metavar="DIR", help="of texts: the joined parts, before training"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--small", action="store_true", help="of texts: a corpus of minutes")
    options = parser.parse_args(arguments)
    note = options.output / f"{options.step}.json"
    try:
        if options.step == "texts" and options.model is None:
            raise UserError("texts: needs --model")
        if is_noted(note, {"small": options.small}, f"delete {options.output} or choose another --output"):
            print(f"{options.output}: complete, kept")
            return
        options.output.mkdir(parents=True, exist_ok=True)
        (texts if options.step == "texts" else lines)(options)
        write_note(note, {"small": options.small})
    except (UserError, OSError, KeyError) as error:
        sys.exit(f"corpus.py: {error}")


if __name__ == "__main__":
    main()
