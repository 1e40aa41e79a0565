"""Labels as the corpora spell them -> the published label sets (`mindspore_osum.tasks.LABEL_SETS`).

Notable choices
- The table has only labels that `LabelSet.read` does not know; labels in neither are outside the set.
- Age: teens are ADULT, as OSUM (section 3.2, SAP) found them too close to adults to tell apart. Where OLD
  begins is not published; it is 60 here, and CHILD ends at 12.
- ESC-50: categories other than the vocal events are OTHER, as in OSUM (section 3.2, VED).
- IEMOCAP: `exc` (excited) is HAPPY, as in EmoBox (data/iemocap/label_map.json); frustration has no label.
"""

from mindspore_osum.tasks import LABEL_SETS

FIELDS = {s.field: s for s in LABEL_SETS.values()}

_ESC50_OTHER = """
    dog rooster pig cow frog cat hen insects sheep crow rain sea_waves crackling_fire crickets
    chirping_birds water_drops wind pouring_water toilet_flush thunderstorm clapping breathing footsteps
    brushing_teeth snoring drinking_sipping door_wood_knock mouse_click keyboard_typing door_wood_creaks
    can_opening washing_machine vacuum_cleaner clock_alarm clock_tick glass_breaking helicopter chainsaw
    siren car_horn engine train church_bells airplane fireworks hand_saw
""".split()

SPELLINGS = {
    "gender": {
        "m": "MALE",
        "f": "FEMALE",
        "男": "MALE",
        "女": "FEMALE",
        "male_masculine": "MALE",
        "female_feminine": "FEMALE",
    },
    "age": dict.fromkeys(("teens", "twenties", "thirties", "fourties", "forties", "fifties"), "ADULT")
    | dict.fromkeys(("sixties", "seventies", "eighties", "nineties"), "OLD"),
    "emotion": {
        "joy": "HAPPY",
        "neu": "NEUTRAL",
        "hap": "HAPPY",
        "exc": "HAPPY",
        "ang": "ANGER",
        "sur": "SURPRISE",
        "fea": "FEAR",
        "dis": "DISGUST",
        "oth": "OTHER",
        "中立": "NEUTRAL",
        "快乐": "HAPPY",
        "伤心": "SAD",
        "生气": "ANGER",
        "惊喜": "SURPRISE",
    },
    "event": {"laughing": "LAUGH", "coughing": "COUGH", "crying_baby": "CRY", "sneezing": "SNEEZE"}
    | dict.fromkeys(_ESC50_OTHER, "OTHER"),
}

_FIRST_ADULT, _FIRST_OLD = 13, 60  # years


def published_label(field: str, spelling: str) -> str | None:
    """The published value for a corpus's spelling of a label (an age also in years); None if there is none.

    Parameters
    ----------
    field : a key of `FIELDS`: event, emotion, style, gender or age.
    """
    if field == "age" and spelling.isdecimal():
        years = int(spelling)
        return "CHILD" if years < _FIRST_ADULT else "ADULT" if years < _FIRST_OLD else "OLD"
    return FIELDS[field].read(SPELLINGS.get(field, {}).get(spelling.casefold(), spelling))
