"""A small grammar of spoken commands and digit strings for the speech world.

A template is a sentence with `{slot}` fields; a sentence is a template with every slot filled. All words are
from the tables below, so the vocabulary is closed. Sentences are assigned to splits by a hash: test sentences
are new, but consist of words that occur in training.
"""

from __future__ import annotations

import hashlib
import re

from mindspore_osum.errors import UserError

SPLITS = ("train", "valid", "test")
VALID_PERCENT, TEST_PERCENT = 5, 10  # of the sentences; the rest is for training
DIGIT_SHARE = 0.2  # share of digit strings among the utterances
DIGITS = {
    "en": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "zh": ("零", "一", "二", "三", "四", "五", "六", "七", "八", "九"),
}
DIGIT_LENGTHS = (3, 4, 5, 6)

EN_SLOTS = {
    "switch": ("on", "off"),
    "room": ("kitchen", "bedroom", "bathroom", "garden", "office", "hall"),
    "device": ("light", "lamp", "fan", "heater", "radio", "camera"),
    "opening": ("door", "window", "curtain", "gate"),
    "move": ("open", "close", "lock"),
    "hour": tuple("one two three four five six seven eight nine ten eleven twelve".split()),
    "count": ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    "unit": ("minutes", "hours"),
    "day": ("today", "tomorrow", "tonight", "monday", "tuesday", "friday", "sunday"),
    "city": ("london", "paris", "beijing", "boston", "berlin", "tokyo"),
    "person": ("mary", "john", "anna", "peter", "my mother", "my brother", "the doctor", "the teacher"),
    "sound": ("some music", "jazz", "the news", "a song", "a story"),
    "color": ("red", "blue", "green", "white", "yellow"),
    "food": ("apples", "eggs", "oranges", "tickets", "books"),
    "place": ("bank", "hotel", "station", "school", "market"),
    "sky": ("cold", "warm", "sunny", "windy"),
    "polite": ("please", "now"),
}
EN_TEMPLATES = (
    "turn {switch} the {room} {device}",
    "turn the {room} {device} {switch}",
    "please turn {switch} the {device}",
    "turn {switch} the {device} {polite}",
    "please {move} the {room} {opening}",
    "{move} the {opening} {polite}",
    "{move} the {room} {opening} {polite}",
    "set an alarm for {hour} {day}",
    "wake me up at {hour} {day}",
    "set a timer for {count} {unit}",
    "play {sound} in the {room}",
    "play {sound} {day}",
    "stop {sound} in the {room}",
    "call {person} at {hour}",
    "call {person} {day}",
    "call {person} {day} at {hour}",
    "send a message to {person}",
    "send a message to {person} {polite}",
    "is it {sky} in {city} {day}",
    "will it be {sky} in {city}",
    "will it be {sky} in {city} {day}",
    "will it rain in {city} {day}",
    "how is the weather in {city}",
    "make the {room} {device} {color}",
    "make the {device} {color} {polite}",
    "book a taxi for {hour} {day}",
    "book a taxi to the {place} {day}",
    "book a table for {count} {day}",
    "meet {person} at the {place}",
    "find a {place} in {city}",
    "show me the {place} in {city}",
    "buy {count} {food} {day}",
    "i need {count} {color} {food}",
    "take me to the {place} {polite}",
    "remind me to call {person}",
)

ZH_SLOTS = {
    "room": ("客厅", "卧室", "厨房", "书房", "阳台", "浴室"),
    "device": ("灯", "空调", "电视", "风扇", "音箱"),
    "opening": ("门", "窗户", "窗帘"),
    "move": ("打开", "关上"),
    "hour": ("一点", "两点", "三点", "四点", "五点", "六点", "七点", "八点", "九点", "十点"),
    "half": ("", "半"),
    "count": ("两", "三", "四", "五", "六", "七", "八", "九", "十"),
    "unit": ("分钟", "小时"),
    "day": ("今天", "明天", "后天", "周末"),
    "when": ("早上", "中午", "下午", "晚上"),
    "city": ("北京", "上海", "广州", "西安", "南京"),
    "person": ("妈妈", "爸爸", "老师", "医生", "小王", "小李", "哥哥"),
    "sound": ("音乐", "新闻", "故事", "京剧"),
    "color": ("红色", "蓝色", "绿色", "白色", "黄色"),
    "food": ("苹果", "鸡蛋", "牛奶", "咖啡", "米饭", "面条"),
    "place": ("银行", "学校", "车站", "公园", "机场"),
    "sky": ("下雨", "下雪", "很冷", "很热", "刮风"),
    "do": ("起床", "吃饭", "开会", "睡觉", "喝水"),
}
ZH_TEMPLATES = (
    "{move}{room}的{device}",
    "请{move}{room}的{opening}",
    "把{room}的{device}{move}",
    "请把{room}的{opening}{move}",
    "{hour}{half}叫我{do}",
    "{day}{hour}{half}叫我{do}",
    "{when}{hour}提醒我{do}",
    "{day}{when}提醒我{do}",
    "播放{sound}",
    "{when}{hour}播放{sound}",
    "在{room}播放{sound}",
    "我想听{person}的{sound}",
    "{day}{city}会{sky}吗",
    "{city}{when}会{sky}吗",
    "{city}的天气怎么样",
    "{day}{city}天气怎么样",
    "给{person}打电话",
    "{when}给{person}打电话",
    "{when}{hour}和{person}{do}",
    "给{person}买{count}个{food}",
    "我想买{count}个{food}",
    "{day}和{person}吃{food}",
    "把{room}的灯调成{color}",
    "{day}{when}去{place}",
    "{day}{when}{hour}去{place}",
    "我要和{person}去{place}",
    "从{place}到{place2}怎么走",
    "{count}{unit}后提醒我{do}",
    "{city}的{place}在哪里",
)
ZH_SLOTS["place2"] = ZH_SLOTS["place"]

GRAMMAR = {"en": (EN_SLOTS, EN_TEMPLATES), "zh": (ZH_SLOTS, ZH_TEMPLATES)}
LANGUAGES = tuple(GRAMMAR)
# Readings that pypinyin may get wrong: polyphones, neutral tones, and numerals, which keep their tone.
READINGS = {
    "银行": "yin2 hang2",
    "音乐": "yin1 yue4",
    "空调": "kong1 tiao2",
    "调成": "tiao2 cheng2",
    "睡觉": "shui4 jiao4",
    "妈妈": "ma1 ma5",
    "爸爸": "ba4 ba5",
    "哥哥": "ge1 ge5",
    "一": "yi1",
    "的": "de5",
    "吗": "ma5",
    "个": "ge4",
    "怎么": "zen3 me5",
    "哪里": "na3 li3",
    "窗户": "chuang1 hu5",
    "小时": "xiao3 shi2",
    "会": "hui4",
    "和": "he2",
    "到": "dao4",
    "给": "gei3",
    "把": "ba3",
}


def words(text: str, lang: str) -> list[str]:
    """Units of `text`: words of English, characters of Chinese."""
    return text.split() if lang == "en" else list(text)


def vocabulary(lang: str) -> list[str]:
    """Every English word or Chinese character that a sentence can contain, sorted."""
    slots, templates = GRAMMAR[lang]
    texts = [re.sub(r"\{\w+\}", " ", template) for template in templates]
    texts += [value for values in slots.values() for value in values] + list(DIGITS[lang])
    return sorted({word for text in texts for word in words(text, lang) if not word.isspace()})


def split_of(text: str, seed: int) -> str:
    """The split of a sentence, determined by a hash of its text and the seed."""
    percent = int.from_bytes(hashlib.sha256(f"{seed}:{text}".encode()).digest()[:8], "big") % 100
    if percent < VALID_PERCENT:
        return "valid"
    return "test" if percent < VALID_PERCENT + TEST_PERCENT else "train"


def sentence(lang: str, rng) -> str:
    """Draw a sentence from the grammar; all templates are equally likely.

    Parameters
    ----------
    lang : {"en", "zh"}
    rng : random.Random
    """
    if rng.random() < DIGIT_SHARE:
        digits = rng.choices(DIGITS[lang], k=rng.choice(DIGIT_LENGTHS))
        return (" " if lang == "en" else "").join(digits)
    slots, templates = GRAMMAR[lang]
    template = rng.choice(templates)
    return re.sub(r"\{(\w+)\}", lambda slot: rng.choice(slots[slot.group(1)]), template)


def pinyin(text: str, readings: dict[str, str] = READINGS) -> str:
    """Pinyin of Chinese `text` with tone numbers (5 = neutral), one syllable per character, with spaces."""
    from pypinyin import Style, lazy_pinyin

    parts = re.split("(" + "|".join(sorted(readings, key=len, reverse=True)) + ")", text)
    syllables: list[str] = []
    for part in filter(None, parts):
        if part in readings:
            syllables += readings[part].split()
        else:
            syllables += lazy_pinyin(part, style=Style.TONE3, neutral_tone_with_five=True)
    if len(syllables) != len(text):
        raise UserError(f"{text!r} does not have one pinyin syllable per character: {' '.join(syllables)}")
    return " ".join(syllables)
