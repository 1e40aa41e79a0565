"""WEST's manifest lines, and what a conversation comes to."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindspore_osum.data.formats.line_formats import parse_line
from mindspore_osum.data.formats.manifest import Skipped, Utterance
from mindspore_osum.data.formats.sources import open_source
from mindspore_osum.data.formats.west import LATER_TURNS, NOT_ONE_RECORDING
from mindspore_osum.text.requests import task_requests

AUDIO = {"type": "audio", "audio": "x/a.wav"}
HELLO = {"role": "assistant", "content": "hello"}


def text(words):
    return {"type": "text", "text": words}


def turns(*contents, **line):
    """A line of user contents, each answered with "hello"."""
    return {"messages": [m for c in contents for m in ({"role": "user", "content": c}, HELLO)], **line}


def read(tmp_path, *lines):
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    items = list(open_source(tmp_path / "m.jsonl"))
    return [i for i in items if isinstance(i, Utterance)], [i for i in items if isinstance(i, Skipped)]


def test_pretraining_lines_are_transcription(tmp_path):
    (first, second), skipped = read(tmp_path, {"wav": "x/a.wav", "txt": "hi"}, {"wav": "/b.wav", "txt": "ho"})
    assert (first.key, first.wav, first.txt) == ("m-1", str(tmp_path / "x/a.wav"), "hi")
    assert (second.key, second.wav, second.task) == ("m-2", "/b.wav", "<TRANSCRIBE>")
    assert first.extra == {} and first.where == f"{tmp_path}/m.jsonl:1" and not skipped


@pytest.mark.parametrize(
    ("content", "line", "task", "extra"),
    [
        ([text("Transcribe the Speech"), AUDIO], {}, "<TRANSCRIBE>", {}),
        ([AUDIO, task_requests("sap")[0]], {}, "<TRANSCRIBE> <AGE>", {}),
        ("<asr><gender>", {"content": [text("<asr><gender>"), AUDIO]}, "<TRANSCRIBE> <GENDER>", {}),
        (AUDIO, {}, "<S2TCHAT>", {}),
        ({**AUDIO, "text": "what I said"}, {}, "<S2TCHAT>", {}),
        ([text("How old?"), AUDIO], {"task": "<AGE>"}, "<AGE>", {"question": "How old?"}),
        (AUDIO, {"task": "<TRANSCRIBE>", "extra": {"dataset": "d"}}, "<TRANSCRIBE>", {"dataset": "d"}),
        ("capital of France?", {}, "<TEXT2TEXT>", {"question": "capital of France?"}),
    ],
)
def test_a_turn_is_request_recording_and_answer(tmp_path, content, line, task, extra):
    content = line.pop("content", content)
    (utt,), skipped = read(tmp_path, turns(content, **line))
    assert (utt.txt, utt.task, utt.extra) == ("hello", task, extra) and not skipped
    assert utt.wav == (None if task == "<TEXT2TEXT>" else str(tmp_path / "x/a.wav"))


def test_a_system_message_is_put_in_front_of_the_request(tmp_path):
    line = turns("who?", key="mine")
    line["messages"].insert(0, {"role": "system", "content": "Be brief. "})
    (utt,), _ = read(tmp_path, line)
    assert utt.key == "mine" and utt.extra == {"question": "Be brief. who?"}


def test_the_first_turn_is_used_and_the_rest_told(tmp_path):
    (utt,), (skipped,) = read(tmp_path, turns(AUDIO, {**AUDIO, "audio": "b.wav"}, "and?"))
    assert utt.wav.endswith("x/a.wav") and utt.task == "<S2TCHAT>"
    assert skipped == (LATER_TURNS, f"{tmp_path}/m.jsonl:1: 2 after the first", False)
    none, (skipped,) = read(tmp_path, turns([text("compare"), AUDIO, AUDIO]))
    assert not none and skipped.reason == NOT_ONE_RECORDING and not skipped.error


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (turns([text("Sing!"), AUDIO]), "request 'Sing!' names no task; add a \"task\""),
        (turns([text("Sing!"), AUDIO], task="<S2TCHAT>"), "spoken chat has none beside the recording"),
        (turns([text("Sing!"), AUDIO], task="sttc"), "spoken chat has none beside the recording"),
        ({"messages": []}, "user and assistant must take turns"),
        ({"messages": [HELLO]}, "user and assistant must take turns"),
        ({"messages": [{"role": "user", "content": "x"}]}, "user and assistant must take turns"),
        ({"messages": "hello"}, "'messages' must be a list"),
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": AUDIO}]},
            "an answer must be text",
        ),
        (turns({"type": "image", "image": "x.png"}), "expected a text, or an object of type text or audio"),
        (turns(None), "expected a text"),
        (turns({"type": "audio", "audio": ""}), "expected a text"),
        (turns(AUDIO, extra=[]), "'extra' must be an object"),
        (turns(AUDIO, task=7), "'task' must be a text"),
        ({"wav": "a.wav"}, "'txt' must be a text"),
        ({"txt": "x"}, "there is no 'wav'"),
    ],
)
def test_lines_that_cannot_be_used(tmp_path, line, says):
    (last,), (problem,) = read(tmp_path, line, {"wav": "a.wav", "txt": "fine"})
    assert last.key == "m-2" and problem.error
    assert problem.text.startswith(f"{tmp_path}/m.jsonl:1: ") and says in problem.text


PARTS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=4)
    | st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["text", "audio", 3]),
            "text": st.text(max_size=4),
            "audio": st.text(max_size=4) | st.none(),
        },
    )
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["user", "assistant", "system", None]),
            "content": PARTS | st.lists(PARTS, max_size=3),
        },
    )
    | PARTS,
    max_size=5,
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.fixed_dictionaries(
        {"messages": MESSAGES | PARTS}, optional={"task": PARTS, "extra": PARTS, "key": PARTS, "start": PARTS}
    )
)
def test_no_line_ends_in_another_error(tmp_path_factory, line):
    items = list(parse_line(line, tmp_path_factory.getbasetemp(), "m:1"))
    assert items and all(isinstance(i, Utterance) or i.text.startswith("m:1: ") for i in items)
