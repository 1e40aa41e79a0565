import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindspore_osum.data.formats.manifest import parse_object
from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.errors import UserError
from mindspore_osum.files import json_object

GOOD = {
    "key": "a",
    "wav": "x/a.wav",
    "txt": "hello",
    "task": "<TRANSCRIBE>",
    "extra": {"age": "OLD"},
    "lang": "en",
}


def write(path, *lines):
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines), "utf-8")
    return path


def test_a_published_line(tmp_path):
    words = {"intent": "write it"}
    text_only = {"key": "b", "txt": "<asr>", "task": "<INTENT_CLASSIFICATION>", "extra": words}
    part = {**GOOD, "key": "c", "start": 1, "end": 2.5, "extra": None}
    utterances, problems = read_manifest(write(tmp_path / "m.jsonl", GOOD, "", text_only, part))
    assert problems == []
    first, second, third = utterances
    assert (first.key, first.txt, first.task, first.extra) == ("a", "hello", "<TRANSCRIBE>", {"age": "OLD"})
    assert first.wav == str(tmp_path / "x/a.wav") and first.where == f"{tmp_path}/m.jsonl:1"
    assert second.wav is None and second.extra == words
    assert (third.start, third.end, third.extra) == (1.0, 2.5, {})


def test_whole_characters_may_be_written_by_halves(tmp_path):
    texts = ["\U0001f600", r"\ud83d"]
    whole = [json.dumps({**GOOD, "key": str(i), "txt": txt}) for i, txt in enumerate(texts)]
    assert r'"\ud83d\ude00"' in whole[0] and r'"\\ud83d"' in whole[1]
    utterances, problems = read_manifest(write(tmp_path / "m.jsonl", *whole))
    assert [u.txt for u in utterances] == texts and not problems


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("{", "not a JSON object"),
        ('"text"', "expected an object"),
        ({**GOOD, "key": ""}, "'key'"),
        ({**GOOD, "txt": None}, "'txt'"),
        ({k: v for k, v in GOOD.items() if k != "task"}, "'task'"),
        ({**GOOD, "wav": None}, "needs a recording"),
        ({**GOOD, "wav": 3}, "'wav'"),
        ({**GOOD, "extra": []}, "'extra'"),
        ({**GOOD, "start": -1}, "'start'"),
        ({**GOOD, "start": 2, "end": 1}, "'end' 1.0 is not after"),
        ({**GOOD, "end": True}, "'end'"),
        ({**GOOD, "key": "first"}, "twice"),
        ({**GOOD, "txt": "half \ude00\ud83d"}, "holds half of a character"),
        ({**GOOD, "\udfff": 1}, "holds half of a character"),
        ({**GOOD, "extra": json.dumps({"age": "\ud800"})}, "'extra': holds half of a character"),
        ({**GOOD, "key": "k" * 5000, "txt": 3}, "found 3"),
        ({**GOOD, "key": [["k"] * 5000] * 9}, "..."),
        ('{"key": "a", "extra": ' + "[" * 60 + "]" * 60 + "}", "more than 50 objects or lists"),
        (
            '{"key": ' + "[" * 9000 + "]" * 9000 + "}",
            "m.jsonl:2: ",
        ),  # why depends on Python's recursion limit
        ('{"key": ' + "9" * 9000 + "}", "not a JSON object"),
    ],
)
def test_malformed_lines_are_listed_or_refused(tmp_path, bad, says):
    path = write(tmp_path / "m.jsonl", {**GOOD, "key": "first"}, bad, {**GOOD, "key": "last"})
    utterances, problems = read_manifest(path)
    assert [u.key for u in utterances] == ["first", "last"]
    assert len(problems) == 1 and problems[0].startswith(f"{path}:2: ") and says in problems[0]
    assert len(problems[0]) < len(str(path)) + 400
    with pytest.raises(UserError, match=f"{path}:2: "):
        read_manifest(path, strict=True)


def test_nothing_to_read(tmp_path):
    with pytest.raises(UserError, match="cannot read the manifest"):
        read_manifest(tmp_path / "none.jsonl")
    with pytest.raises(UserError, match="no usable line; the first problem: .*:1: not a JSON"):
        read_manifest(write(tmp_path / "m.jsonl", "no"))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # slow machines
@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda x: (
            st.lists(x, max_size=2) | st.dictionaries(st.sampled_from([*GOOD, "start", "end"]), x, max_size=7)
        ),
    ).map(lambda v: json.dumps(v).encode())
)
def test_no_line_ends_in_another_error(tmp_path_factory, raw):
    try:
        parse_object(json_object(raw, "m:1"), tmp_path_factory.getbasetemp(), "m:1")
    except UserError as error:
        assert str(error).startswith("m:1: ")
