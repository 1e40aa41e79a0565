"""The corpus of the fine-tuning: lines of one task, of the speech world and of other synthesisers' speech.

    python examples/real_whisper/corpus.py --speech-world DIR --synthesizer PROGRAM --output corpus

Notable choices
- One task a line, as Whisper learns it. What is special in a recording (a feeling, style or sound) is always
  asked; its speaker's gender and age, its transcript and neutral labels now and then.
- Other synthesisers keep the transcripts natural: the speech world's English is lower case, its Mandarin is
  understood by nobody who has not learnt it. Voices of `UNSEEN` are in the test part only.
- The synthesiser is a program with the option `--batch FILE`; a line of it is {"text", "engine", "voice",
  "speed", "out"}, and `out` is relative to the file's folder.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "speech_world"))

from notes import is_noted, write_note
from sentences import sentences, written

from mindspore_osum.errors import UserError
from mindspore_osum.files import write_text

T = "<TRANSCRIBE>"
TASK_OF = {
    "emotion": "<EMOTION>",
    "style": "<STYLE>",
    "event": "<CAPTION>",
    "gender": "<GENDER>",
    "age": "<AGE>",
}
# what else is asked of a training recording -> share of recordings
NOW_AND_THEN = {"words": 0.4, "gender": 0.25, "age": 0.4, "neutral": 0.25}
# engine, voice, language, gender -> sentences of training
VOICES = {
    ("flite", "slt", "en", "FEMALE"): 140,
    ("flite", "awb", "en", "MALE"): 110,
    ("flite", "kal16", "en", "MALE"): 70,
    ("piper", "joe", "en", "MALE"): 130,
    ("kokoro", "jf_alpha", "en", "FEMALE"): 25,
    ("kokoro", "jm_kumo", "en", "MALE"): 25,
    ("kokoro", "jf_nezumi", "zh", "FEMALE"): 25,
    ("kokoro", "jm_kumo", "zh", "MALE"): 40,
}
UNSEEN = {("flite", "rms", "en", "MALE"): 20, ("kokoro", "jf_tebukuro", "en", "FEMALE"): 8}
UNSEEN |= {("kokoro", "jf_tebukuro", "zh", "FEMALE"): 8}
NUMBER = re.compile(
    r"\b(zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|hundred|thousand|million|"
    r"(thir|four|fif|six|seven|eigh|nine)teen|(twen|thir|for|fif|six|seven|eigh|nine)ty)\b",
    re.IGNORECASE,
)
VERSION = 2


def world_lines(folder: Path, split: str) -> Iterator[dict]:
    """Lines of one task each of a part of the speech world; paths are relative to `folder`."""
    seen = set()
    for line in map(json.loads, (folder / f"{split}.jsonl").read_text("utf-8").splitlines()):
        if line["wav"] in seen:
            continue
        seen.add(line["wav"])
        about, key = line["extra"], Path(line["wav"]).stem
        text = written(
            ("" if about["lang"] == "zh" else " ").join(w for w, *_ in about["words"]), about["lang"]
        )
        for task in asked(about, key) if split == "train" else checked(about):
            answer = text if task == T else f"<{about[next(n for n, t in TASK_OF.items() if t == task)]}>"
            name = task.strip("<>").lower()
            yield {
                "key": f"{key}_{name}",
                "wav": line["wav"],
                "txt": answer,
                "task": task,
                "extra": kept(about),
            }


def kept(about: dict) -> dict:
    """What of a recording's description its lines keep."""
    return {name: about[name] for name in ("dataset", "kind", "lang", "voice")}


def special(about: dict) -> list[str]:
    """The tasks whose labels are special in a recording."""
    of_kind = {"feeling": ["<EMOTION>"], "style": ["<STYLE>"]}.get(about["kind"], [])
    return of_kind + (["<CAPTION>"] if about["event"] else [])


def asked(about: dict, key: str) -> list[str]:
    """The tasks of a training recording."""
    rng = random.Random(f"one task/{key}")
    found = special(about)
    for what, share in NOW_AND_THEN.items():
        if rng.random() < share:
            if what == "neutral":  # of a command or a question
                found += (
                    [] if about["kind"] in ("feeling", "style") else [rng.choice(("<EMOTION>", "<STYLE>"))]
                )
            else:
                found.append(T if what == "words" else TASK_OF[what])
    return found


def checked(about: dict) -> list[str]:
    """The tasks of a recording of valid or test: what is special in it, gender, age and transcript."""
    return [*special(about), "<GENDER>", "<AGE>", T]


def speech(voices: dict, seed: str) -> Iterator[dict]:
    """What other synthesisers say: a line for each recording, with `engine` and `voice`."""
    for (engine, voice, lang, gender), count in voices.items():
        for n, text in enumerate(sentences(lang, count, f"{seed}/{engine}/{voice}")):
            yield {
                "text": text,
                "engine": engine,
                "voice": voice,
                "speed": round(random.Random(f"{seed}/{voice}/{n}").uniform(0.9, 1.15), 2),
                "out": f"wav/{seed}/{engine}_{voice}_{lang}_{n:03d}.wav",
                "lang": lang,
                "gender": gender,
            }


def speech_lines(said: list[dict], seed: str) -> Iterator[dict]:
    """Their lines: the transcript of each, and the gender of every third (all of the test part)."""
    for n, line in enumerate(said):
        key = f"{seed}_{Path(line['out']).stem}"
        extra = {"dataset": line["engine"], "lang": line["lang"], "voice": line["voice"]}
        yield {"key": f"{key}_transcribe", "wav": line["out"], "txt": line["text"], "task": T, "extra": extra}
        if seed == "test" or n % 3 == 0:
            label = f"<{line['gender']}>"
            yield {
                "key": f"{key}_gender",
                "wav": line["out"],
                "txt": label,
                "task": "<GENDER>",
                "extra": extra,
            }


def synthesize(command: list[str], lines: list[dict], output: Path, seed: str) -> None:
    """Make the recordings of `lines` below `output`."""
    (output / "wav" / seed).mkdir(parents=True, exist_ok=True)
    batch = output / f"{seed}_batch.jsonl"
    write_text(batch, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    if subprocess.run([*command, "--batch", str(batch)], check=False).returncode:
        raise UserError(f"{' '.join(command)}: could not make the speech of {batch}; see above")
    if lost := [line["out"] for line in lines if not (output / line["out"]).is_file()]:
        raise UserError(f"{' '.join(command)}: {len(lost)} recordings are missing, the first is {lost[0]}")


def transcripts(manifest: Path) -> Iterator[dict]:
    """The transcript lines of another manifest, such as corpus/train.jsonl of examples/real_parts.

    Those with a number in words are left out: Whisper writes figures, and would unlearn it.
    """
    for number, line in enumerate(map(json.loads, manifest.read_text("utf-8").splitlines()), 1):
        if line["task"] == T and not NUMBER.search(line["txt"]):
            wav = str((manifest.parent / line["wav"]).resolve())
            extra = {"dataset": manifest.parent.name, "lang": line["extra"]["lang"], "voice": str(number)}
            yield {"key": f"more_{number}", "wav": wav, "txt": line["txt"], "task": T, "extra": extra}


def parts(lines: list[dict], split: str) -> dict[str, list[dict]]:
    """Manifests by name; those of training are weighted by the job."""
    if split != "train":
        return {split: lines}
    found: dict[str, list[dict]] = {"labels": [], "words": [], "speech": []}
    for line in lines:
        in_world = line["extra"]["dataset"] == "speech_world"
        found[("words" if line["task"] == T else "labels") if in_world else "speech"].append(line)
    return found


def write(path: Path, lines: list[dict], folders: dict[str, Path]) -> None:
    """Write a manifest whose paths begin at its folder."""
    for line in lines:
        home = folders["world" if line["extra"]["dataset"] == "speech_world" else "other"]
        line["wav"] = str((home / line["wav"]).resolve())
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--speech-world", type=Path, required=True, metavar="DIR", help="the corpus of generate.py")
    add(
        "--synthesizer",
        nargs="+",
        metavar="WORD",
        default=[],
        help="program for other voices; none: without them",
    )
    add(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for the manifests and the other speech",
    )
    add("--more", type=Path, metavar="MANIFEST", help="its transcripts are learned, too")
    options = parser.parse_args(arguments)
    output, with_others = options.output, bool(options.synthesizer)
    note, settings = output / "corpus.json", {"version": VERSION, "others": with_others}
    settings |= {"more": str(options.more.resolve())} if options.more else {}
    try:
        if is_noted(note, settings, f"delete {output} or choose another --output"):
            print(f"{output}: complete, kept")
            return
        output.mkdir(parents=True, exist_ok=True)
        folders = {"world": options.speech_world, "other": output}
        for split, voices in (("train", VOICES), ("valid", {}), ("test", UNSEEN)):
            lines = list(world_lines(options.speech_world, split))
            said = list(speech(voices if with_others else {}, split))
            if said:
                synthesize(options.synthesizer, said, output, split)
                lines += speech_lines(said, split)
            if split == "train" and options.more:
                lines += transcripts(options.more)
            for name, part in parts(lines, split).items():
                write(output / f"{name}.jsonl", part, folders)
                print(f"{name}: {len(part)} lines")
        write_note(note, settings)
    except (UserError, OSError, KeyError) as error:
        sys.exit(f"corpus.py: {error}")


if __name__ == "__main__":
    main()
