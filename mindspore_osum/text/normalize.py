"""Label normalisation as the published OSUM-Pangu data pipeline does it.

Notable choices
- A task key is the published one, for example ``"<TRANSCRIBE> <AGE>"`` (see ``mindspore_osum.tasks``).
- Order: first the label remaps (age, style), then `process_text2` on tag string + text together.
- Only plain transcription is lower-cased, so answers of all other tasks keep their ``<ADULT>`` in capitals.
"""

import re

# Speaker age: the raw corpora have more classes than the model (OSUM-Pangu data pipeline).
AGE_REMAP = {"YOUTH": "ADULT", "MIDDLE_AGE": "ADULT", "MIDDLE": "ADULT"}

# Speaking style: the 15 raw labels of the corpora -> the 8 classes of OSUM Table 1.
STYLE_REMAP = {
    "朗读": "新闻科普",
    "科普百科": "新闻科普",
    "悬疑恐怖": "恐怖故事",
    "童话故事": "童话故事",
    "客服": "客服",
    "诗歌": "诗歌散文",
    "散文": "诗歌散文",
    "武侠评书": "有声书",
    "小说": "有声书",
    "历史": "有声书",
    "科幻": "有声书",
    "对话": "日常口语",
    "口语": "日常口语",
    "幽默": "其他",
    "其他": "其他",
}

# Part of a task key -> the remap that it turns on.
REMAP_OF_KEY_PART = {"<AGE>": AGE_REMAP, "<STYLE>": STYLE_REMAP}

# Runs of spaces next to a CJK character or a bracket; the look-behind keeps the cost linear in a long run.
_BESIDE_CJK = re.compile(r"(?<!\s)\s+(?=[\u4e00-\u9fff])|(?<=[\u4e00-\u9fff])\s+")
_BESIDE_BRACKET = re.compile(r"(?<!\s)\s+(?=[<>])|(?<=[<>])\s+")
_LABEL = re.compile(r"<([^<>]*)>")


def process_text2(text: str, task_key: str, lower: bool = False) -> str:
    """Strip spaces next to CJK characters and angle brackets; lower-case plain transcription only.

    Parameters
    ----------
    text : str
        Label text, tag string included.
    task_key : str
        Published task key; exactly ``"<TRANSCRIBE>"`` lower-cases everything, tags included.
    lower : bool
        Lower-case the text of any task, as OSUM does.

    Source: behaviour of ``wenet/dataset/process/processor.py``, of OSUM-Pangu (``process_text2``) and OSUM
    (``process_text``).
    """
    text = _BESIDE_CJK.sub("", text)
    if lower or task_key == "<TRANSCRIBE>":
        text = text.lower()
    return _BESIDE_BRACKET.sub("", text)


def remap_labels(text: str, task_key: str) -> str:
    """Replace raw labels such as ``<YOUTH>`` or ``<小说>`` by the model's classes.

    Applies the age table if the key has ``<AGE>`` and the style table if it has ``<STYLE>``; other labels are
    unchanged.
    """
    for part, table in REMAP_OF_KEY_PART.items():
        if part in task_key:
            text = _LABEL.sub(lambda m, table=table: f"<{table.get(m[1], m[1])}>", text)
    return text


def normalize_label(text: str, task_key: str, lower: bool = False) -> str:
    """Return the training label of the published pipeline: `remap_labels`, then `process_text2`."""
    return process_text2(remap_labels(text, task_key), task_key, lower)
