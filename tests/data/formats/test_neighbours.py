"""Manifests of other projects: what is unambiguous is used as a whole, the rest is an error that names it."""

import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mindspore_osum.data.formats.line_formats import format_of, parse_line
from mindspore_osum.data.formats.manifest import Skipped, Utterance
from mindspore_osum.data.formats.sources import open_source
from mindspore_osum.data.formats.west import LATER_TURNS, NOT_ONE_RECORDING

ASK = "<asr><age>"  # a request that names its task


def read(path, *lines):
    """The items of a manifest with these lines."""
    path.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    return list(open_source(path))


def one(tmp_path, line):
    """The only item of a line: (recording's name, answer, task, request, start, end), or the problem."""
    (item,) = read(tmp_path / "m.jsonl", line)
    if isinstance(item, Skipped):
        assert item.text.startswith(f"{tmp_path}/m.jsonl:1: ") and "\n" not in item.text
        return item.text
    wav = item.wav and item.wav.removeprefix(f"{tmp_path}/")
    return wav, item.txt, item.task, item.extra.get("question"), item.start, item.end


def swift(said, *audios, **line):
    messages = [{"role": "user", "content": said}, {"role": "assistant", "content": "hello"}]
    return {"messages": messages, **({"audios": list(audios)} if audios else {}), **line}


def talk(said, *audios, **line):
    """LLaMA-Factory's ShareGPT."""
    said = [{"from": "human", "value": said}, {"from": "gpt", "value": "hello"}]
    return {"conversations": said, "audios": list(audios), **line}


ASR, AGE, CHAT, TEXT = "<TRANSCRIBE>", "<TRANSCRIBE> <AGE>", "<S2TCHAT>", "<TEXT2TEXT>"


@pytest.mark.parametrize(
    ("line", "wav", "task", "request_"),
    [
        (swift("<audio>Transcribe the Speech", "a.wav"), "a.wav", ASR, None),
        (swift(f"<audio>\n{ASK}", "a.wav"), "a.wav", AGE, None),
        (swift(f"{ASK}\n<audio>", "/b/a.mp3"), "/b/a.mp3", AGE, None),
        (swift(ASK, "a.wav"), "a.wav", AGE, None),  # no place: in front, as ms-swift puts it
        (swift(ASK, audio="a.wav"), "a.wav", AGE, None),
        (swift(f"<audio>a.wav</audio>{ASK}"), "a.wav", AGE, None),
        (swift("<audio>", "a.wav"), "a.wav", CHAT, None),
        (swift("<audio>How old?", "a.wav", task="<AGE>"), "a.wav", "<AGE>", "How old?"),
        (swift(f"<audio>{ASK}", {"path": "a.wav", "bytes": None}), "a.wav", AGE, None),
        (swift([{"type": "audio", "audio_url": "a.wav"}, {"type": "text", "text": ASK}]), "a.wav", AGE, None),
        (swift([{"type": "audio"}, {"type": "text", "text": ASK}], "a.wav"), "a.wav", AGE, None),
        (swift(f"<audio>{ASK}", "a.wav", images=[], videos=None, tools=""), "a.wav", AGE, None),
        (swift(f"<audio>{ASK}", "a.wav", system="Be brief. "), "a.wav", AGE, f"Be brief. {ASK}"),
        (swift("Who?", system="Be brief. "), None, TEXT, "Be brief. Who?"),
        (talk(f"<audio>{ASK}", "a.wav"), "a.wav", AGE, None),
        (talk("Who?"), None, TEXT, "Who?"),
        ({"query": f"<audio>{ASK}", "response": "hello", "audios": ["a.wav"]}, "a.wav", AGE, None),
        ({"query": "Who?", "response": "hello", "history": []}, None, TEXT, "Who?"),
        (
            {"instruction": ASK, "input": "<audio>", "output": "hello", "audios": ["a.wav"]},
            "a.wav",
            AGE,
            None,
        ),
        ({"instruction": "Add", "input": "1 1", "output": "hello"}, None, TEXT, "Add\n1 1"),
    ],
)
def test_conversations_keep_their_recording(tmp_path, line, wav, task, request_):
    assert one(tmp_path, line) == (wav, "hello", task, request_, None, None)


def test_of_several_turns_the_first_is_used(tmp_path):
    history = [[f"<audio>{ASK}", "first"], ["And?", "second"]]
    line = {"query": "<audio>So?", "response": "third", "history": history, "audios": ["a.wav", "b.wav"]}
    utt, skipped = read(tmp_path / "m.jsonl", line)
    assert (utt.wav, utt.txt, utt.task) == (str(tmp_path / "a.wav"), "first", AGE)
    assert skipped.reason == LATER_TURNS and not skipped.error
    (skipped,) = read(tmp_path / "m.jsonl", swift("<audio><audio>Which is louder?", "a.wav", "b.wav"))
    assert skipped.reason == NOT_ONE_RECORDING


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (swift(f"<audio>{ASK}"), "<audio> stands in the words, but 'audios' names no recording"),
        (
            swift(f"<audio>{ASK}", "a.wav", "b.wav"),
            "'audios' names 2 recordings, but 1 <audio> are in the words",
        ),
        (swift([{"type": "audio", "audio": "b.wav"}, ASK], "a.wav"), "'audios' names 1 recordings, but 0"),
        (swift(f"<audio>{ASK}", 3), "'audios' must be a path or a list of paths, found [3]"),
        (swift(f"<audio>{ASK}", {"bytes": "x"}), "'audios' must be a path"),
        (swift(f"<audio>{ASK}", "a.wav", audio="b.wav"), "both 'audios' and 'audio'"),
        (swift(f"<audio>{ASK}", "https://x.org/a.wav"), "'https://x.org/a.wav' is no path"),
        (swift("<audio>Sing!", "a.wav"), "request 'Sing!' names no task"),
        (swift("<image>What?", images=["a.png"]), "'images': this model takes words and recordings"),
        (swift("What?", wav="a.wav"), "'wav' seems to name a recording"),
        (swift("What?", audio_path="a.wav"), "'audio_path' seems to name a recording"),
        (swift("What?", speech=["a.wav"]), "'speech' seems to name a recording"),
        (talk("What?", sound_file="a.wav"), "'sound_file' seems to name a recording"),
        ({"query": "What?", "response": "x", "path": "a.wav"}, "'path' seems to name a recording"),
        (
            {"query": "What?", "response": "x", "history": ["a"]},
            "'history' must be a list of [request, answer]",
        ),
        (
            {"instruction": "What?", "output": "x", "filename": "a.wav"},
            "'filename' seems to name a recording",
        ),
        (
            {"key": "a", "task": TEXT, "txt": "x", "extra": {"question": "q"}, "audio_filepath": "a.wav"},
            "'audio_filepath' seems to name a recording",
        ),
        (talk("What?", system=3), "'system' must be a text"),
        ({"conversations": [{"from": "function_call", "value": "x"}]}, "roles ['function_call']"),
    ],
)
def test_what_is_not_clear_about_a_conversation(tmp_path, line, says):
    assert says in one(tmp_path, line)


@pytest.mark.parametrize(
    ("line", "start", "end"),
    [
        ({"audio_filepath": "a.wav", "duration": 3.2, "text": "hello"}, 0.0, 3.2),  # NeMo reads no more
        ({"audio_filepath": "a.wav", "text": "hello"}, None, None),
        ({"path": "a.wav", "text": "hello", "duration": 3200}, None, None),  # of no known unit
        ({"audio_filepath": "a.wav", "duration": 0.2, "text": "hello", "offset": 0.1}, 0.1, 0.3),
        ({"key": "x", "source": "a.wav", "source_len": 90, "target": "hello", "target_len": 1}, None, None),
        ({"file_name": "a.wav", "transcription": "hello"}, None, None),
        ({"audio": {"path": "a.wav", "bytes": None}, "sentence": "hello"}, None, None),
        ({"path": "a.wav", "text": "hello", "start": 1, "end": 2}, 1.0, 2.0),
        ({"key": "x", "wav": "a.wav", "txt": "hello"}, None, None),  # WeNet
    ],
)
def test_a_recording_and_its_text_are_transcription(tmp_path, line, start, end):
    assert one(tmp_path, line) == ("a.wav", "hello", ASR, None, start, end)


NEMO = {"audio_filepath": "a.wav", "duration": 3.2, "text": "hello"}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({**NEMO, "duration": float("nan")}, "'duration' must be seconds, 0 or more, found nan"),
        ({**NEMO, "offset": 1, "duration": -1}, "'duration' must be seconds, 0 or more, found -1"),
        ({**NEMO, "offset": float("inf")}, "'offset' must be seconds, 0 or more, found inf"),
        ({**NEMO, "offset": "1"}, "'offset' must be seconds, 0 or more, found '1'"),
        ({**NEMO, "offset": 10**400}, "'offset' must be seconds, 0 or more, found 1000"),
        ({**NEMO, "offset": 1, "duration": None}, "'offset' needs a 'duration'"),
        ({**NEMO, "text": ""}, "expected one transcript that is not empty"),
        ({"audio_filepath": "a.wav", "duration": 1}, "one transcript that is not empty (text, target"),
        ({**NEMO, "txt": "other"}, "expected one transcript that is not empty"),
        ({**NEMO, "path": "b.wav"}, "audio_filepath and path names the recording; expected one key"),
        ({**NEMO, "audio_filepath": ["a.wav"]}, "'audio_filepath' must be a path, found ['a.wav']"),
        ({**NEMO, "shard_id": 3}, "'shard_id': the recordings are in tars of NeMo"),
        ({**NEMO, "source_lang": "en", "target_lang": "de"}, "from 'en' to 'de': no task translates"),
        ({"key": "x", "wav": "a.wav", "txt": "hello<OLD>"}, "'task' must be a text"),
        ({"sounds": "a.wav", "text": "hello"}, "'txt' must be a text"),
    ],
)
def test_what_cannot_be_a_recording_and_its_text(tmp_path, line, says):
    assert says in one(tmp_path, line)


def cut(**change):
    source = {"type": "file", "channels": [0], "source": "a.wav"}
    recording = {
        "id": "a",
        "sources": [source],
        "sampling_rate": 16000,
        "num_samples": 160000,
        "duration": 10.0,
    }
    spoken = {
        "id": "a-0",
        "recording_id": "a",
        "start": 0.0,
        "duration": 2.5,
        "text": "hello",
        "speaker": "s",
    }
    values = {"id": "a-cut", "start": 1.5, "duration": 2.5, "channel": 0, "supervisions": [spoken]}
    return {**values, "recording": recording, "type": "MonoCut", **change}


def test_cuts_of_lhotse(tmp_path):
    second = {**cut()["supervisions"][0], "id": "a-1", "start": 1.0, "duration": 9.0, "text": "there"}
    before = {**second, "id": "a-2", "start": -1.0, "duration": 1.5}
    both = cut(id="b", supervisions=[*cut()["supervisions"], second, before])
    path = tmp_path / "cuts.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, [cut(), both])).encode()))
    items = list(open_source(path))
    assert [(u.key, u.txt, u.start, u.end) for u in items] == [
        ("a-cut", "hello", 1.5, 4.0),
        ("a-0", "hello", 1.5, 4.0),
        ("a-1", "there", 2.5, 4.0),
        ("a-2", "there", 1.5, 2.0),
    ]
    assert {(u.wav, u.task, u.extra["speaker"]) for u in items} == {(str(tmp_path / "a.wav"), ASR, "s")}


def source(**change):
    recording = cut()["recording"]
    return {"recording": {**recording, "sources": [{**recording["sources"][0], **change}]}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"recording": None, "features": {"type": "fbank"}}, "the cut has only features"),
        ({"recording": None}, "the cut has no recording"),
        ({"type": "MixedCut", "tracks": []}, "a MixedCut (several cuts mixed) is not read"),
        ({"type": "MultiCut"}, "a MultiCut (several channels) is not read"),
        ({"recording": {**cut()["recording"], "transforms": [{"name": "Speed"}]}}, "'transforms' [{'name'"),
        (source(type="command", source="sox a.wav"), "a source of type 'command' is not read"),
        (source(type="url"), "a source of type 'url' is not read"),
        (source(channels=[0, 1]), "one channel of [0, 1] cannot be chosen here"),
        ({"recording": {**cut()["recording"], "sources": []}}, "'sources' must be one file"),
        ({"supervisions": []}, "the cut has no supervision"),
        ({"supervisions": [{"id": "x", "start": 0, "duration": 1}]}, "a supervision needs a 'text'"),
        ({"duration": float("nan")}, "'duration' must be seconds, 0 or more, found nan"),
        ({"start": "1"}, "'start' must be seconds, 0 or more, found '1'"),
    ],
)
def test_cuts_that_cannot_be_used(tmp_path, change, says):
    assert says in one(tmp_path, cut(**change))


def test_halves_of_a_cut_say_how_to_join_them(tmp_path):
    for half in (cut()["recording"], cut()["supervisions"][0]):
        assert "CutSet.from_manifests" in one(tmp_path, half)


def test_an_array_is_read_as_lines_are(tmp_path):
    """Elements on a line of their own are named by it, others by a number behind it."""
    lines = [swift("<audio>" + ASK, "a.wav"), NEMO, 3, {"wav": "a.wav"}]
    for text, places in (
        (json.dumps(lines), ["1", "1.2", "1.3", "1.4"]),
        ("\ufeff[\n" + ",\n".join(map(json.dumps, lines)) + "\n]\n", ["2", "3", "4", "5"]),
    ):
        (tmp_path / "m.json").write_text(text, "utf-8")
        (tmp_path / "m.json.gz").write_bytes(gzip.compress(text.encode()))
        for name in ("m.json", "m.json.gz"):
            first, second, *rest = open_source(tmp_path / name)
            assert [first.key, second.key] == [f"m-{place}" for place in places[:2]]
            assert (first.task, second.txt) == (AGE, "hello")
            wheres = [item.text.split(": ")[0] for item in rest]
            assert wheres == [f"{tmp_path}/{name}:{place}" for place in places[2:]]
    (tmp_path / "m.json").write_text(json.dumps(NEMO) + "\n" + json.dumps(NEMO))  # lines, as NeMo names them
    assert [item.key for item in open_source(tmp_path / "m.json")] == ["m-1", "m-2"]


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("[" + json.dumps(NEMO) + ', {"a"', 1),
        ("[" + json.dumps(NEMO), 1),
        ("[" * 100_000, 0),
        ('[{"audio_filepath": "a", "text": "b", "offset": ' + "9" * 5000 + "}]", 0),
        ("[" + json.dumps(NEMO) + ', {"a": "\\ud800"}]', 1),
    ],
)
def test_a_damaged_array_is_one_line(tmp_path, text, good):
    (tmp_path / "m.json").write_text(text)
    *utterances, problem = open_source(tmp_path / "m.json")
    assert len(utterances) == good and problem.error
    assert problem.text.startswith(f"{tmp_path}/m.json") and len(problem.text) < 300


def test_damaged_gzip_is_one_line(tmp_path):
    whole = gzip.compress("\n".join(json.dumps({**NEMO, "n": n}) for n in range(2000)).encode())
    for data in (b"no gzip", whole[:-20]):
        (tmp_path / "m.jsonl.gz").write_bytes(data)
        with pytest.raises(Exception, match="m.jsonl.gz: cannot read the manifest"):
            list(open_source(tmp_path / "m.jsonl.gz"))


NAMES = [
    "messages",
    "conversations",
    "query",
    "response",
    "history",
    "audios",
    "audio",
    "system",
    "supervisions",
]
NAMES += [
    "recording",
    "sources",
    "type",
    "start",
    "duration",
    "offset",
    "audio_filepath",
    "text",
    "wav",
    "txt",
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["a", "<audio>", "user", "file"]),
    lambda x: (
        st.lists(x, max_size=3) | st.dictionaries(st.sampled_from([*NAMES, "role", "content"]), x, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=8))
def test_no_line_ends_in_another_error(tmp_path_factory, line):
    items = list(parse_line(line, tmp_path_factory.getbasetemp(), "m:1"))
    assert format_of(line).name and items
    assert all(isinstance(i, Utterance) or i.text.startswith("m:1: ") for i in items)
