"""Published manifests: one JSON object a line, {"key", "wav", "txt", "task", "extra"}.

Notable choices
- `wav` is relative to the manifest's folder; null or absent for text-only tasks.
- A malformed line is counted and listed with file:line, or refused when `strict`; nothing is dropped in
  silence.
- Other keys of published lists (lang, speaker, ...) are allowed and not used; `start` and `end` cut the
  recording.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from mindspore_osum.errors import UserError

TEXT_TASKS = ("<TEXT2TEXT>", "<INTENT_CLASSIFICATION>")  # published task keys whose examples hold no speech


@dataclass(frozen=True, slots=True)
class Utterance:
    """One line of a manifest."""

    key: str
    wav: str | None  # path of the recording; None for text-only tasks
    txt: str  # transcript and labels, without the tags in front (OSUM Table 1)
    task: str  # published task key, for example "<TRANSCRIBE> <AGE>"
    extra: dict = field(default_factory=dict)  # published: age, gender, question, intent, ...
    start: float | None = None  # seconds; the part of the recording that is meant
    end: float | None = None
    where: str = ""  # file:line, for errors


def read_manifest(path: str | os.PathLike, strict: bool = False) -> tuple[list[Utterance], list[str]]:
    """Read a manifest.

    Parameters
    ----------
    path : a .jsonl file; recordings are looked up relative to its folder.
    strict : refuse the first malformed line instead of listing it.

    Returns
    -------
    The utterances, and one line "file:line: what is wrong" for each malformed one.

    Raises
    ------
    UserError : the file cannot be read, holds no usable line, or (strict) a line is malformed.
    """
    utterances, problems, keys = [], [], set()
    try:
        with open(path, "rb") as file:
            for number, raw in enumerate(file, start=1):
                where = f"{path}:{number}"
                if not raw.strip():
                    continue
                try:
                    utterance = parse_line(raw, Path(path).parent, where)
                    if utterance.key in keys:
                        raise UserError(
                            f"{where}: key {utterance.key!r} is there twice; keys name an utterance"
                        )
                    keys.add(utterance.key)
                    utterances.append(utterance)
                except UserError as error:
                    if strict:
                        raise
                    problems.append(str(error))
    except OSError as error:
        raise UserError(f"{path}: cannot read the manifest ({error.strerror})") from None
    if not utterances:
        raise UserError(
            f"{path}: no usable line" + (f"; the first problem: {problems[0]}" if problems else "")
        )
    return utterances, problems


def parse_line(raw: bytes, folder: Path, where: str) -> Utterance:
    """One line -> Utterance; UserError that starts with `where` for anything unexpected in it."""
    try:
        values = json.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{where}: not a JSON object in UTF-8 ({error})") from None
    if not isinstance(values, dict):
        raise UserError(
            f"{where}: expected an object with key, wav, txt, task; found {type(values).__name__}"
        )
    for name in ("key", "txt", "task"):
        if not isinstance(values.get(name), str) or not values[name].strip():
            raise UserError(f"{where}: {name!r} must be a text that is not empty, found {values.get(name)!r}")
    wav, extra = values.get("wav"), values.get("extra")
    if wav is not None and (not isinstance(wav, str) or not wav):
        raise UserError(f"{where}: 'wav' must be a path or null, found {wav!r}")
    if wav is None and values["task"] not in TEXT_TASKS:
        raise UserError(f"{where}: task {values['task']} needs a recording, but there is no 'wav'")
    if extra is not None and not isinstance(extra, dict):
        raise UserError(f"{where}: 'extra' must be an object, found {type(extra).__name__}")
    start, end = (_seconds(values, name, where) for name in ("start", "end"))
    if end is not None and end <= (start or 0.0):
        raise UserError(f"{where}: 'end' {end} is not after 'start' {start or 0.0}")
    return Utterance(
        values["key"],
        str(folder / wav) if wav else None,
        values["txt"],
        values["task"],
        extra or {},
        start,
        end,
        where,
    )


def _seconds(values: dict, name: str, where: str) -> float | None:
    value = values.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise UserError(f"{where}: {name!r} must be seconds, 0 or more, found {value!r}")
    return float(value)
