"""What the page says, in English and Chinese; the browser chooses (`Accept-Language`)."""

from collections.abc import Sequence

from mindspore_osum.tasks import LABEL_SETS, TASKS

ALL = "all"  # a choice beside the eight tasks

_EN = {
    "hint": "Record or drop a recording, choose a task or write a request.",
    "recording": "recording",
    "bundled": "or a bundled recording",
    "task": "task",
    ALL: "all eight tasks",
    "request": "or a request in your own words (goes before the task)",
    "placeholder": "What does the speaker say?",
    "hotwords": "names and terms that may be said, with commas between them (optional)",
    "listen": "Listen",
    "transcript": "transcript",
    "words": "words: press one to hear it",
    "labels": "labels",
    "picture": "log-mel: time to the right, 0-8 kHz upwards",
    "everything": "everything",
    "waiting": "waiting for an earlier request",
    "loading": "loading the model",
    "compiling": "compiling the model for a recording of this length (graph {n})",
    "listening": "listening",
    "pass": "pass {n} of {passes}",
    "heard": "{start} to {end} of {seconds}",
    "asked": "asked: {request}",
    "with hotwords": "{request} ({hotwords})",
    "reply": "reply: {reply}",
    "warning": "warning: {line}",
    "error": "error: {line}",
    "internal": "a fault of this program; the terminal shows it",
    "no speech": "no speech was found in this recording",
    "no text": "no transcript in this answer",
    "truncated": "the answer is truncated, at --max-new-tokens or the model's last position",
    "no label": "no label in this answer",
    "missing": "missing in this answer",
    "no recording": "no recording: record one, drop a file, or take a bundled one",
    "long request": "a request of {n} characters: this page takes {most}",
    "long recording": "{seconds} s of sound: this page takes {most} s",
    "description": "{about}: {text}",
    "comma": ", ",
}
_ZH = {
    "hint": "录音或拖入音频，选择任务，或用自己的话提问。",
    "recording": "音频",
    "bundled": "或选一段自带录音",
    "task": "任务",
    ALL: "全部八项任务",
    "request": "或用自己的话提问（优先于所选任务）",
    "placeholder": "谁在说话，多大年纪？",
    "hotwords": "可能出现的人名和术语，用逗号分隔（可选）",
    "listen": "开始听",
    "transcript": "文字",
    "words": "词语：点按即可播放",
    "labels": "标签",
    "picture": "对数梅尔谱：横轴为时间，纵轴为 0-8 kHz",
    "everything": "完整结果",
    "waiting": "正在等待前面的请求",
    "loading": "正在加载模型",
    "compiling": "正在为这一长度的录音编译模型（第 {n} 个图）",
    "listening": "正在听",
    "pass": "第 {n} 遍，共 {passes} 遍",
    "heard": "{start} 至 {end}，全长 {seconds}",
    "asked": "所提请求：{request}",
    "with hotwords": "{request}（{hotwords}）",
    "reply": "回复：{reply}",
    "warning": "注意：{line}",
    "error": "错误：{line}",
    "internal": "程序内部出错，详情见终端",
    "no speech": "这段录音里没有发现语音",
    "no text": "这次回答没有文字",
    "truncated": "回答被截断：到达 --max-new-tokens 或模型的最大长度",
    "no label": "这次回答没有标签",
    "missing": "这次回答中缺失",
    "no recording": "没有音频：请录音、拖入文件，或选一段自带录音",
    "long request": "请求有 {n} 个字符：本页最多 {most} 个",
    "long recording": "音频长 {seconds} 秒：本页最多 {most} 秒",
    "description": "{about}：{text}",
    "comma": "，",
    "en": "英语",
    "zh": "中文",
    "event": "声音事件",
    "emotion": "情绪",
    "style": "风格",
    "gender": "性别",
    "age": "年龄",
    "asr": "语音识别",
    "srwt": "带时间戳的语音识别",
    "ved": "声音事件检测",
    "ser": "情绪识别",
    "ssr": "说话风格识别",
    "sgc": "说话人性别",
    "sap": "说话人年龄",
    "sttc": "语音对话（文字回复）",
    "LAUGH": "笑",
    "COUGH": "咳嗽",
    "CRY": "哭",
    "SCREAMING": "尖叫",
    "SIGH": "叹气",
    "THROAT CLEARING": "清嗓子",
    "SNEEZE": "打喷嚏",
    "OTHER": "其他",
    "SAD": "悲伤",
    "ANGER": "愤怒",
    "NEUTRAL": "中性",
    "HAPPY": "高兴",
    "SURPRISE": "惊讶",
    "FEAR": "恐惧",
    "DISGUST": "厌恶",
    "MALE": "男",
    "FEMALE": "女",
    "CHILD": "儿童",
    "ADULT": "成年",
    "OLD": "老年",
    "CHILD MALE": "男孩",
    "CHILD FEMALE": "女孩",
    "ADULT MALE": "男子",
    "ADULT FEMALE": "女子",
    "OLD MALE": "老年男子",
    "OLD FEMALE": "老年女子",
}
_EN |= {"en": "English", "zh": "Chinese"} | {abbr: task.name for abbr, task in TASKS.items()}
_EN |= {"CHILD MALE": "boy", "CHILD FEMALE": "girl", "ADULT MALE": "man", "ADULT FEMALE": "woman"}
_EN |= {"OLD MALE": "old man", "OLD FEMALE": "old woman"}
_FEELINGS = {"ANGER": "angry", "SURPRISE": "surprised", "FEAR": "afraid", "DISGUST": "disgusted"}
for _value in LABEL_SETS["emotion"].values:
    _EN[f"feels {_value}"] = _FEELINGS.get(_value, _value.lower())
    _ZH[f"feels {_value}"] = _ZH[_value]
LANGUAGES = {"en": _EN, "zh": _ZH}


class Texts:
    """The page's texts in one language.

    Parameters
    ----------
    accepted : what the browser sends as `Accept-Language`; English unless it prefers Chinese.
    """

    def __init__(self, accepted: str | None = None):
        self.language = _preferred(accepted or "")
        self._texts = LANGUAGES[self.language]

    def __call__(self, key: str, **values) -> str:
        """The text of `key`, with its values; labels without a translation are shown as they are."""
        text = self._texts.get(key, key)
        return text.format(**values) if values else text

    def choices(self, tasks: Sequence[str] = tuple(TASKS)) -> list[tuple[str, str]]:
        """The tasks, by default all: what is shown, and the value behind it."""
        every = [(self(ALL), ALL)] if len(tasks) == len(TASKS) else []
        return [*((f"{self(abbr)} ({abbr})", abbr) for abbr in tasks), *every]

    def join(self, parts) -> str:
        """Parts of a line, with commas."""
        return self("comma").join(filter(None, parts))

    def label(self, value: str) -> str:
        """A label as the model writes it, with its translation."""
        shown = self(value)
        return value if shown == value else f"{shown} ({value})"

    def description(self, about: dict) -> str:
        """A recording of the bundled manifest by what it is: language, feeling, who speaks, what is said."""
        feeling = about["emotion"]
        feeling = "" if feeling in ("NEUTRAL", "OTHER") else self(f"feels {feeling}")
        words = ("" if about["lang"] == "zh" else " ").join(word for word, *_ in about["words"])
        who = self(f"{about['age']} {about['gender']}")
        return self("description", about=self.join([self(about["lang"]), feeling, who]), text=words)


def _preferred(accepted: str) -> str:
    """The language of `LANGUAGES` with the highest quality in an `Accept-Language` header, else "en"."""
    found = []
    for n, part in enumerate(accepted.split(",")):
        name, _, quality = part.strip().partition(";")
        try:
            q = float(quality.strip().removeprefix("q=")) if quality else 1.0
        except ValueError:
            continue
        if (language := name.partition("-")[0].strip().lower()) in LANGUAGES and q > 0:
            found.append((-q, n, language))
    return min(found)[2] if found else "en"
