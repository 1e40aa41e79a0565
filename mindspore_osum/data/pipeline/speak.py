"""Spoken questions from written ones, by a text-to-speech program (OSUM, section 2.4: data of sttc).

The program gets `--batch FILE`; a line of FILE is {"text", "out"} with the fields of a voice, as "engine",
"voice" and "speed". `out` is where the recording belongs, relative to the file's folder.

Notable choices
- It runs once for many questions, since most load a model first; what it made is taken over before the next.
- Its recordings stay as they are, at its sample rate; each is decoded before it counts.
- A voice is drawn for each question, from its key and the seed alone.
"""

import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from mindspore_osum.data.formats.manifest import TEXT_TASKS, Skipped, Utterance
from mindspore_osum.data.formats.text_files import json_objects
from mindspore_osum.data.pipeline.derived import values_of
from mindspore_osum.data.pipeline.journal import Journal
from mindspore_osum.data.pipeline.making import WAVES, draws, file_name, making
from mindspore_osum.errors import UserError, one_line
from mindspore_osum.files import write_text
from mindspore_osum.interrupts import unfinished
from mindspore_osum.speech.audio import load_native
from mindspore_osum.tasks import CHAT, format_answer, tags_of, write_tags

BATCH = 200  # questions
MOST_VOICES = 100_000
SPOKEN_TASKS = (CHAT, f"<TRANSCRIBE> {CHAT}")
_OWN = ("text", "out")


def read_voices(path: Path) -> list[dict]:
    """The voices of a file: an object a line, whose fields the program understands."""
    voices = []
    for where, values in json_objects(path):
        if isinstance(values, Skipped):
            raise UserError(values.text)
        if wrong := [name for name in _OWN if name in values]:
            raise UserError(f"{where}: {wrong[0]!r} is not of a voice; leave it out")
        voices.append(values)
        if len(voices) > MOST_VOICES:
            raise UserError(f"{where}: more than {MOST_VOICES} voices")
    if not voices:
        raise UserError(f"{path}: no voice in it")
    return voices


def spoken(utt: Utterance, task: str, voice: dict) -> Utterance:
    """The example of a written question with its answer, without its recording; UserError for other lines."""
    if utt.task != TEXT_TASKS[0]:
        raise UserError(f"{utt.where}: task {utt.task}: no written question with an answer, {TEXT_TASKS[0]}")
    question = " ".join(utt.extra["question"].split())
    extra = {name: value for name, value in utt.extra.items() if name != "question"}
    extra |= {"transcript": question} | ({"voice": voice} if voice else {})
    answer = format_answer(task, text=question, answer=" ".join(utt.txt.split()))
    return replace(utt, txt=answer.removeprefix(write_tags(tags_of(task))), task=task, extra=extra)


def speak(
    out: Path,
    settings: dict,
    questions: Iterable[Utterance],
    command: Sequence[str],
    voices: Sequence[dict],
    seed: int,
    task: str,
    failed: Callable[[UserError], None],
) -> int:
    """Make OUT/wav and OUT/manifest.jsonl, from where an earlier run stopped; returns the number of examples.

    Parameters
    ----------
    settings : what the recordings follow from.
    questions : lines of <TEXT2TEXT>.
    command : the program and its arguments; it is not run by a shell.
    voices : one of them is drawn for each question.
    task : one of `SPOKEN_TASKS`.
    failed : called with the error of a question that has no recording; it may raise.

    Raises
    ------
    UserError : as `making`; or the program cannot be run, or fails.
    """

    def left(begun: Journal) -> Iterator[tuple[Utterance, Utterance]]:
        """Questions that have no recording yet, and their examples."""
        for utt in questions:
            if utt.key in begun:
                begun.check(utt.key, utt)
                continue
            try:
                yield utt, spoken(utt, task, voices[draws("voice", seed, utt.key).integers(len(voices))])
            except UserError as error:
                failed(error)

    with making(out, settings) as begun:
        examples = left(begun)
        while group := list(islice(examples, BATCH)):
            _speak_batch(out, begun, group, command, failed)
    return len(begun)


def _speak_batch(
    out: Path,
    begun: Journal,
    group: Sequence[tuple[Utterance, Utterance]],
    command: Sequence[str],
    failed: Callable[[UserError], None],
) -> None:
    """Have the program speak a batch, and take over what it made."""
    with tempfile.TemporaryDirectory(dir=out, prefix=".speaking-") as temporary:
        folder = Path(temporary)
        unfinished.add(folder)
        (folder / WAVES).mkdir()
        names = [f"{WAVES}/{file_name(utt.key)}" for utt, _ in group]
        lines = [
            json.dumps(
                {"text": utt.extra["transcript"], **utt.extra.get("voice", {}), "out": name},
                ensure_ascii=False,
            )
            for (_, utt), name in zip(group, names, strict=True)
        ]
        write_text(folder / "batch.jsonl", "".join(f"{line}\n" for line in lines))
        _run([*command, "--batch", str(folder / "batch.jsonl")])
        for (source, utt), name in zip(group, names, strict=True):
            try:
                load_native(folder / name)  # whole: a file may hold what is no number
            except UserError as error:
                reason = str(error).replace(f"{folder}/", "")
                failed(UserError(f"{utt.where}: {_shown(command)} made no recording of it ({reason})"))
                continue
            os.replace(folder / name, out / name)
            begun.add(values_of(replace(utt, wav=str(out / name)), out), source)
        unfinished.discard(folder)


def _run(command: list[str]) -> None:
    try:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, check=False).returncode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--synthesizer {_shown(command[:-2])}: cannot run it ({reason})") from None
    if status:
        raise UserError(f"--synthesizer {_shown(command[:-2])}: failed with status {status}; see above")


def _shown(command: Sequence[str]) -> str:
    return one_line(shlex.join(command), 200)
