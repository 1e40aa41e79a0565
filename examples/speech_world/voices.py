"""Who speaks in the speech world: espeak-ng variants (the speaker) and accents, divided among the splits.

A variant belongs to one split only, in every accent and both languages, so test speakers are never heard in
training. Variants with nearly the same spectrum are in one split (m4 and m5, f4 and aunty) or left out
(caleb and klatt, which are adam; steph2; iven2 ...). Left out too: whispers, creaky voices, effects such as
robosoft.
"""

from __future__ import annotations

from dataclasses import dataclass

ACCENTS = {
    "en": (
        "en-us",
        "en-us-nyc",
        "en-gb",
        "en-gb-x-rp",
        "en-gb-x-gbclan",
        "en-gb-x-gbcwmd",
        "en-gb-scotland",
        "en-029",
    ),
    "zh": ("cmn-latn-pinyin",),
}
LANGUAGE_FAMILIES = ("gmw", "sit")  # folders of espeak-ng's data that hold the accents
VARIANTS = {
    "train": {
        "MALE": "m1 m2 m4 m5 m7 m8 adam Alex Andy Denis Diogo ed Gene max Michael paul robert victor john "
        "Nguyen norbert boris",
        "FEMALE": "f1 f2 f4 aunty Andrea steph anika Alicia grandma",
    },
    "valid": {"MALE": "m6 edward2", "FEMALE": "f5 belinda"},
    "test": {"MALE": "m3 Mike klatt4", "FEMALE": "f3 linda Annie"},
}


@dataclass(frozen=True)
class Voice:
    """One speaker with one accent; `name` is what espeak-ng's -v takes."""

    accent: str
    variant: str
    gender: str

    @property
    def name(self) -> str:
        return f"{self.accent}+{self.variant}"


def voices(split: str, lang: str, gender: str) -> list[Voice]:
    """Voices of one split, language and gender, in a fixed order."""
    return [Voice(a, v, gender) for a in ACCENTS[lang] for v in VARIANTS[split][gender].split()]
