"""Make the speech world: synthetic speech by espeak-ng, with manifests for train, valid and test.

    python examples/speech_world/generate.py --output DIR --train 12000 --valid 300 --test 600 --seed 1

Every utterance depends on (seed, split, index) alone: the number of jobs and restarts do not change a sample.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from grammar import LANGUAGES, SPLITS, pinyin, sentence, split_of, words  # noqa: E402
from voices import VARIANTS, voices  # noqa: E402

VERSION = 1  # of the corpus definition; a finished part made by another one is not taken as done
RATE = 16000  # Hz, of what is written; espeak-ng makes 22.05 kHz
MARGIN = RATE * 80 // 1000  # samples of near silence kept at both ends
SHORTEST, LONGEST = RATE, RATE * 32 // 10  # samples
NOISE_DB = {"train": (15.0, 40.0), "valid": (30.0, 50.0), "test": (30.0, 50.0)}  # signal to noise ratio
PEAK_DB = {"train": (-18.0, -1.0), "valid": (-10.0, -3.0), "test": (-10.0, -3.0)}  # full scale = 0
INSTALL = "bash examples/speech_world/install_espeak.sh"


class WorldError(Exception):
    """What is wrong, where, and how to mend it, in one line for the user."""


@dataclass(frozen=True)
class Line:
    """Plan of one utterance; `rate` in espeak-ng's words per minute, `pitch` 0..99 (50 = the voice's own)."""

    split: str
    index: int
    lang: str
    text: str
    voice: str
    gender: str
    rate: int
    pitch: int

    @property
    def key(self) -> str:
        return f"{self.split}_{self.index:06d}"


def plan(split: str, count: int, seed: int) -> list[Line]:
    """`count` utterances of a split; sentences of valid and test are all different.

    Raises
    ------
    WorldError
        If the split has not that many sentences.
    """
    rng = random.Random(f"{seed}/{split}")
    lines: list[Line] = []
    seen: set[str] = set()
    misses = 0
    while len(lines) < count:
        lang = LANGUAGES[len(lines) % len(LANGUAGES)]
        text = sentence(lang, rng)
        if split_of(text, seed) != split or (split != "train" and text in seen):
            misses += 1
            if misses > 200 * (count + 100):
                raise WorldError(f"--{split} {count}: only about {len(seen)} sentences; ask for fewer")
            continue
        seen.add(text)
        gender = rng.choice(sorted(VARIANTS[split]))
        voice = rng.choice(voices(split, lang, gender))
        slow = 130 + 10 * max(0, len(words(text, lang)) - 4)  # long sentences are not read slowly
        rate, pitch = rng.randint(slow, 205), rng.randint(30, 70)
        lines.append(Line(split, len(lines), lang, text, voice.name, gender, rate, pitch))
    return lines


def speak(line: Line, rate: int) -> np.ndarray:
    """espeak-ng's reading of a line, float32 (N,) at 16 kHz, silence at the ends trimmed to 80 ms."""
    import soxr

    text = pinyin(line.text) if line.lang == "zh" else line.text
    command = ["espeak-ng", "-v", line.voice, "-s", str(rate), "-p", str(line.pitch), "--stdout", text]
    done = subprocess.run(command, capture_output=True)
    wave = np.frombuffer(done.stdout[44:], "<i2")  # 44 bytes of WAV header first
    if done.returncode or len(wave) < 1000:
        message = done.stderr.decode(errors="replace").strip()[-200:] or "no sound came out"
        raise WorldError(f"espeak-ng failed on {line.key} ({' '.join(command)}): {message}")
    source = int.from_bytes(done.stdout[24:28], "little")
    wave = soxr.resample(wave.astype(np.float32) / 32768, source, RATE)
    loud = np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max())
    padded = np.pad(wave, MARGIN)
    return padded[loud[0] : loud[-1] + 1 + 2 * MARGIN]


def render(line: Line, seed: int) -> np.ndarray:
    """Samples of a line, int16 (N,): 1.0-3.2 s, at a random level over a little coloured noise."""
    wave = speak(line, line.rate)
    if len(wave) > LONGEST:  # read faster; the 1.08 allows for pauses that do not shrink
        wave = speak(line, int(line.rate * 1.08 * len(wave) / LONGEST))[:LONGEST]
    rng = np.random.default_rng([seed, SPLITS.index(line.split), line.index])
    if len(wave) < SHORTEST:
        before = int(rng.integers(0, SHORTEST - len(wave) + 1))
        wave = np.pad(wave, (before, SHORTEST - len(wave) - before))
    noise = rng.standard_normal(len(wave) + 16).astype(np.float32)
    noise = np.convolve(noise, rng.uniform(0, 0.95) ** np.arange(17), "valid")  # from white to low rumble
    ratio = 10 ** (rng.uniform(*NOISE_DB[line.split]) / 20)
    wave = wave + noise * (wave.std() / noise.std() / ratio)
    wave *= 10 ** (rng.uniform(*PEAK_DB[line.split]) / 20) / np.abs(wave).max()
    return np.round(wave * 32767).astype(np.int16)


def make(lines: list[Line], folder: Path, seed: int) -> list[int]:
    """Write the wav files of `lines` into `folder`; return their lengths in samples."""
    import soundfile

    lengths = []
    for line in lines:
        wave = render(line, seed)
        try:
            soundfile.write(folder / f"{line.key}.wav", wave, RATE, subtype="PCM_16")
        except (OSError, soundfile.LibsndfileError) as error:
            raise WorldError(f"cannot write {folder / line.key}.wav: {error}; is the disk full?") from None
        lengths.append(len(wave))
    return lengths


def record(line: Line, samples: int) -> dict:
    """Manifest line of an utterance, in the published form."""
    extra = {"dataset": "speech_world", "gender": line.gender, "voice": line.voice, "lang": line.lang}
    extra["seconds"] = round(samples / RATE, 3)
    wav = f"wav/{line.split}/{line.key}.wav"
    return {"key": line.key, "wav": wav, "txt": line.text, "task": "<TRANSCRIBE>", "extra": extra}


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def is_done(output: Path, settings: dict) -> bool:
    """Whether a finished part made by the same settings is there; one made by others is an error."""
    split, count = settings["split"], settings["count"]
    note, manifest = output / f"{split}.settings.json", output / f"{split}.jsonl"
    if not note.exists():
        return False
    if json.loads(note.read_text(encoding="utf-8")) != settings:
        raise WorldError(f"{note} was made by other settings; delete {output} or choose another --output")
    if not manifest.exists() or len(list((output / "wav" / split).glob("*.wav"))) != count:
        raise WorldError(f"{output}: the {split} part has lost files; delete {note.name} to make it again")
    return True


def generate(split: str, count: int, output: Path, seed: int, jobs: int) -> None:
    """Make one part: wav files, then the manifest, then the note of its settings that marks it complete."""
    settings = {"split": split, "count": count, "seed": seed, "version": VERSION}
    if is_done(output, settings):
        print(f"{split}: complete and made by the same settings, kept")
        return
    lines = plan(split, count, seed)
    partial, final = output / "wav" / f"{split}.part", output / "wav" / split
    for stale in (partial, final):
        if stale.exists():
            print(f"{split}: removing the unfinished {stale}")
            shutil.rmtree(stale)
    partial.mkdir(parents=True)
    start, lengths = time.perf_counter(), []
    chunks = [lines[i : i + 100] for i in range(0, count, 100)]
    with ProcessPoolExecutor(jobs) as pool:
        for part in pool.map(make, chunks, [partial] * len(chunks), [seed] * len(chunks)):
            lengths += part
            if sys.stderr.isatty():
                print(f"\r{split}: {len(lengths)}/{count}", end="", file=sys.stderr)
    os.replace(partial, final)
    records = [json.dumps(record(*pair), ensure_ascii=False) + "\n" for pair in zip(lines, lengths)]
    write_text(output / f"{split}.jsonl", "".join(records))
    write_text(output / f"{split}.settings.json", json.dumps(settings) + "\n")
    report(split, lines, lengths, time.perf_counter() - start)


def report(split: str, lines: list[Line], lengths: list[int], seconds: float) -> None:
    """Print what a part holds."""
    length = np.array(lengths) / RATE
    print(
        f"{split}: {len(lines)} utterances, {length.sum() / 3600:.2f} h; seconds min {length.min():.2f} "
        f"median {np.median(length):.2f} 95% {np.quantile(length, 0.95):.2f} max {length.max():.2f}; "
        f"{seconds * 1000 / len(lines):.1f} ms each"
    )
    for lang in LANGUAGES:
        texts = [line.text for line in lines if line.lang == lang]
        units = {word for text in texts for word in words(text, lang)}
        speakers = {line.voice for line in lines if line.lang == lang}
        print(
            f"  {lang}: {len(texts)} utterances, {len(set(texts))} sentences, {len(units)} "
            f"{'words' if lang == 'en' else 'characters'}, {len(speakers)} voices"
        )


def check_tools() -> None:
    """Fail early when something needed is not installed."""
    if shutil.which("espeak-ng") is None:
        raise WorldError(f"espeak-ng is not installed; run `{INSTALL}`")
    for module in ("soxr", "soundfile", "pypinyin"):
        try:
            __import__(module)
        except ImportError:
            raise WorldError(f"the Python module {module} is missing; run `pip install {module}`") from None


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for wav/ and the manifests")
    for split, count in zip(SPLITS, (12000, 300, 600)):
        note = f"utterances (default {count}; 0 = none)"
        parser.add_argument(f"--{split}", type=int, default=count, metavar="N", help=note)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes (default 2)")
    options = parser.parse_args(arguments)
    try:
        check_tools()
        for split in SPLITS:
            count = getattr(options, split)
            if count > 0:
                generate(split, count, options.output, options.seed, options.jobs)
    except (WorldError, OSError) as error:
        sys.exit(f"generate.py: {error}")


if __name__ == "__main__":
    main()
