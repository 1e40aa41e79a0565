"""Generate the speech world: synthetic speech for eight tasks by espeak-ng, with manifests.

    python examples/speech_world/generate.py --output DIR --train 18000 --valid 200 --test 900 --seed 1

Notable choices
- Every utterance depends only on (seed, split, index): jobs and restarts do not change a sample, and a
  smaller part is the beginning of a larger one.
- A part is complete when its settings file exists, which is written last; an incomplete part is generated
  again. The same holds for the text manifests; complete ones of versions without settings are accepted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import contents
import grammar
import manifests
import numpy as np
from espeak import installation, link_data, speak
from events import event
from grammar import LANGUAGES, SPLITS, words
from notes import is_noted, write_note
from plan import Line, plan

from mindspore_osum.errors import UserError
from mindspore_osum.files import write_text
from mindspore_osum.tasks import tags_of

READINGS = grammar.READINGS | contents.READINGS
VERSION = 8  # of the corpus definition; a part of another version does not count as complete
RATE = 16000  # Hz, of the written files
MARGIN = RATE * 80 // 1000  # samples kept before and after the speech
SHORTEST, LONGEST = RATE, RATE * 32 // 10  # samples; the longest without the added sound
FASTEST = 400  # words per minute; espeak-ng changes its method of speeding up at 450
NOISE_DB = {"train": (20.0, 45.0), "valid": (30.0, 50.0), "test": (30.0, 50.0)}  # signal to noise ratio
PEAK_DB = {"train": (-18.0, -1.0), "valid": (-10.0, -3.0), "test": (-10.0, -3.0)}  # full scale = 0
TEXTS = ("text_qa", "intent_train", "intent_valid", "intent_test")  # manifests without speech
CHUNK = 100  # utterances per job of a process


@dataclass(frozen=True)
class Recording:
    """A rendered line: int16 samples (N,), and (word, start, end) in seconds."""

    wave: np.ndarray
    times: list[tuple[str, float, float]]


def say(line: Line, rate: int, data: Path) -> tuple[np.ndarray, np.ndarray]:
    """Speech of a line, float32 (N,) at 16 kHz with margins of 80 ms, and the start sample of each word."""
    import soxr

    text = grammar.pinyin(line.text, READINGS) if line.lang == "zh" else line.text
    samples, source, starts = speak(text, line.accent, line.speaker, rate, line.pitch, line.tones, data)
    wave = soxr.resample(samples.astype(np.float32) / 32768, source, RATE)
    loud = np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max())
    if len(loud) == 0:
        raise UserError(f"{line.key}: espeak-ng's {line.voice} says {text!r} without a sound")
    wave = np.pad(wave, MARGIN)[loud[0] : loud[-1] + 1 + 2 * MARGIN]
    first = np.array(starts) * RATE // source - loud[0] + MARGIN
    return wave, np.clip(first, MARGIN, len(wave) - MARGIN)


def render(line: Line, seed: int, data: Path) -> Recording:
    """1.0-4.1 s of speech, with a sound before or after it or none, at a random level over coloured noise."""
    rate = line.rate
    wave, starts = say(line, rate, data)
    while len(wave) > LONGEST:  # speak faster; 1.08 compensates for the margins, which do not shrink
        rate = int(rate * 1.08 * len(wave) / LONGEST)
        if rate > FASTEST:
            raise UserError(f"{line.text!r} ({line.key}) is longer than {LONGEST / RATE} s; shorten it")
        wave, starts = say(line, rate, data)
    rng = np.random.default_rng([seed, grammar.SPLITS.index(line.split), line.index])
    edges = np.append(starts, len(wave) - MARGIN)
    before = 0
    if line.event:
        sound = event(line.event, rng, RATE) * rng.uniform(0.5, 1.0) * np.abs(wave).max()
        sound = np.pad(sound.astype(np.float32), (MARGIN // 2, MARGIN // 2))
        before = len(sound) if line.event_first else 0
        wave = np.concatenate([sound, wave] if line.event_first else [wave, sound])
    if len(wave) < SHORTEST:
        more = int(rng.integers(0, SHORTEST - len(wave) + 1))
        before, wave = before + more, np.pad(wave, (more, SHORTEST - len(wave) - more))
    seconds = ((edges + before) / RATE).tolist()
    times = list(zip(grammar.words(line.text, line.lang), seconds[:-1], seconds[1:], strict=True))
    return Recording(_record_over_noise(wave, line.split, rng), times)


def _record_over_noise(wave: np.ndarray, split: str, rng) -> np.ndarray:
    """Add noise, from white to a low rumble, and set a random level: float32 (N,) -> int16 (N,)."""
    noise = rng.standard_normal(len(wave) + 16).astype(np.float32)
    noise = np.convolve(noise, rng.uniform(0, 0.95) ** np.arange(17), "valid")
    ratio = 10 ** (rng.uniform(*NOISE_DB[split]) / 20)
    wave = wave + noise * (wave.std() / noise.std() / ratio)
    wave *= 10 ** (rng.uniform(*PEAK_DB[split]) / 20) / np.abs(wave).max()
    return np.round(wave * 32767).astype(np.int16)


def make(lines: list[Line], folder: Path, seed: int, source: Path) -> list[tuple[int, list]]:
    """Write the wav files of `lines` into `folder`; return length (samples) and word times of each."""
    import soundfile

    made = []
    with tempfile.TemporaryDirectory() as data:  # private to this process, since its speakers change
        link_data(source, Path(data))
        recordings = [render(line, seed, Path(data)) for line in lines]
    for line, recording in zip(lines, recordings, strict=True):
        wave = recording.wave
        path = folder / f"{line.key}.wav"
        try:
            soundfile.write(path, wave, RATE, subtype="PCM_16")
            written = path.stat().st_size
        except (OSError, RuntimeError) as error:
            raise UserError(f"cannot write {path}: {error}; is the disk full?") from None
        if written < 2 * len(wave):
            raise UserError(f"{path} is incomplete; is the disk full?")
        made.append((len(wave), recording.times))
    return made


def records(lines: list[Line], made: list[tuple[int, list]], combined: bool = False) -> list[dict]:
    """Manifest lines of a part: those of the single tasks, or those that ask for several labels at once."""
    found = []
    first = manifests.LINES_EACH if combined else 0  # so that no line's key occurs twice
    for line, (samples, times) in zip(lines, made, strict=True):
        keys = manifests.combined_keys(line) if combined else manifests.own_keys(line)
        step, seconds = 0.01 if line.split == "test" else manifests.STEP, samples / RATE
        found += [manifests.record(line, key, i, times, seconds, step) for i, key in enumerate(keys, first)]
    return found


def everything(lines: list[Line], made: list[tuple[int, list]]) -> list[dict]:
    """Manifest lines with every recording once, with all labels: for the first training of the encoder."""
    found = []
    for line, (samples, times) in zip(lines, made, strict=True):
        key = manifests.ALL_WITH_EVENT if line.event else manifests.ALL
        found.append(manifests.record(line, key, 0, times, samples / RATE, 0.01))
    return found


def write_manifest(path: Path, lines: list[dict]) -> None:
    """Write JSON lines; lines without a key get a number as key."""
    keyed = ({"key": f"{path.stem}_{i:06d}"} | line for i, line in enumerate(lines))
    write_text(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in keyed))


def write_texts(output: Path, seed: int, requests: int) -> None:
    """Write the manifests without speech: questions and answers, requests and their tags."""
    settings = {"requests": requests, "seed": seed, "version": VERSION}
    if texts_done(output, settings):
        print("manifests of text: complete, kept")
        return
    pairs = [line for lang in grammar.LANGUAGES for line in manifests.text_lines(lang, seed)]
    write_manifest(output / "text_qa.jsonl", pairs)
    for split, count in (("train", requests), ("valid", requests // 20), ("test", requests // 6)):
        write_manifest(output / f"intent_{split}.jsonl", list(manifests.intent_lines(split, count, seed)))
    write_note(output / "texts.settings.json", settings)


def texts_done(output: Path, settings: dict) -> bool:
    """Whether all text manifests are complete; errors as in `is_done`."""
    note = output / "texts.settings.json"
    noted = is_noted(note, settings, f"delete {output} or choose another --output")
    complete = all((output / f"{name}.jsonl").exists() for name in TEXTS)
    if noted and not complete:
        raise UserError(f"{output}: the manifests of text have lost files; delete {note} to make them again")
    return complete


def is_done(output: Path, settings: dict) -> bool:
    """Whether a complete part with the same settings exists.

    Raises
    ------
    UserError
        A part with other settings exists, or files of it are missing.
    """
    split, note = settings["split"], output / f"{settings['split']}.settings.json"
    if not is_noted(note, settings, f"delete {output} or choose another --output"):
        return False
    wavs = len(list((output / "wav" / split).glob("*.wav")))
    if wavs != settings["count"] or not (output / f"{split}.jsonl").exists():
        raise UserError(f"{output}: the finished {split} part has lost files; delete {note} to make it again")
    return True


def generate(settings: dict, output: Path, jobs: int, source: Path) -> None:
    """Generate one part: wav files, then the manifest, then the settings file that marks it complete."""
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
    start, made = time.perf_counter(), []
    chunks = [lines[i : i + CHUNK] for i in range(0, count, CHUNK)]
    ignore = (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; only the parent handles it
    with ProcessPoolExecutor(jobs, initializer=signal.signal, initargs=ignore) as pool:
        for part in pool.map(partial(make, folder=unfinished, seed=seed, source=source), chunks):
            made += part
            if sys.stderr.isatty():
                print(f"\r{split}: {len(made)}/{count} ", end="", file=sys.stderr)
    os.replace(unfinished, final)
    write_manifest(output / f"{split}.jsonl", asked := records(lines, made))
    if split == "train":
        questions = [line for line in asked if "chat" in tags_of(line["task"])]
        write_manifest(output / "questions.jsonl", questions)
    write_manifest(output / f"combined_{split}.jsonl", records(lines, made, combined=True))
    if split != "test":
        write_manifest(output / f"{split}_all.jsonl", everything(lines, made))
    write_note(output / f"{split}.settings.json", settings)
    report(lines, [n for n, _ in made], time.perf_counter() - start)


def report(lines: list[Line], lengths: list[int], took: float) -> None:
    """Print statistics of a part and how long it took (s)."""
    seconds = np.array(lengths) / RATE
    shortest, median, most, longest = np.quantile(seconds, (0, 0.5, 0.95, 1))
    print(
        f"{lines[0].split}: {len(lines)} utterances, {seconds.sum() / 3600:.2f} h, made in {took:.0f} s; "
        f"each {shortest:.2f}-{longest:.2f} s, median {median:.2f}, 95% below {most:.2f}"
    )
    for lang in LANGUAGES:
        texts = [line.text for line in lines if line.lang == lang]
        units = {word for text in texts for word in words(text, lang)}
        speakers = {line.speaker.name for line in lines if line.lang == lang}
        print(
            f"  {lang}: {len(texts)} utterances, {len(set(texts))} sentences, {len(units)} "
            f"{'words' if lang == 'en' else 'characters'}, {len(speakers)} voices"
        )


def whole(text: str) -> int:
    """Parse a count on the command line."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def check_modules() -> None:
    """Fail early if a Python module is missing."""
    for module in ("soxr", "soundfile", "pypinyin"):
        try:
            __import__(module)
        except ImportError:
            raise UserError(f"the Python module {module} is missing; run `pip install {module}`") from None


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for wav/ and the manifests")
    for split, count in zip(SPLITS, (18000, 200, 900)):
        note = f"utterances (default {count}; 0 = none)"
        parser.add_argument(f"--{split}", type=whole, default=count, metavar="N", help=note)
    parser.add_argument("--seed", type=whole, default=1, help="default 1")
    parser.add_argument("--jobs", type=whole, default=2, help="processes (default 2)")
    parser.add_argument("--requests", type=whole, default=64000, help="of training (default 64000)")
    options = parser.parse_args(arguments)
    try:
        check_modules()
        version, source = installation()
        for split in SPLITS:
            count = getattr(options, split)
            settings = {"split": split, "count": count, "seed": options.seed, "version": VERSION}
            settings["espeak"] = version
            if count:
                generate(settings, options.output, max(1, options.jobs), source)
        write_texts(options.output, options.seed, options.requests)
    except (UserError, OSError) as error:
        sys.exit(f"generate.py: {error}")
    except KeyboardInterrupt:
        sys.exit("generate.py: interrupted; run the same command again, finished parts are kept")


if __name__ == "__main__":
    main()
