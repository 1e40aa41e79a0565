"""Sentences of the kinds that telephones and people say, written as Whisper writes: with capitals and stops.

A template with every slot filled is a sentence; which ones are drawn depends on the seed alone.
"""

from __future__ import annotations

import random
import re

SLOTS = {
    "en": {
        "what": "account number|order number|zip code|date of birth|phone number|access code|room number",
        "key": "pound key|star key|zero key",
        "act": "hear the menu again|speak with an agent|leave a message|change your greeting|"
        "return to the main menu|save this recording|delete this recording|"
        "listen to your balance|cancel your order|confirm",
        "digit": "one|two|three|four|five|six|seven|eight|nine",
        "figure": "1|2|3|4|5|6|7|8|9|0",  # as Whisper writes what is pressed
        "office": "sales|billing|technical support|the front desk|customer service|the pharmacy",
        "state": "busy|closed|not available|on another line|out of the office",
        "when": "this morning|this afternoon|tomorrow|on Monday|on Thursday|next week|in an hour|tonight",
        "who": "my sister|the manager|our neighbor|Doctor Brown|the children|my grandfather|Mrs. Green",
        "did": "went to the market|called about the broken window|walked along the river|"
        "waited for the last train|read an old letter|planted roses in the garden|"
        "forgot the umbrella|cooked soup for everyone|sold the white horse|wrote a long story|"
        "looked for the missing key|sang a quiet song",
        "why": "because it was raining|although nobody had asked|before the guests arrived|"
        "after the storm was over|while the others were asleep|"
        "since there was nothing else to do|without saying a word",
        "thing": "the bridge|the library|that painting|this machine|the harbor|the winter coat|the kitchen",
        "how": "older than it looks|worth a visit|much too expensive|hard to describe|almost finished|"
        "covered with snow|exactly what we needed|larger than I remembered",
    },
    "zh": {
        "who": "我妹妹|王老师|邻居|我爷爷|那位医生|孩子们|张经理|我同学",
        "when": "今天早上|昨天晚上|星期一|下个月|刚才|周末|中午",
        "did": "去了图书馆|给我打了电话|在公园散步|忘了带雨伞|做了一桌好菜|买了两张火车票|写了一封长信|"
        "在河边拍照|收拾好了行李|听了一场音乐会",
        "what": "客户号码|房间号|手机号码|验证码|出生日期",
        "act": "返回主菜单|转接人工服务|重听语音|取消订单|查询余额|留言",
        "digit": "一|二|三|四|五|六|七|八|九",
        "thing": "这座桥|那家餐厅|新买的电脑|学校的操场|这本小说|火车站",
        "how": "比以前漂亮多了|离这里不太远|让人很难忘|已经修好了|总是很热闹|值得一看",
    },
}
TEMPLATES = {
    "en": (
        "Please enter your {what}, followed by the {key}.",
        "To {act}, press {figure}.",
        "Press {figure} to {act}, or press {figure} for {office}.",
        "I'm sorry, {office} is {state}. Please try again {when}.",
        "The {what} you entered is not valid. Please enter it again.",
        "Thank you for calling {office}. Your call is very important to us.",
        "Your {what} has been changed. You may now hang up.",
        "You have {digit} new messages. To {act}, press the {key}.",
        "{who} {did} {why}.",
        "{who} {did} {when}, and {who} {did}.",
        "I have always thought that {thing} is {how}.",
        "Do you know whether {who} {did} {why}?",
        "{thing} is {how}, but {who} never saw it.",
        "If {thing} is {how}, we should go there {when}.",
    ),
    "zh": (
        "请输入您的{what}。",
        "{act}请按{digit}。",
        "{act}请按{digit}，{act}请按{digit}。",
        "对不起，您输入的{what}不正确，请重新输入。",
        "{when}{who}{did}。",
        "{who}{when}{did}，我很高兴。",
        "{thing}{how}。",
        "听说{thing}{how}，我们{when}再去吧。",
    ),
}
_SLOT = re.compile(r"\{(\w+)\}")


def sentences(lang: str, count: int, seed: str) -> list[str]:
    """`count` different sentences of a language.

    Parameters
    ----------
    lang : en or zh.
    count : at most some hundreds; the templates do not give many more.
    seed : of the draw.
    """
    rng, found = random.Random(f"{seed}/{lang}"), {}
    while len(found) < count:
        slots = {name: values.split("|") for name, values in SLOTS[lang].items()}
        for values in slots.values():
            rng.shuffle(values)
        text = _SLOT.sub(lambda slot, slots=slots: slots[slot[1]].pop(), rng.choice(TEMPLATES[lang]))
        found[text[:1].upper() + text[1:]] = None
    return list(found)


def written(text: str, lang: str) -> str:
    """A sentence of the speech world as Whisper writes it: English with a capital and a stop."""
    if lang != "en":
        return text
    text = re.sub(r"\bi\b", "I", text)
    return text[:1].upper() + text[1:] + "."
