import json

import pytest

from mindspore_osum.tasks import TASKS
from mindspore_osum.text.requests import intent_instructions, intent_request, task_requests


@pytest.fixture(scope="module")
def golden(shared):
    return json.loads((shared / "golden/config.json").read_text("utf-8"))


def test_requests_cover_the_tasks(golden):
    assert all(task_requests(abbr) for abbr in TASKS)
    assert task_requests("asr")[0] == golden["instructions"]["wav1"]
    known = golden["prompt_dict_used_for_training_samples"]
    assert task_requests("ser")[0] == known["<TRANSCRIBE> <EMOTION>"][1]
    assert list(intent_instructions()) == known["<INTENT_CLASSIFICATION>"]


def test_intent_request():
    assert intent_request("转写一下") == "请对以下文本进行意图分类。:转写一下"
    assert intent_request("hi", "What is wanted?") == "What is wanted?:hi"
