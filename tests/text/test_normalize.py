import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mindspore_osum.text.normalize import STYLE_REMAP, normalize_label, process_text2, remap_labels


def test_golden_cases(shared):
    golden = json.loads((shared / "golden/tokenizer_golden.json").read_text("utf-8"))
    assert golden["process_text2_cases"]
    for case in golden["process_text2_cases"]:
        assert process_text2(case["text"], case["task"]) == case["out"], case


@given(text=st.text(st.sampled_from("aZ你好<> \n\t\u3000.0"), max_size=30))
def test_same_as_the_published_substitutions(text):
    expected = re.sub(r"\s*([\u4e00-\u9fff])\s*", r"\1", text)
    expected = re.sub(r"\s*>\s*", ">", re.sub(r"\s*<\s*", "<", expected))
    assert process_text2(text, "<TRANSCRIBE> <AGE>") == expected
    assert process_text2(text, "<TRANSCRIBE>") == expected.lower()


def test_long_runs_of_spaces_are_cheap():
    text = "a" + " " * 200_000 + "b"
    start = time.perf_counter()
    assert process_text2(text, "<TRANSCRIBE>") == text
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("raw", ["YOUTH", "MIDDLE_AGE", "MIDDLE", "ADULT"])
def test_ages_become_adult(raw):
    assert remap_labels(f"hi<{raw}>", "<TRANSCRIBE> <AGE>") == "hi<ADULT>"
    assert remap_labels(f"hi<{raw}>", "<TRANSCRIBE>") == f"hi<{raw}>"


def test_styles():
    assert len(STYLE_REMAP) == 15 and len(set(STYLE_REMAP.values())) == 8
    assert remap_labels("从前<小说>", "<STYLE>") == "从前<有声书>"
    assert remap_labels("从前<未知>", "<STYLE>") == "从前<未知>"
    assert remap_labels("hi<YOUTH><科幻>", "<STYLE> <AGE> <GENDER>") == "hi<ADULT><有声书>"


def test_normalize_label_is_both():
    label = normalize_label("<asr><age>Hello 你 好 <YOUTH>", "<TRANSCRIBE> <AGE>")
    assert label == "<asr><age>Hello你好<ADULT>"
    assert normalize_label("<asr>Hello", "<TRANSCRIBE>") == "<asr>hello"
