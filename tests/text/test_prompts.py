import json
import subprocess
import sys

import pytest

from mindspore_osum.errors import UserError
from mindspore_osum.tasks import TASKS
from mindspore_osum.text.prompts import (
    OUTPUT_TYPES,
    intent_instructions,
    intent_request,
    load_prompt_set,
    task_requests,
)


@pytest.fixture(scope="module")
def golden(shared):
    return json.loads((shared / "golden/config.json").read_text("utf-8"))


def test_golden_training_prompts(golden):
    prompts = load_prompt_set("osum_pangu")
    for output_type in OUTPUT_TYPES:
        assert prompts.left[output_type] == golden["prompts"][f"train_{output_type}"]
    assert prompts.assistant == golden["prompts"]["assistant_part"]


def test_golden_inference_prompts(golden):
    prompts = load_prompt_set("osum_pangu_published_inference")
    assert prompts.left == {
        "text": golden["prompts"]["infer_generate"],
        "s2t_chat": golden["prompts"]["infer_generate4chat"],
        "text2text": golden["prompts"]["infer_generate_text2text"],
        "intent_classification": golden["prompts"]["infer_generate_text2text"],
    }
    assert prompts.assistant == golden["prompts"]["assistant_part"]


def test_default_is_the_undamaged_training_set():
    prompts = load_prompt_set()
    assert prompts == load_prompt_set("osum_pangu")
    assert "analyze" in prompts.left["text"]


def test_compact_is_short(tiny):
    prompts = load_prompt_set("compact")
    assert set(prompts.left.values()) == {""}
    assert len(tiny.encode(prompts.assistant)) == 1


def test_requests_cover_the_tasks(golden):
    assert all(task_requests(abbr) for abbr in TASKS)
    assert task_requests("asr")[0] == golden["instructions"]["wav1"]
    known = golden["prompt_dict_used_for_training_samples"]
    assert task_requests("ser")[0] == known["<TRANSCRIBE> <EMOTION>"][1]
    assert list(intent_instructions()) == known["<INTENT_CLASSIFICATION>"]


def test_intent_request():
    assert intent_request("转写一下") == "请对以下文本进行意图分类。:转写一下"
    assert intent_request("hi", "What is wanted?") == "What is wanted?:hi"


def test_unknown_set_gets_a_hint():
    with pytest.raises(UserError, match="did you mean 'compact'"):
        load_prompt_set("compakt")


GOOD = "left: {text: a, s2t_chat: b, text2text: c, intent_classification: d}\nassistant: e\n"


def test_own_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD, "utf-8")
    prompts = load_prompt_set(str(path))
    assert (prompts.name, prompts.left["text2text"], prompts.assistant) == (str(path), "c", "e")


@pytest.mark.parametrize(
    "content, message",
    [
        (GOOD.replace("text:", "txt:"), "unknown key 'txt'.*did you mean 'text'"),
        (GOOD.replace("assistant: e", ""), "missing assistant"),
        (GOOD.replace(" a,", " 1,"), "text: expected a text in quotes, got int"),
        ("left: {text: a\nassistant: e", "mine.yaml:2: broken YAML"),
        ("!!python/object/apply:os.getcwd []", "broken YAML"),
        ("- a", "expected the keys"),
        ("", "expected the keys"),
    ],
)
def test_bad_own_file(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_text(content, "utf-8")
    with pytest.raises(UserError, match=message) as e:
        load_prompt_set(str(path))
    assert "\n" not in str(e.value)


def test_missing_own_file(tmp_path):
    with pytest.raises(UserError, match="cannot read the prompt file"):
        load_prompt_set(str(tmp_path / "none.yaml"))


def test_text_side_imports_nothing_heavy():
    code = (
        "import sys, mindspore_osum.tasks, mindspore_osum.text.sequence, mindspore_osum.text.prompts\n"
        "print([m for m in ('mindspore', 'torch', 'transformers', 'sentencepiece') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
