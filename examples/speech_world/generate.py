"""Make the speech world: synthetic speech by espeak-ng, with manifests for train, valid and test.

    python examples/speech_world/generate.py --output DIR --train 12000 --valid 300 --test 600 --seed 1

Notable choices
- Every utterance depends on (seed, split, index) alone: jobs and restarts do not change a sample, and a
  smaller part is the beginning of a larger one.
- A part is finished when its settings file exists, which is written last; an unfinished part is made anew.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from espeak import installation, link_data, speak
from grammar import LANGUAGES, SPLITS, pinyin, sentence, split_of, words
from voices import VARIANTS, voices

from mindspore_osum.errors import UserError

VERSION = 1  # of the corpus definition; a finished part of another one is not taken as done
RATE = 16000  # Hz, of what is written
MARGIN = RATE * 80 // 1000  # samples kept before and after the speech
SHORTEST, LONGEST = RATE, RATE * 32 // 10  # samples
FASTEST = 400  # words per minute; espeak-ng changes its method of speeding up at 450
NOISE_DB = {"train": (15.0, 40.0), "valid": (30.0, 50.0), "test": (30.0, 50.0)}  # signal to noise ratio
PEAK_DB = {"train": (-18.0, -1.0), "valid": (-10.0, -3.0), "test": (-10.0, -3.0)}  # full scale = 0
CHUNK = 100  # utterances handed to a process at a time


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
    """`count` utterances of a split, languages in turn; sentences of valid and test are all different.

    Raises
    ------
    UserError
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
                raise UserError(f"--{split} {count}: the grammar gives only about {len(seen)}; ask for fewer")
            continue
        seen.add(text)
        gender = rng.choice(sorted(VARIANTS[split]))
        voice = rng.choice(voices(split, lang, gender))
        slow = 130 + 10 * max(0, len(words(text, lang)) - 4)  # long sentences are not read slowly
        rate, pitch = rng.randint(slow, 205), rng.randint(30, 70)
        lines.append(Line(split, len(lines), lang, text, voice.name, gender, rate, pitch))
    return lines


def say(line: Line, rate: int, data: Path) -> np.ndarray:
    """The line spoken, float32 (N,) at 16 kHz; silence at the ends is cut to 80 ms."""
    import soxr

    text = pinyin(line.text) if line.lang == "zh" else line.text
    samples, source = speak(text, line.voice, rate, line.pitch, data)
    wave = soxr.resample(samples.astype(np.float32) / 32768, source, RATE)
    loud = np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max())
    if len(loud) == 0:
        raise UserError(f"{line.key}: espeak-ng's {line.voice} says {text!r} without a sound")
    return np.pad(wave, MARGIN)[loud[0] : loud[-1] + 1 + 2 * MARGIN]


def render(line: Line, seed: int, data: Path) -> np.ndarray:
    """Samples of a line, int16 (N,): 1.0-3.2 s, at a random level over a little coloured noise."""
    rate = line.rate
    wave = say(line, rate, data)
    while len(wave) > LONGEST:  # read faster; 1.08 makes up for the margins, which do not shrink
        rate = int(rate * 1.08 * len(wave) / LONGEST)
        if rate > FASTEST:
            raise UserError(f"{line.text!r} ({line.key}) is longer than {LONGEST / RATE} s; shorten it")
        wave = say(line, rate, data)
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


def make(lines: list[Line], folder: Path, seed: int, data: Path) -> list[int]:
    """Write the wav files of `lines` into `folder`; return their lengths in samples."""
    import soundfile

    lengths = []
    for line in lines:
        wave = render(line, seed, data)
        path = folder / f"{line.key}.wav"
        try:
            soundfile.write(path, wave, RATE, subtype="PCM_16")
            written = path.stat().st_size
        except (OSError, RuntimeError) as error:
            raise UserError(f"cannot write {path}: {error}; is the disk full?") from None
        if written < 2 * len(wave):
            raise UserError(f"{path} was cut short; is the disk full?")
        lengths.append(len(wave))
    return lengths


def record(line: Line, samples: int) -> dict:
    """Manifest line of an utterance, in the published form; the wav path starts at the manifest's folder."""
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
    """Whether a finished part made by the same settings is there.

    Raises
    ------
    UserError
        If one made by other settings is there, or one that has lost files.
    """
    split, note = settings["split"], output / f"{settings['split']}.settings.json"
    if not note.exists():
        return False
    if note.read_text(encoding="utf-8") != json.dumps(settings) + "\n":
        raise UserError(f"{note} is not of {settings}; delete {output} or choose another --output")
    wavs = len(list((output / "wav" / split).glob("*.wav")))
    if wavs != settings["count"] or not (output / f"{split}.jsonl").exists():
        raise UserError(f"{output}: the finished {split} part has lost files; delete {note} to make it again")
    return True


def generate(settings: dict, output: Path, jobs: int, data: Path) -> None:
    """Make one part: wav files, then the manifest, then the settings file that marks it complete."""
    split, count, seed = settings["split"], settings["count"], settings["seed"]
    if is_done(output, settings):
        print(f"{split}: complete and made by the same settings, kept")
        return
    lines = plan(split, count, seed)
    unfinished, final = output / "wav" / f"{split}.part", output / "wav" / split
    for stale in (unfinished, final):
        if stale.exists():
            print(f"{split}: removing {stale} of an unfinished run")
            shutil.rmtree(stale)
    unfinished.mkdir(parents=True)
    start, lengths = time.perf_counter(), []
    chunks = [lines[i : i + CHUNK] for i in range(0, count, CHUNK)]
    ignore = (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent alone answers it
    with ProcessPoolExecutor(jobs, initializer=signal.signal, initargs=ignore) as pool:
        for part in pool.map(partial(make, folder=unfinished, seed=seed, data=data), chunks):
            lengths += part
            if sys.stderr.isatty():
                print(f"\r{split}: {len(lengths)}/{count} ", end="", file=sys.stderr)
    os.replace(unfinished, final)
    records = [json.dumps(record(*pair), ensure_ascii=False) + "\n" for pair in zip(lines, lengths)]
    write_text(output / f"{split}.jsonl", "".join(records))
    write_text(output / f"{split}.settings.json", json.dumps(settings) + "\n")
    report(lines, lengths, time.perf_counter() - start)


def report(lines: list[Line], lengths: list[int], took: float) -> None:
    """Print what a part holds and how long it took (s)."""
    seconds = np.array(lengths) / RATE
    shortest, median, most, longest = np.quantile(seconds, (0, 0.5, 0.95, 1))
    print(
        f"{lines[0].split}: {len(lines)} utterances, {seconds.sum() / 3600:.2f} h, made in {took:.0f} s; "
        f"each {shortest:.2f}-{longest:.2f} s, median {median:.2f}, 95% below {most:.2f}"
    )
    for lang in LANGUAGES:
        texts = [line.text for line in lines if line.lang == lang]
        units = {word for text in texts for word in words(text, lang)}
        speakers = {line.voice for line in lines if line.lang == lang}
        print(
            f"  {lang}: {len(texts)} utterances, {len(set(texts))} sentences, {len(units)} "
            f"{'words' if lang == 'en' else 'characters'}, {len(speakers)} voices"
        )


def whole(text: str) -> int:
    """A count on the command line."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def check_modules() -> None:
    """Fail before any work when a Python module is missing."""
    for module in ("soxr", "soundfile", "pypinyin"):
        try:
            __import__(module)
        except ImportError:
            raise UserError(f"the Python module {module} is missing; run `pip install {module}`") from None


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for wav/ and the manifests")
    for split, count in zip(SPLITS, (12000, 300, 600)):
        note = f"utterances (default {count}; 0 = none)"
        parser.add_argument(f"--{split}", type=whole, default=count, metavar="N", help=note)
    parser.add_argument("--seed", type=whole, default=1, help="default 1")
    parser.add_argument("--jobs", type=whole, default=2, help="processes (default 2)")
    options = parser.parse_args(arguments)
    try:
        check_modules()
        version, source = installation()
        with tempfile.TemporaryDirectory() as data:
            link_data(source, Path(data))
            for split in SPLITS:
                count = getattr(options, split)
                settings = {"split": split, "count": count, "seed": options.seed, "version": VERSION}
                settings["espeak"] = version
                if count:
                    generate(settings, options.output, max(1, options.jobs), Path(data))
    except (UserError, OSError) as error:
        sys.exit(f"generate.py: {error}")
    except KeyboardInterrupt:
        sys.exit("generate.py: interrupted; run the same command again, finished parts are kept")


if __name__ == "__main__":
    main()
