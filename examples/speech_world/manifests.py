"""Manifest lines of the speech world: the tasks of each recording and their answers.

Notable choices
- A recording occurs several times in the training manifest, each time with another published task key.
- Manifests of their own ask every recording for several labels at once, as `osum annotate` does. Where
  nothing is heard beside the words, the event is OTHER: the published set has no value for none.
- Word timestamps are exact to 10 ms in test; in train and valid they are rounded to `STEP`, so that a
  tokenizer can have one piece for each.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import grammar
import questions
from plan import Line

from mindspore_osum.data.requests import generate
from mindspore_osum.tasks import INTENT_KEY, TASKS, format_answer, tags_of, write_tags

STEP = 0.04  # seconds; resolution of the word timestamps of train and valid
LONGEST_TIME = 4.2  # seconds; no recording is longer
LINES_EACH = 3  # training lines per recording
A, G, E, S, C, T = "<AGE>", "<GENDER>", "<EMOTION>", "<STYLE>", "<CAPTION>", "<TRANSCRIBE>"
# task key -> weight: for any recording, and for recordings of a kind or with a sound
ANY = {T: 5, f"{T} <ALIGN>": 4, G: 1, f"{T} {G}": 2, A: 1, f"{T} {A}": 2, f"{T} {A} {G}": 1, f"{A} {G}": 1}
COMBINED = (f"{T} {S} {A} {G}", f"{S} {A} {G}", f"{T} {E} {A} {G}", f"{T} {A} {G} {S} {E}")
ALL, ALL_WITH_EVENT = f"{T} {A} {G} {S} {E}", f"{T} {C} {A} {G} {E} {S}"  # all labels
LABELLED = dict.fromkeys(COMBINED, 0.5)
SPECIAL = {
    "feeling": {f"{T} {E}": 6, E: 3} | LABELLED,
    "style": {f"{T} {S}": 6, S: 3} | LABELLED,
    "question": {"<S2TCHAT>": 14, f"{T} <S2TCHAT>": 6},
    "command": {f"{T} {E}": 0.3, f"{T} {S}": 0.3} | LABELLED,
    "event": {f"{T} {C}": 6, C: 3, f"{T} {C} {A} {G}": 0.5, f"{T} {C} {A} {G} {E} {S}": 0.5},
}
# several labels at once, of any recording; those of a whole annotation often
SEVERAL = {
    ALL_WITH_EVENT: 6,
    ALL: 3,
    f"{T} {C} {A} {G}": 2,
    f"{T} {E} {A} {G}": 1.5,
    f"{T} {S} {A} {G}": 1.5,
    f"{T} {A} {G}": 1,
    f"{S} {A} {G}": 1,
    f"{A} {G}": 1,
}
# and now and then a single one, which may have nothing to do with what is special in the recording
ANY_LABEL = dict.fromkeys((f"{T} {E}", f"{T} {S}", f"{T} {C}", E, S, C), 0.4)
NO_EVENT = "OTHER"
# the tasks of a valid or test recording by its kind
CHECKED = {"feeling": "ser", "style": "ssr", "question": "sttc", "event": "ved"}
Times = list[tuple[str, float, float]]


def body(line: Line, key: str, times: Times, step: float) -> str:
    """The answer to a task, without its tags."""
    words = [(word, _round(start, step), _round(end, step)) for word, start, end in times]
    labels = {"gender": line.speaker.gender, "age": line.speaker.age, "emotion": line.emotion}
    labels |= {"style": line.style, "event": line.event or NO_EVENT}
    answer = format_answer(key, text=line.text, labels=labels, words=words, answer=line.answer)
    return answer.removeprefix(write_tags(tags_of(key)))


def _round(seconds: float, step: float) -> float:
    return round(round(seconds / step) * step, 2)


def record(line: Line, key: str, number: int, times: Times, seconds: float, step: float) -> dict:
    """One manifest line in the published form; the wav path is relative to the manifest's folder."""
    extra = {"dataset": "speech_world", "kind": line.kind, "lang": line.lang, "voice": line.voice}
    extra |= {"gender": line.speaker.gender, "age": line.speaker.age, "emotion": line.emotion}
    extra |= {"style": line.style, "event": line.event, "seconds": round(seconds, 3)}
    extra["words"] = [[word, round(start, 2), round(end, 2)] for word, start, end in times]
    wav = f"wav/{line.split}/{line.key}.wav"
    text = body(line, key, times, step)
    return {"key": f"{line.key}_{number}", "wav": wav, "txt": text, "task": key, "extra": extra}


def own_keys(line: Line) -> list[str]:
    """Task keys of a recording's lines in the manifest of its split."""
    return training_keys(line) if line.split == "train" else checked_keys(line)


def training_keys(line: Line) -> list[str]:
    """Distinct task keys of a recording's training lines, at least one of them specific to its kind."""
    rng = random.Random(f"tasks/{line.key}")
    special = dict(SPECIAL[line.kind]) | (SPECIAL["event"] if line.event else {})
    keys = [_draw(rng, special)]
    while len(keys) < LINES_EACH:
        key = _draw(rng, ANY | special)
        if key not in keys:
            keys.append(key)
    return keys


def _draw(rng: random.Random, weights: dict[str, float]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def checked_keys(line: Line) -> list[str]:
    """Task keys of a valid or test recording: those specific to its kind, and a common one."""
    special = [CHECKED[kind] for kind in (line.kind, line.event and "event") if kind in CHECKED]
    common = ("asr", "srwt", "sgc", "sap")[line.index // 2 % 4]  # // 2: languages alternate
    return [TASKS[task].key for task in [*special, common]]


def combined_keys(line: Line) -> list[str]:
    """Task keys for several labels at once: one for a training recording, else all labels and another."""
    if line.split == "train":
        return [_draw(random.Random(f"several/{line.key}"), SEVERAL | ANY_LABEL)]
    others = [key for key in SEVERAL if key != ALL_WITH_EVENT]
    return [ALL_WITH_EVENT, others[line.index // 2 % len(others)]]  # // 2: languages alternate


def text_lines(lang: str, seed: int) -> Iterator[dict]:
    """Lines for text question answering, without the (spoken) questions of valid and test."""
    for question, answer in questions.facts(lang):
        if grammar.split_of(question, seed) == "train":
            yield {"txt": answer, "task": "<TEXT2TEXT>", "extra": {"question": question, "lang": lang}}


def intent_lines(split: str, count: int, seed: int) -> Iterator[dict]:
    """Lines with natural requests and their tags."""
    for request in generate(split, count, seed):
        extra = {"intent": request.text, "task_key": request.task_key, "lang": request.language}
        yield {"txt": write_tags(request.tags), "task": INTENT_KEY, "extra": extra}
