"""Names and terms that may be said, as a part of the request in words.

OSUM was not trained with them: they are words like the rest of the request, which larger decoders can follow.
"""

import re
from collections.abc import Sequence

import numpy as np

from mindspore_osum.data.requests import sample
from mindspore_osum.tasks import tags_of, task_of_tags, write_tags
from mindspore_osum.text.requests import task_requests

_CHINESE = re.compile(r"[\u4e00-\u9fff]")


def with_hotwords(words: str, task: str | None, hotwords: Sequence[str]) -> str:
    """The request with hotwords behind it; the tags of a task are replaced by a sentence for it."""
    if task and words == write_tags(tags_of(task)):
        words = _sentence(task)
    if _CHINESE.search(words):
        return f"{words}可能出现的词：{'、'.join(hotwords)}。"
    return f"{words} Words that may occur: {', '.join(hotwords)}."


def _sentence(task: str) -> str:
    """The published sentence of one of the eight tasks, else one of the Intent-Instruction Set."""
    if abbr := task_of_tags(tags_of(task)):
        return task_requests(abbr)[0]
    return sample(np.random.default_rng(0), task, "train", "en").text
