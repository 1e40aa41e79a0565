"""Speech with vocal events in it, at random positions, as OSUM makes data of ved (section 2.4).

Notable choices
- The recording is divided and the event put between, so nothing of either is lost; later words move.
- Where words have times, an event is between two words or at an end of the recording; else near a random
  moment, at the quietest one around it, so that few words are divided.
- An event's power is relative to that of the speech, drawn from a range; its ends are faded.
- What is drawn follows from the seed and the key alone.

Legend: S samples at the recording's own rate, E samples of an event.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np

from mindspore_osum.data.batches.batching import native_samples, recording_of
from mindspore_osum.data.formats.manifest import Utterance
from mindspore_osum.data.pipeline.intersect import labels_of
from mindspore_osum.data.pipeline.making import Job, draws
from mindspore_osum.data.pipeline.words import spell
from mindspore_osum.data.words import words_within
from mindspore_osum.errors import UserError, one_line
from mindspore_osum.tasks import TASKS, format_answer, parse_answer, write_tags
from mindspore_osum.text.normalize import process_text2

VED = TASKS["ved"]
MOST_SECONDS = 20.0  # of an event
AROUND, FRAME, FADE = 0.25, 0.02, 0.005  # seconds
END, WORD = "end", "word"  # where the event's label is: at the end, as published, or at its word
GAP_DB = (-40.0, 40.0)


@dataclass(frozen=True)
class Settings:
    """How events are inserted."""

    level_db: tuple[float, float] = (
        -3.0,
        3.0,
    )  # power of an event over that of the speech, lowest and highest
    tag: str = END
    seed: int = 0

    def __post_init__(self):
        low, high = self.level_db
        if not GAP_DB[0] <= low <= high <= GAP_DB[1]:
            raise UserError(
                f"--level {low:g} {high:g}: the lowest and the highest power, from {GAP_DB[0]:g} to "
                f"{GAP_DB[1]:g} dB"
            )


def read_events(utterances: Iterable[Utterance]) -> list[Utterance]:
    """Recordings of events: their lines have a task with an event, and no words.

    Raises
    ------
    UserError : a line without an event or with words, or no line.
    """
    events = []
    for utt in utterances:
        if "event" not in labels_of(utt):
            raise UserError(
                f"{utt.where}: task {utt.task}: no vocal event; write <CAPTION> and a label like <COUGH>"
            )
        if text := parse_answer(utt.txt, utt.task).text:
            raise UserError(f"{utt.where}: words beside the event, {one_line(text, 40)!r}; give events alone")
        events.append(utt)
    if not events:
        raise UserError("no recording of an event; `osum data import vocalsound` makes a manifest of such")
    return events


def event_jobs(speech: Iterable[Utterance], events: Sequence[Utterance], how: Settings) -> Iterator[Job]:
    """Each utterance with one event, KEY-event; `extra.events` says which and when, `extra.words` has the
    times of the words as they are now."""
    for utt in speech:
        yield Job(f"{utt.key}-event", partial(_with_event, utt, events, how), utt)


def _with_event(utt: Utterance, events: Sequence[Utterance], how: Settings):
    wave_S, rate = native_samples(utt)
    text, words = parse_answer(utt.txt, utt.task).text, words_within(utt, len(wave_S) / rate)
    if not text:
        raise UserError(
            f"{utt.where}: no transcript in {one_line(utt.txt, 40)!r}; give speech with its words"
        )
    rng = draws("event", how.seed, utt.key)
    event = events[rng.integers(len(events))]
    level = rng.uniform(*how.level_db)
    label, event_E = labels_of(event)["event"], _event(event.where, *recording_of(event), rate)
    place, before = _position(wave_S, rate, words, rng)
    power = float(np.mean(np.square(wave_S, dtype=np.float64)))
    if not power:
        raise UserError(f"{utt.where}: the recording is silent, so an event has no level beside it")
    event_E = event_E * np.float32(np.sqrt(power) * 10 ** (level / 20))
    made_S = np.concatenate([wave_S[:place], event_E, wave_S[place:]])
    start, length = place / rate, len(event_E) / rate
    extra = dict(utt.extra)
    if words:
        moved = [
            (w, *(round(s + (length if n >= before else 0), 4) for s in times))
            for n, (w, *times) in enumerate(words)
        ]
        extra["words"] = [list(word) for word in moved]
    about = {
        "event": label,
        "start": round(start, 6),
        "end": round(start + length, 6),
        "level_db": round(level, 2),
    }
    extra["events"] = [about | {"key": event.key}]
    answer = format_answer(VED.key, text=text, labels={"event": label}).removeprefix(write_tags(VED.tags))
    if how.tag == WORD and words:
        spoken = [word for word, *_ in _spelled(utt, text, words)]
        answer = process_text2(" ".join([*spoken[:before], f"<{label}>", *spoken[before:]]), VED.key)
    made = replace(utt, wav=None, start=None, end=None, txt=answer, task=VED.key, extra=extra)
    return made_S, rate, made


def _spelled(utt: Utterance, text: str, words: Sequence[tuple]) -> list[tuple]:
    try:
        return spell(text, words)
    except UserError as error:
        raise UserError(f"{utt.where}: {error}") from None


def _position(wave_S: np.ndarray, rate: int, words: Sequence[tuple], rng) -> tuple[int, int]:
    """The sample before which an event is put, and the word before which that is."""
    if not words:
        return _quietest(wave_S, rate, int(rng.integers(len(wave_S) + 1))), 0
    before = int(rng.integers(len(words) + 1))
    if before in (0, len(words)):
        return (len(wave_S) if before else 0), before
    seconds = (words[before - 1][2] + words[before][1]) / 2
    return min(len(wave_S), round(seconds * rate)), before


def _quietest(wave_S: np.ndarray, rate: int, place: int) -> int:
    """The middle of the quietest frame around a sample; an end of the recording that is as near stays."""
    size, around = max(1, round(FRAME * rate)), round(AROUND * rate)
    first, last = max(0, place - around), min(len(wave_S), place + around)
    if first == 0 and place < size or last == len(wave_S) and len(wave_S) - place < size:
        return 0 if place < size else len(wave_S)
    sums = np.cumsum(np.square(np.concatenate([[0], wave_S[first:last]]), dtype=np.float64))
    if len(sums) <= size:
        return place
    return first + int(np.argmin(sums[size:] - sums[:-size])) + size // 2


@lru_cache(maxsize=256)
def _event(where: str, wav, begin: float | None, end: float | None, rate: int) -> np.ndarray:
    """An event at another rate: mean power 1, faded at its ends."""
    wave_S, own = native_samples(Utterance("", wav, "", "", {}, begin, end, where))
    if len(wave_S) > MOST_SECONDS * own:
        raise UserError(f"{where}: {len(wave_S) / own:.2f} s; an event has at most {MOST_SECONDS:g} s")
    if own != rate:
        import soxr

        wave_S = soxr.resample(wave_S, own, rate, quality="HQ")
    power = float(np.mean(np.square(wave_S, dtype=np.float64))) if len(wave_S) else 0.0
    if not power:
        raise UserError(f"{where}: the recording of the event is silent; take it out")
    fade = min(round(FADE * rate), len(wave_S) // 2)
    ramp = np.linspace(0, 1, fade, endpoint=False, dtype=np.float32)
    wave_S = wave_S.copy()
    wave_S[:fade] *= ramp
    wave_S[len(wave_S) - fade :] *= ramp[::-1]
    return wave_S / np.float32(np.sqrt(power))
