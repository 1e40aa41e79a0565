"""The speakers of the speech world: drawn at random and written as espeak-ng voice variants.

Notable choices
- A speaker has few parameters: vocal tract length (a factor of all formants, with a small variation of each),
  pitch, breath, roughness, flutter. Children have short tracts and high voices, old people slow, rough and
  wavering ones, women shorter tracts and higher voices than men (directions: Fitch & Giedd 1999, Linville
  2001; the values are ours, chosen so that the groups do not overlap).
- A speaker belongs to one split only, in every accent and both languages, so test speakers never occur in
  training. A speaker depends only on (split, group, number).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

ACCENTS = {
    "en": ("en-us", "en", "en-gb-x-rp"),  # "en" is the name of British English's file
    "zh": ("cmn-latn-pinyin",),
}
LANGUAGE_FAMILIES = ("gmw", "sit")  # folders of espeak-ng's data with the accents
GENDERS, AGES = ("MALE", "FEMALE"), ("CHILD", "ADULT", "OLD")
SPEAKERS = {"train": 60, "valid": 5, "test": 8}  # of each gender and age
# formant factor and pitch (Hz) of each group; old people differ from adults in voice quality
TRACT = {
    ("MALE", "CHILD"): (1.27, 1.36),
    ("FEMALE", "CHILD"): (1.30, 1.40),
    ("MALE", "ADULT"): (0.92, 1.02),
    ("FEMALE", "ADULT"): (1.09, 1.19),
}
PITCH = {
    ("MALE", "CHILD"): (235, 265),
    ("FEMALE", "CHILD"): (310, 360),
    ("MALE", "ADULT"): (75, 115),
    ("FEMALE", "ADULT"): (165, 220),
}
RATE = {"CHILD": 1.0, "ADULT": 1.0, "OLD": 0.8}  # factor of the rate of speech


@dataclass(frozen=True)
class Speaker:
    """One speaker; `name` is the name of the variant file."""

    name: str
    gender: str
    age: str
    variant: str  # text of the variant file


def speaker(split: str, gender: str, age: str, number: int) -> Speaker:
    """The speaker with this number in a group; deterministic."""
    rng = random.Random(f"{split}/{gender}/{age}/{number}")
    group = (gender, "ADULT" if age == "OLD" else age)
    factor, pitch = rng.uniform(*TRACT[group]), rng.uniform(*PITCH[group])
    old = age == "OLD"
    lines = [f"pitch {pitch:.0f} {pitch * rng.uniform(1.25, 1.5):.0f}"]
    for formant in range(9):
        frequency = 100 * factor * rng.uniform(0.97, 1.03) if formant else 100
        height, width = rng.uniform(85, 115), rng.uniform(85, 115)
        lines.append(f"formant {formant} {frequency:.0f} {height:.0f} {width:.0f}")
    lines.append(f"flutter {rng.randint(22, 30) if old else rng.randint(0, 4)}")
    lines.append(f"roughness {rng.randint(6, 7) if old else rng.randint(0, 2)}")
    lines.append(f"voicing {rng.randint(55, 70) if old else rng.randint(90, 110)}")
    breath = rng.randint(7, 11) if old else rng.randint(0, 2)
    lines.append("breath " + " ".join([str(breath)] * 8))
    name = f"{split}{gender[0]}{age[0]}{number}".lower()
    header = ["language variant", f"name {name}", f"gender {gender.lower()}"]
    return Speaker(name, gender, age, "\n".join(header + lines) + "\n")


@lru_cache
def speakers(split: str, gender: str, age: str) -> list[Speaker]:
    """All speakers of a group, in a fixed order."""
    return [speaker(split, gender, age, number) for number in range(SPEAKERS[split])]
