"""The plan of every utterance of the speech world: speaker, words, manner and an added sound.

Notable choices
- Every utterance depends only on (seed, split, index); a smaller part is the beginning of a larger one.
- Kinds: commands and digit strings, sentences with an emotion, sentences with a style, and questions. Every
  utterance has all labels, so that every published combination of tasks has examples: plain commands have
  the neutral values (NEUTRAL, 日常口语), and only recordings with a sound have an event.
- Emotion and style are expressed by the words and the prosody (rate, pitch, range of pitch).
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import contents
import grammar
import questions
from voices import ACCENTS, AGES, GENDERS, RATE, Speaker, speakers

from mindspore_osum.errors import UserError
from mindspore_osum.tasks import LABEL_SETS

KINDS = {"command": 0.32, "feeling": 0.25, "style": 0.25, "question": 0.18}  # shares
EVENT_SHARE = 0.35  # share of utterances, except questions, with a sound before or after the words
EMOTIONS, STYLES, EVENTS = (LABEL_SETS[tag].values for tag in ("emotion", "style", "caption"))
NEUTRAL, EVERYDAY, OTHER_STYLE = "NEUTRAL", "日常口语", "其他"
# factors of pitch, range of pitch, and rate of speech
PROSODY = {
    "SAD": (0.94, 0.5, 0.85),
    "ANGER": (1.05, 1.4, 1.12),
    "HAPPY": (1.06, 1.5, 1.05),
    "SURPRISE": (1.07, 1.8, 0.95),
    "FEAR": (1.07, 0.7, 1.18),
    "DISGUST": (0.96, 0.8, 0.9),
    "OTHER": (0.97, 0.6, 0.95),
    "新闻科普": (1.0, 0.9, 1.1),
    "恐怖故事": (0.95, 0.7, 0.88),
    "童话故事": (1.05, 1.4, 0.95),
    "客服": (1.03, 1.2, 1.0),
    "诗歌散文": (0.98, 1.2, 0.85),
    "有声书": (1.0, 1.0, 0.95),
}


@dataclass(frozen=True)
class Line:
    """Plan of one utterance; `rate` in words per minute, `pitch` and `tones` 0..99 (50: voice's default)."""

    split: str
    index: int
    kind: str
    lang: str
    text: str
    answer: str  # to a question, else ""
    accent: str
    speaker: Speaker
    emotion: str
    style: str
    event: str  # "" for none
    event_first: bool  # the sound comes before the words
    rate: int
    pitch: int
    tones: int

    @property
    def key(self) -> str:
        return f"{self.split}_{self.index:06d}"

    @property
    def voice(self) -> str:
        """Accent and speaker."""
        return f"{self.accent}+{self.speaker.name}"


def plan(split: str, count: int, seed: int) -> list[Line]:
    """`count` utterances of a split, with alternating languages.

    Raises
    ------
    UserError
        No sentence of the split is found in many draws.
    """
    return [_line(split, index, random.Random(f"{seed}/{split}/{index}"), seed) for index in range(count)]


def _line(split: str, index: int, rng: random.Random, seed: int) -> Line:
    lang = grammar.LANGUAGES[index % len(grammar.LANGUAGES)]
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    emotion, style = NEUTRAL, EVERYDAY
    if kind == "feeling":
        emotion = rng.choice(EMOTIONS)
    elif kind == "style":
        style = rng.choice(STYLES)
    text, answer = _sentence(split, kind, lang, emotion, style, rng, seed)
    if set(grammar.words(text, lang)) <= set(grammar.DIGITS[lang]):
        style = OTHER_STYLE
    gender, age = rng.choice(GENDERS), rng.choice(AGES)
    speaker = rng.choice(speakers(split, gender, age))
    pitch, tones, rate = PROSODY.get(style if kind == "style" else emotion, (1.0, 1.0, 1.0))
    words = len(grammar.words(text, lang))
    slow = 140 + 10 * max(0, words - 4)  # long sentences are not spoken slowly
    rate *= rng.randint(slow, max(slow, 205)) * RATE[age]
    event = rng.choice(EVENTS) if kind != "question" and rng.random() < EVENT_SHARE else ""
    return Line(
        split,
        index,
        kind,
        lang,
        text,
        answer,
        rng.choice(ACCENTS[lang]),
        speaker,
        emotion,
        style,
        event,
        rng.random() < 0.5,
        round(rate),
        _octaves(pitch * rng.uniform(0.97, 1.03)),
        _octaves(tones * rng.uniform(0.85, 1.15)),
    )


def _octaves(factor: float) -> int:
    """Steps of espeak-ng's scale for pitch and range, where 50 steps are a factor of 2."""
    return min(99, max(0, round(50 + 50 * math.log2(factor))))


def _sentence(split: str, kind: str, lang: str, emotion: str, style: str, rng, seed: int) -> tuple[str, str]:
    """Draw (text, answer) of a kind from this split."""
    for _ in range(2000):
        answer = ""
        if kind == "question":
            text, answer = questions.question(lang, rng)
        elif kind == "feeling":
            text = contents.feeling(lang, emotion, rng)
        elif kind == "style":
            text = contents.styled(lang, style, rng)
        else:
            text = grammar.sentence(lang, rng)
        if grammar.split_of(text, seed) == split:
            return text, answer
    raise UserError(f"--seed {seed} gives no {split} {kind} {lang} {emotion} {style}; take another")
