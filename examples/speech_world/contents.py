"""Sentences of the speech world that express an emotion or a style (commands: grammar.py).

They are built as in grammar.py, from templates and slots with a closed vocabulary. The wording determines the
label, and no sentence belongs to two labels.
"""

from __future__ import annotations

import itertools
import re

from grammar import EN_SLOTS, ZH_SLOTS, words
from questions import facts

ALL_SLOTS = {
    "en": EN_SLOTS
    | {
        "past": ("today", "tonight", "on monday", "on tuesday", "on friday", "on sunday"),
        "animal": ("cat", "dog", "bird", "horse", "cow"),
        "eaten": ("apples", "eggs", "oranges", "bananas"),
        "thing": ("lamp", "radio", "camera", "book"),
        "color2": EN_SLOTS["color"],
        "city2": EN_SLOTS["city"],
        "count2": EN_SLOTS["count"],
        "day2": EN_SLOTS["day"],
    },
    "zh": ZH_SLOTS
    | {
        "animal": ("猫", "狗", "鸟", "马", "牛"),
        "now": ("今天", "早上", "中午", "下午", "晚上"),
        "color2": ZH_SLOTS["color"],
        "city2": ZH_SLOTS["city"],
        "do2": ZH_SLOTS["do"],
        "number": ("一", "二", "三", "四", "五", "六", "七", "八", "九", "十"),
    },
}

FEELINGS = {
    "en": {
        "SAD": (
            "i miss {person} so much",
            "{person} left me alone {past}",
            "my little {animal} is dead",
            "i cried in the {room} {past}",
            "i lost my {color} {animal}",
            "sorry i am so sad {past}",
        ),
        "ANGER": (
            "get out of my {room} now",
            "do not touch my {color} {thing}",
            "who broke my {color} {device}",
            "i hate {person} and the {animal}",
            "i am so angry with {person}",
            "shut up and close the {opening}",
        ),
        "NEUTRAL": (
            "{person} is at the {place} {past}",
            "the {place} is in {city}",
            "the {opening} of the {room} is {color}",
            "{person} will be in {city} {day}",
            "there are {count} {food} in the {room}",
            "the {room} {device} is {switch}",
        ),
        "HAPPY": (
            "great {person} is coming {day}",
            "great we go to {city} {day}",
            "i love this {color} {thing}",
            "i am so happy with my {animal}",
            "great we won {count} {food}",
            "what a great day in {city}",
        ),
        "SURPRISE": (
            "wow {person} is in {city}",
            "oh look there are {count} {food}",
            "oh look a {animal} in the {room}",
            "wow a {color} {animal}",
            "really {person} won {count} {food}",
            "what is that really {person}",
        ),
        "FEAR": (
            "help something is in the {room}",
            "i am afraid of the {animal}",
            "do not go in the {room}",
            "run there is fire in the {place}",
            "hide someone is at the {room} {opening}",
            "i am so afraid of the {color} {opening}",
        ),
        "DISGUST": (
            "yuck these {eaten} smell bad",
            "yuck the {room} is so dirty",
            "this dirty {animal} makes me sick",
            "the {color} {eaten} smell bad",
            "yuck there are bugs in the {eaten}",
            "i can not eat these dirty {eaten}",
            "yuck bugs in the {room} {device}",
        ),
        "OTHER": (
            "hmm i do not know {person}",
            "maybe {color} or maybe {color2}",
            "well let me think about {city}",
            "i am so bored in {city} {past}",
            "hmm which {device} do you need",
            "hmm maybe {day} or maybe {day2}",
        ),
    },
    "zh": {
        "SAD": (
            "我好想{person}",
            "{person}走了我很难过",
            "我的{animal}死了",
            "我{now}在{room}哭了",
            "{now}没有人和我{do}",
            "可怜的{animal}不见了",
        ),
        "ANGER": (
            "我真生{person}的气",
            "别动我的{food}",
            "谁弄坏了{room}的{device}",
            "{person}又骗我气死我了",
            "从我的{room}滚出去",
            "不要再{do}了气死我了",
            "快把{room}{opening}关上气人",
        ),
        "NEUTRAL": (
            "{person}{day}在{place}",
            "{place}在{city}",
            "{room}的{device}是{color}的",
            "{room}里有{count}个{food}",
            "{person}{when}{hour}{do}",
            "{person}{day}{when}在{city}",
        ),
        "HAPPY": (
            "太好了{person}{day}来了",
            "真开心{day}去{city}",
            "我最爱{color}的{animal}",
            "好开心和{person}去{place}",
            "哈哈我们去{city}了",
            "哈哈{food}真好吃",
        ),
        "SURPRISE": (
            "哇{person}来{city}了",
            "天啊{room}里有{animal}",
            "真的吗{person}会{do}",
            "没想到{person}在{place}",
            "天啊{food}是{color}的",
            "哇有{count}个{food}",
        ),
        "FEAR": (
            "救命{room}里有人",
            "我好怕{color}的{animal}",
            "快跑{place}着火了",
            "别去{room}我怕",
            "{opening}后有人我怕",
            "{person}快来{room}我怕",
        ),
        "DISGUST": (
            "真恶心{food}臭了",
            "呸{food}真难吃",
            "{room}里太脏了",
            "{animal}脏死了真恶心",
            "脏{food}不要给我",
            "{food}里有虫真恶心",
            "{place}的{food}太难吃了",
        ),
        "OTHER": (
            "嗯我不知道{person}在哪里",
            "让我想想{city}",
            "也许{day}去{place}吧",
            "也许{color}也许{color2}",
            "{now}没事真无聊",
            "嗯{food}也许好吃",
            "等等哪个{room}的{device}",
        ),
    },
}

STYLES = {
    "en": {
        "新闻科普": (
            "news from {city} {past}",
            "scientists found a {color} {animal} in {city}",
            "scientists say it will rain {day}",
            "the new {place} in {city} will open {day}",
            "scientists say {eaten} are good",
            "the news says it is {sky} in {city}",
        ),
        "恐怖故事": (
            "a ghost is in the dark {room}",
            "the ghost of {person} came at night",
            "a cold dead hand is on the {opening}",
            "blood was on the {room} {opening}",
            "the dead {color} {animal} came at night",
            "a ghost cried in the dark {place}",
        ),
        "童话故事": (
            "once upon a time a {color} {animal}",
            "the little princess had a {color} {animal}",
            "the king had {count} magic {food}",
            "the magic {animal} sings to the princess",
            "the princess had a magic {color} {thing}",
            "once upon a time in {city}",
        ),
        "客服": (
            "hello how can i help you {past}",
            "thank you for your call {past}",
            "hello your {count} {food} will come {day}",
            "hello this is the {city} {place}",
            "thank you the {place} will call {day}",
            "sorry your {color} {thing} will come {day}",
        ),
        "诗歌散文": (
            "o {color} moon over {city}",
            "the {color} wind sings in {city}",
            "my heart is a {color} {animal}",
            "white snow sleeps over {city}",
            "the {color} moon sleeps in my heart",
            "o wind the {color} {animal} sings",
        ),
        "有声书": (
            "chapter {hour} the {place} in {city}",
            "{person} said nothing and left the {room}",
            "he walked to the {color} {opening}",
            "she said it was {sky} in {city}",
            "then she walked to the {place}",
            "then {person} walked out of the {room}",
        ),
        "日常口语": (
            "hey do you like {color} {eaten}",
            "let us eat {eaten} {day}",
            "are you at the {place} {past}",
            "hey {person} is in the {room}",
            "see you at the {place} {day}",
            "hey i like {city}",
        ),
        "其他": (
            "one two three go {animal}",
            "test test {count} {count2}",
            "la la la {animal} la la",
            "go {city} go {city2} go",
            "a b c {color} {animal}",
            "test {color} {color2} test",
        ),
    },
    "zh": {
        "新闻科普": (
            "新闻说{day}{city}{sky}",
            "科学家在{city}发现{animal}",
            "科学家说{food}很好",
            "{city}新{place}{day}开门",
            "科学家说{city}会{sky}",
            "{city}新闻{day}{when}播放",
        ),
        "恐怖故事": (
            "半夜{room}里有鬼哭",
            "{person}的鬼{when}来了",
            "黑夜里{animal}死在{room}",
            "{room}的{opening}上有血",
            "鬼手打开了{room}的{opening}",
            "鬼在{place}半夜里哭",
        ),
        "童话故事": (
            "从前有个{color}的{animal}",
            "公主爱上了小{animal}",
            "国王给小{animal}{count}个{food}",
            "国王的{color}{animal}会说话",
            "小公主和{animal}吃{food}",
            "公主的{device}会说话",
        ),
        "客服": (
            "您好{place}{when}{hour}开门",
            "请问您要买{food}吗",
            "您的{food}{day}会到",
            "谢谢您给{place}打电话",
            "您好这里是{city}{place}",
            "请您{day}{when}来{place}",
        ),
        "诗歌散文": (
            "{city}的月光如水",
            "{color}的花落在{city}",
            "春风吹过{city}的夜",
            "我心如{color}的{animal}",
            "雪落{city}夜如水",
            "月下{color}的花开了",
            "春风吹过{color}的花",
        ),
        "有声书": (
            "第{number}章{city}的{place}",
            "{person}打开{opening}走了出去",
            "他{when}从{place}走来",
            "她看着{color}的{opening}",
            "{person}关上{opening}没有说话",
            "她看着{person}没有说话",
        ),
        "日常口语": (
            "{day}咱们吃{food}吧",
            "咱们{when}去{place}吧",
            "哎{person}你{do}了吗",
            "你{now}想吃{food}吗",
            "喂我在{place}你来吗",
            "{day}咱们{when}{do}吧",
        ),
        "其他": (
            "一二三{do}",
            "啦啦啦{animal}啦啦",
            "加油{city}加油{city2}",
            "{color}{color2}{color}",
            "一二一二{place}走",
            "加油加油{person}",
            "一{do}二{do2}三四",
        ),
    },
}

# Readings for sentences and questions, in addition to grammar.READINGS.
READINGS = {
    "了": "le5",
    "着": "zhe5",
    "着火": "zhao2 huo3",
    "好": "hao3",
    "恶心": "e3 xin1",
    "难过": "nan2 guo4",
    "难": "nan2",
    "没": "mei2",
    "弄": "nong4",
    "别": "bie2",
    "吧": "ba5",
    "啊": "a1",
    "哇": "wa1",
    "哎": "ai1",
    "嗯": "en4",
    "哈": "ha1",
    "喂": "wei4",
    "啦": "la1",
    "脏": "zang1",
    "呸": "pei1",
    "我们": "wo3 men5",
    "咱们": "zan2 men5",
    "谢谢": "xie4 xie5",
    "什么": "shen2 me5",
    "知道": "zhi1 dao4",
    "哪个": "na3 ge4",
    "说": "shuo1",
    "几": "ji3",
    "相": "xiang1",
    "多少": "duo1 shao3",
    "少": "shao3",
    "大": "da4",
    "血": "xue4",
    "落": "luo4",
    "都": "du1",
    "看": "kan4",
    "过": "guo4",
    "里": "li3",
    "吹": "chui1",
    "不见": "bu2 jian4",
    "不": "bu4",
    "发现": "fa1 xian4",
    "鸟": "niao3",
    "嘎": "ga1",
    "哞": "mou1",
}


def fill(template: str, lang: str, rng) -> str:
    """Fill the slots at random; a repeated slot gets the same words."""
    names = sorted(set(re.findall(r"\{(\w+)\}", template)))
    return template.format(**{name: rng.choice(ALL_SLOTS[lang][name]) for name in names})


def feeling(lang: str, label: str, rng) -> str:
    """A sentence whose words express an emotion; all templates are equally likely.

    Parameters
    ----------
    lang : {"en", "zh"}
    label : one of tasks.LABEL_SETS["emotion"].values
    rng : random.Random
    """
    return fill(rng.choice(FEELINGS[lang][label]), lang, rng)


def styled(lang: str, label: str, rng) -> str:
    """A sentence in a style, one of tasks.LABEL_SETS["style"].values; otherwise as `feeling`."""
    return fill(rng.choice(STYLES[lang][label]), lang, rng)


def sentences(template: str, lang: str) -> list[str]:
    """Every sentence of a template of `FEELINGS` or `STYLES`."""
    parts = re.split(r"\{(\w+)\}", template)  # text, slot, text, ..., text
    names = sorted(set(parts[1::2]))
    fillings = itertools.product(*(ALL_SLOTS[lang][name] for name in names))
    return [template.format(**dict(zip(names, filling))) for filling in fillings]


def vocabulary(lang: str) -> list[str]:
    """Every English word or Chinese character of the sentences, questions and answers, sorted."""
    texts = [text for pair in facts(lang) for text in pair]
    for table in (FEELINGS, STYLES):
        for template in itertools.chain(*table[lang].values()):
            texts += re.split(r"\{\w+\}", template)
            texts += [value for slot in re.findall(r"\{(\w+)\}", template) for value in ALL_SLOTS[lang][slot]]
    return sorted({word for text in texts for word in words(text, lang)})
