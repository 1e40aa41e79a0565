"""The questions of the speech world: facts, each with several phrasings.

A model can answer an unseen question if it was trained on the same fact in another phrasing.
"""

from __future__ import annotations

from functools import lru_cache

from grammar import DIGITS, ZH_SLOTS


def chain(*items: str) -> dict[str, str]:
    """Each item -> the next one, cyclically."""
    return dict(zip(items, (*items[1:], items[0])))


def both_ways(pairs: dict[str, str]) -> dict[str, str]:
    return pairs | {b: a for a, b in pairs.items()}


def turned(pairs: dict[str, str]) -> dict[str, str]:
    return {b: a for a, b in pairs.items()}


EN_NUMBERS = (*DIGITS["en"], "ten")
ZH_NUMBERS = (*DIGITS["zh"], "十", "十一", "十二")


def sums(numbers: tuple[str, ...], plus: str) -> dict[str, str]:
    """Sums of two numbers from one to five, with `plus` between them."""
    return {f"{numbers[a]}{plus}{numbers[b]}": numbers[a + b] for a in range(1, 6) for b in range(1, 6)}


EN_DAYS = chain("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
EN_COUNTRIES = {
    "london": "england",
    "paris": "france",
    "beijing": "china",
    "berlin": "germany",
    "tokyo": "japan",
}
ZH_DAYS = chain(*("星期" + day for day in "一二三四五六天"))
ZH_MONTHS = chain(*(number + "月" for number in ZH_NUMBERS[1:]))
ZH_CAPITALS = {"中国": "北京", "日本": "东京", "英国": "伦敦", "法国": "巴黎", "德国": "柏林"}

# relation -> (phrasings with {x}, facts: x -> answer)
RELATIONS = {
    "en": {
        "sum": (
            ("what is {x}", "how much is {x}", "tell me {x}", "{x} is what"),
            sums(EN_NUMBERS, " plus "),
        ),
        "next day": (
            (
                "what is the day after {x}",
                "which day is after {x}",
                "tell me the day after {x}",
                "after {x} is what day",
            ),
            EN_DAYS,
        ),
        "day before": (
            (
                "what is the day before {x}",
                "which day is before {x}",
                "tell me the day before {x}",
                "before {x} is what day",
            ),
            turned(EN_DAYS),
        ),
        "color": (
            ("what color is {x}", "which color is {x}", "tell me the color of {x}", "{x} is what color"),
            {
                "snow": "white",
                "the sky": "blue",
                "grass": "green",
                "a banana": "yellow",
                "blood": "red",
                "the night": "black",
                "milk": "white",
                "fire": "red",
                "the sun": "yellow",
            },
        ),
        "country": (
            (
                "which country is {x} in",
                "what country is {x} in",
                "tell me the country of {x}",
                "{x} is in which country",
            ),
            EN_COUNTRIES,
        ),
        "capital": (
            (
                "what is the capital of {x}",
                "which city is the capital of {x}",
                "tell me the capital of {x}",
                "the capital of {x} is what",
            ),
            turned(EN_COUNTRIES),
        ),
        "opposite": (
            (
                "what is the opposite of {x}",
                "tell me the opposite of {x}",
                "the opposite of {x} is what",
                "which is the opposite of {x}",
            ),
            both_ways(
                {
                    "on": "off",
                    "open": "close",
                    "cold": "warm",
                    "good": "bad",
                    "happy": "sad",
                    "day": "night",
                    "black": "white",
                    "love": "hate",
                    "before": "after",
                }
            ),
        ),
        "legs": (
            (
                "how many legs has a {x}",
                "a {x} has how many legs",
                "tell me the legs of a {x}",
                "how many are the legs of a {x}",
            ),
            {"cat": "four", "dog": "four", "horse": "four", "cow": "four", "bird": "two"},
        ),
    },
    "zh": {
        "sum": (
            ("{x}是多少", "{x}等于几", "{x}是几", "想想{x}是多少"),
            sums(ZH_NUMBERS, "加"),
        ),
        "next day": (
            ("{x}后是星期几", "{x}过了是星期几", "{x}的后一天是什么", "什么在{x}后一天"),
            ZH_DAYS,
        ),
        "day before": (
            ("{x}前是星期几", "说说{x}的前一天", "{x}的前一天是什么", "什么在{x}前一天"),
            turned(ZH_DAYS),
        ),
        "next month": (
            ("{x}后是几月", "{x}过了是几月", "说说{x}的下个月", "{x}的下个月是几月"),
            ZH_MONTHS,
        ),
        "month before": (
            ("{x}前是几月", "几月在{x}前", "说说{x}的上个月", "{x}的上个月是几月"),
            turned(ZH_MONTHS),
        ),
        "season": (
            ("{x}是什么季节", "{x}是哪个季节", "说说{x}的季节", "{x}的季节是什么"),
            {month: "冬春夏秋"[(number % 12) // 3] + "天" for number, month in enumerate(ZH_MONTHS, 1)},
        ),
        "color": (
            ("{x}是什么颜色", "{x}是哪个颜色", "说说{x}的颜色", "{x}的颜色是什么"),
            {
                "天": "蓝色",
                "雪": "白色",
                "草": "绿色",
                "香蕉": "黄色",
                "血": "红色",
                "黑夜": "黑色",
                "牛奶": "白色",
                "火": "红色",
                "米饭": "白色",
                "咖啡": "黑色",
            },
        ),
        "country": (
            ("{x}在哪个国家", "{x}是哪个国家的", "哪个国家有{x}", "说说{x}的国家"),
            turned(ZH_CAPITALS) | dict.fromkeys(ZH_SLOTS["city"], "中国"),
        ),
        "capital": (
            ("{x}的首都是什么", "说说{x}的首都", "{x}首都在哪里", "哪里是{x}的首都"),
            ZH_CAPITALS,
        ),
        "opposite": (
            ("和{x}相反的是什么", "什么和{x}相反", "说说{x}的相反", "{x}的相反是什么"),
            both_ways(
                {
                    "开": "关",
                    "上": "下",
                    "黑": "白",
                    "冷": "热",
                    "好": "坏",
                    "前": "后",
                    "哭": "笑",
                    "来": "去",
                    "早": "晚",
                    "多": "少",
                    "大": "小",
                    "左": "右",
                }
            ),
        ),
        "legs": (
            ("{x}有几条腿", "{x}的腿有几条", "说说{x}有几条腿", "几条腿的是{x}"),
            {"猫": "四", "狗": "四", "马": "四", "牛": "四", "鸟": "两", "鸭": "两"},
        ),
        "sound": (
            ("{x}怎么叫", "{x}会怎么叫", "说说{x}怎么叫", "{x}的叫是什么"),
            {"猫": "喵", "狗": "汪", "牛": "哞", "鸭": "嘎"},
        ),
    },
}


def question(lang: str, rng) -> tuple[str, str]:
    """Draw a question and its answer: first the relation, then fact and phrasing."""
    phrasings, known = rng.choice(list(RELATIONS[lang].values()))
    about = rng.choice(list(known))
    return rng.choice(phrasings).replace("{x}", about), known[about]


@lru_cache
def facts(lang: str) -> tuple[tuple[str, str], ...]:
    """All questions with their answers: every fact in every phrasing."""
    return tuple(
        (phrasing.replace("{x}", about), answer)
        for phrasings, known in RELATIONS[lang].values()
        for about, answer in known.items()
        for phrasing in phrasings
    )
