"""Whisper against transformers, openai-whisper and faster-whisper: windows of 30 s, and a talk.

Notable choices
- All have the same weights (ours, converted), recordings, threads and limits, decode greedily and keep the
  first answer; each is in a process of its own, and they take turns round by round. The log-mel is a part of
  the time; reading files is none.
- Tokens are compared: programs that write other ones do other work, and the card says so.
- A talk is transcribed as each program reads long recordings, with times: window by window, each from where
  the last section ended, without what was said before. How many words differ is on the card.
- CPU time is that of the process with all its threads: on a machine with other work its smallest is steadier
  than the clock's.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np

from mindspore_osum.bench.card import Outcome
from mindspore_osum.bench.setup import Setup
from mindspore_osum.bench.timing import Timing
from mindspore_osum.bench.torch_client import Side
from mindspore_osum.errors import UserError
from mindspore_osum.speech.config import SAMPLE_RATE

WINDOW, TALK, RATE = 30, 600, SAMPLE_RATE  # seconds, seconds, samples a second
QUICK_TALK = 45  # seconds
BATCH, LANGUAGE = 8, "en"
# key of the ratio, program, type of its weights
PEERS = {
    "transformers": ("transformers", "float32"),
    "openai-whisper": ("openai", "float32"),
    "faster-whisper": ("faster", "float32"),
    "faster-whisper int8": ("faster", "int8"),
}
RATIOS = {
    "transformers": "whisper_vs_transformers",
    "openai-whisper": "whisper_vs_openai",
    "faster-whisper": "whisper_vs_faster",
}
MEASURED = "ours"


@dataclass
class Work:
    """What all do.

    Attributes
    ----------
    wavs : files of samples: windows computed together, or a talk.
    """

    key: str
    what: str
    wavs: list[str]
    times: bool = False
    talk: bool = False
    runs: dict[str, list[dict]] = field(default_factory=dict)  # program -> seconds, cpu, tokens of each round

    @property
    def asked(self) -> dict:
        """The question to a side."""
        return {"wavs": self.wavs, "language": LANGUAGE, "times": self.times, "talk": self.talk}


class Ours:
    """This package, in this process."""

    def __init__(self, folder: str):
        from mindspore_osum.inference.engine import Engine

        self.engine = Engine(folder, device="CPU")
        if self.engine.cfg.model_type != "whisper_asr":
            raise UserError(f"--model {folder}: this benchmark is of a Whisper; give its folder")
        self.words = self.engine.cfg.vocabulary

    def run(self, wavs: Sequence[str], language: str, times: bool, talk: bool) -> dict:
        """As whisper_side.py `Side.run`."""
        waves = [np.load(wav) for wav in wavs]
        start, cpu = time.perf_counter(), time.process_time()
        found = self._talk(waves[0], language) if talk else self._windows(waves, language, times)
        return {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu, "tokens": found}

    def _windows(self, waves: list, language: str, times: bool) -> list[list[int]]:
        from mindspore_osum.inference.request import make_request
        from mindspore_osum.inference.sampling import KEEP, Sampling

        request = make_request("srwt" if times else "asr", language=language)
        prompts = [self.engine.prompt((wave, RATE), request)[0] for wave in waves]
        found = self.engine.generator.generate(prompts, Sampling(loops=KEEP), len(prompts))
        return [one.tokens for one in found]

    def _talk(self, wave, language: str) -> list[list[int]]:
        from mindspore_osum.inference.sampling import KEEP, Sampling

        keep = Sampling(loops=KEEP, fallback=False)
        found = self.transcribe((wave, RATE), language, keep, condition_on_previous_text=False)
        return [self.engine.tokenizer.encode(f" {segment.text}") for segment in found.segments]

    def transcribe(self, source, language: str, sampling=None, **how):
        """The `Response` about a recording of any length, with times, as `osum transcribe` gives it."""
        from mindspore_osum.inference.request import make_request
        from mindspore_osum.inference.respond import respond

        asked = [make_request("srwt", language=language)]
        (found,) = respond(self.engine, [source], asked, sampling=sampling, long="seek", **how)
        return found


def run(setup: Setup) -> Outcome:
    """Measure."""
    if not setup.model:
        raise UserError("bench whisper: give the folder of a Whisper, --model FOLDER")
    if not setup.audio:
        raise UserError("bench whisper: give speech, --audio FILE...; several files are joined")
    out, ours = Outcome(), Ours(setup.model)
    tasks, rounds = works(setup, speech(setup)), 1 if setup.quick else setup.rounds
    with ExitStack() as stack:
        sides: dict[str, Callable[..., dict]] = {MEASURED: ours.run}
        for name, side in peers(setup, ours, out, stack).items():
            sides[name] = lambda side=side, **asked: side.ask("run", **asked)
        for work in tasks:
            for turn in range(1 + rounds):
                for name, one in sides.items():
                    done = one(**work.asked)
                    if turn:  # the first round compiles, and warms up
                        work.runs.setdefault(name, []).append(done)
            _show(out, ours, work)
    _ratios(out, tasks)
    return out


def speech(setup: Setup) -> np.ndarray:
    """Samples of `setup.audio` one after the other, as long as a talk, repeated if they are shorter."""
    from mindspore_osum.speech.audio import load_audio

    waves = [load_audio(path) for path in setup.audio]
    return np.resize(np.concatenate(waves), (QUICK_TALK if setup.quick else TALK) * RATE)


def works(setup: Setup, wave_N: np.ndarray) -> list[Work]:
    """A window, several together, and the talk."""

    def kept(name: str, part: np.ndarray) -> str:
        path = setup.folder / f"{name}.npy"
        np.save(path, part)
        return str(path)

    size, count = WINDOW * RATE, 2 if setup.quick else BATCH
    windows = [kept(f"window{n}", np.resize(wave_N[n * size :], size)) for n in range(count)]
    return [
        Work("1", "30 s, batch 1", windows[:1]),
        Work(f"{BATCH}", f"30 s, batch {count}", windows),
        Work("times", "30 s, batch 1, with times", windows[:1], times=True),
        Work("talk", f"a talk of {len(wave_N) / RATE / 60:g} minutes", [kept("talk", wave_N)], talk=True),
    ]


def peers(
    setup: Setup, ours: Ours, out: Outcome, stack: ExitStack, names: Sequence[str] = tuple(PEERS)
) -> dict[str, Side]:
    """The other programs that the interpreter has; a note names those it has not."""
    python, found = setup.python or sys.executable, {}
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    models = Models(ours.engine.folder, setup.folder, python)
    for name in names:
        kind, dtype = PEERS[name]
        command = [python, str(Path(__file__).with_name("whisper_side.py"))]
        side = stack.enter_context(Side(name, command, setup.folder / f"{name}.log", env))
        limits = {"end": ours.words.eot, "first_time": ours.words.first_time}
        try:
            model = models.of(kind)
        except UserError as error:
            out.notes.append(f"{name} is left out: {error}")
            continue
        told = side.ask("load", name=kind, model=model, threads=setup.threads, kind=dtype, **limits)
        if "missing" in told:
            out.notes.append(f"{name} is left out: {python} says {told['missing']}")
            continue
        versions = ", ".join(f"{package} {version}" for package, version in told["versions"].items())
        out.notes.append(f"{name}: {versions}")
        found[name] = side
    return found


class Models:
    """The model in the form that each program reads, made when it is asked for."""

    def __init__(self, source: Path, folder: Path, python: str):
        self.source, self.folder, self.python = source, folder, python

    def of(self, kind: str) -> str:
        """Path for a program; UserError if it cannot be made."""
        from ckpt_convert.convert import convert

        path = self.folder / {"transformers": "hf", "openai": "openai.pt", "faster": "ct2"}[kind]
        if path.exists():
            return str(path)
        if kind == "faster":
            self._for_faster(self.of("transformers"), path)
        else:
            convert(self.source, path, form="hf_whisper" if kind == "transformers" else "openai_whisper")
        return str(path)

    def _for_faster(self, source: str, path: Path) -> None:
        import subprocess

        command = [self.python, "-m", "ctranslate2.converters.transformers", "--model", source]
        command += ["--output_dir", str(path), "--copy_files", "tokenizer.json", "preprocessor_config.json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            raise UserError(f"ctranslate2's converter says {last}")


def _show(out: Outcome, ours: Ours, work: Work) -> None:
    """Speed of each, and whether it wrote the same."""
    audio = sum(len(np.load(wav, mmap_mode="r")) for wav in work.wavs) / RATE
    mine = work.runs[MEASURED][-1]["tokens"]
    for name, runs in work.runs.items():
        timing = Timing(tuple(run["seconds"] for run in runs))
        text = f"{audio / timing.median:.1f} times real time ({timing}; CPU {least(runs):.2f} s)"
        if name != MEASURED:
            text += f"; {_difference(ours, mine, runs[-1]['tokens'], work.talk)}"
        key = f"whisper_{work.key}_{name.replace(' ', '_').replace('-', '_')}"
        out.figure(key, audio / timing.median, f"{work.what}: {name}", text)
        out.figures[f"{key}_cpu"] = least(runs)


def least(runs: Sequence[dict]) -> float:
    """The smallest CPU time of all rounds, seconds."""
    return min(run["cpu"] for run in runs)


def _difference(ours: Ours, mine: list, theirs: list, talk: bool) -> str:
    """How far two results are apart."""
    if not talk:
        count, same = sum(map(len, mine)), sum(a == b for a, b in zip(mine, theirs, strict=True))
        if same == len(mine):
            return f"the same {count} tokens"
        return (
            f"other tokens in {len(mine) - same} of {len(mine)} windows ({sum(map(len, theirs))} to {count})"
        )
    ours_W, theirs_W = (
        ours.engine.tokenizer.decode([i for one in ids for i in one if i < ours.words.eot]).lower().split()
        for ids in (mine, theirs)
    )
    blocks = SequenceMatcher(None, ours_W, theirs_W, autojunk=False).get_matching_blocks()
    equal = sum(block.size for block in blocks)
    return f"{len(theirs_W)} words, {equal} of our {len(ours_W)} among them"


def _ratios(out: Outcome, tasks: Sequence[Work]) -> None:
    """Of each program the smallest over all that was done, by medians; by CPU time as figures."""
    for name in PEERS:
        by_clock, by_cpu = {}, {}
        for work in tasks:
            if name not in work.runs:
                continue
            mine, theirs = work.runs[MEASURED], work.runs[name]
            medians = [float(np.median([run["seconds"] for run in runs])) for runs in (theirs, mine)]
            by_clock[work.what], by_cpu[work.what] = medians[0] / medians[1], least(theirs) / least(mine)
        if not by_clock:
            continue
        for what, ratios in (("time", by_clock), ("CPU time", by_cpu)):
            shown = ", ".join(f"{one}: {ratio:.2f}" for one, ratio in ratios.items())
            out.rows.append((f"{name}'s {what} / ours", shown))
        key = name.replace("-", "_").replace(" ", "_")
        out.figures[f"whisper_cpu_vs_{key}"] = min(by_cpu.values())
        if name in RATIOS:
            out.ratio(RATIOS[name], min(by_clock.values()))
        else:
            out.figures[f"whisper_vs_{key}"] = min(by_clock.values())
