"""`osum data validate`: each kind of mistake is named with its place, and nothing else is."""

import gzip
import json

import numpy as np
import pytest
import soundfile

from mindspore_osum import cli
from tests.data.formats.tars import sample, sound, write_tar

GOOD = [
    {"key": "asr", "wav": "a.wav", "txt": "hello", "task": "<TRANSCRIBE>"},
    {"key": "sap", "wav": "a.wav", "txt": "hello<YOUTH>", "task": "<TRANSCRIBE><AGE>"},  # both are read
    {"key": "ved", "wav": "a.wav", "txt": "<laughter>", "task": "<TRANSCRIBE> <CAPTION>"},
    {"key": "srwt", "wav": "a.wav", "txt": "<0.00>你<0.50> <0.50>好<1.04>", "task": "srwt"},
    {"key": "part", "wav": "a.wav", "txt": "x", "task": "<TRANSCRIBE>", "start": 0.25, "end": 1.0},
    {"key": "chat", "wav": "a.wav", "txt": "fine", "task": "<S2TCHAT>"},
    {
        "key": "all",
        "wav": "a.wav",
        "txt": "hi<LAUGH><OLD><MALE><SAD><客服>",
        "task": "<TRANSCRIBE> <CAPTION> <AGE> <GENDER> <EMOTION> <STYLE>",
    },
    {"key": "st", "wav": "a.wav", "txt": "good morning", "task": "<TRANSLATE>"},
    {"key": "intent", "txt": "<asr>", "task": "<INTENT_CLASSIFICATION>", "extra": {"intent": "write"}},
    {"key": "t2t", "wav": None, "txt": "Paris", "task": "<TEXT2TEXT>", "extra": {"question": "capital?"}},
]
BASE = {"key": "bad", "wav": "a.wav", "txt": "x", "task": "<TRANSCRIBE>"}
ALIGN = {"task": "<TRANSCRIBE> <ALIGN>"}


@pytest.fixture
def folder(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, 16000), 16000)
    return tmp_path


def validate(capsys, *args):
    status = cli.main(["data", "validate", *map(str, args)])
    return status, *capsys.readouterr()


def write(folder, *lines):
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "m.jsonl").write_text("\n".join(texts) + "\n", "utf-8")
    return folder / "m.jsonl"


def test_nothing_is_wrong_with_what_is_right(folder, capsys):
    status, out, err = validate(capsys, write(folder, *GOOD), "--decode")
    assert (status, err) == (0, "")
    counts = "10 usable utterances, 0.00 h, 0 errors, 0 left out by rule; read as published 10"
    assert out == f"{folder}/m.jsonl: {counts}\n"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"wav": "none.wav"}, "none.wav: no such audio file"),
        ({"wav": "text.wav"}, "text.wav: not audio that can be read"),
        ({"wav": "empty.wav"}, "empty.wav: the file is empty"),
        ({"txt": " "}, "'txt' must be a text that is not empty"),
        ({"txt": "<OLD>"}, "no transcript in '<OLD>'"),
        ({"task": "<SING>"}, "task '<SING>': choose one of"),
        ({"task": "<AGE>"}, "no age in 'x'; expected one of CHILD, ADULT, OLD"),
        ({"task": "<TRANSCRIBE> <EMOTION>", "txt": "x<SLEEPY>"}, "no emotion in 'x<SLEEPY>'"),
        ({"task": "<AGE> <GENDER>", "txt": "<OLD>"}, "no gender in '<OLD>'"),
        (ALIGN, "no times of words; expected <start>word<end>"),
        ({**ALIGN, "txt": "<0.1>a<0.2> <0.3>b"}, "no times of words at '<0.3>'"),
        ({**ALIGN, "txt": "<0.50>a<0.20>"}, "the times of 'a', 0.5 to 0.2 s, go back"),
        ({**ALIGN, "txt": "<0.50>a<0.60> <0.20>b<0.70>"}, "the times of 'b', 0.2 to 0.7 s, go back"),
        ({**ALIGN, "txt": "<0.50>a<1.20>"}, "'a' ends at 1.2 s, the recording at 1.00 s"),
        ({**ALIGN, "txt": "<0.10>a<0.70>", "end": 0.5}, "'a' ends at 0.7 s, the recording at 0.50 s"),
        ({"start": 2.0}, "start 2.0 and end None do not fit the recording's 1.00 s"),
        ({"key": "asr"}, "key 'asr' is there twice"),
        ({"task": "<INTENT_CLASSIFICATION>", "wav": None}, "needs the user's words in extra.intent"),
        ({"task": "<TEXT2TEXT>", "wav": None, "extra": {"question": 3}}, "user's words in extra.question"),
        (
            {"task": "<TEXT2TEXT>", "extra": {"question": "q"}},
            "task <TEXT2TEXT> holds no speech, but there is a recording; leave it out",
        ),
        (
            {"task": "<INTENT_CLASSIFICATION>", "extra": {"intent": "q"}},
            "task <INTENT_CLASSIFICATION> holds no speech, but there is a recording; leave it out",
        ),
        (
            {"task": "<intent_classification>", "extra": {"intent": "q"}},
            "holds no speech; write it as <INTENT_CLASSIFICATION>, without a recording",
        ),
        ({"txt": "say [unused10] now"}, "'[unused10]' in 'say [unused10] now' is a control piece"),
        ({"txt": "say </s>"}, "'</s>' in 'say </s>' is a control piece"),
        ({"txt": "<asr>x"}, "'<asr>' in '<asr>x' is a tag, which the task puts there"),
        ({"txt": "x<OLD>"}, "label <OLD> in 'x<OLD>': task <TRANSCRIBE> has no age"),
        ({"txt": "x<开始回答>y"}, "'<开始回答>' in 'x<开始回答>y' begins a reply"),
        ({"task": "<TRANSCRIBE> <S2TCHAT>"}, "no <开始回答> between transcript and reply in 'x'"),
        ({"start": float("nan")}, "'start' must be seconds, 0 or more, found nan"),
        ({"end": float("inf")}, "'end' must be seconds, 0 or more, found inf"),
        ({"end": 10**400}, "'end' must be seconds, 0 or more, found 1000"),
        ({"end": "1.0"}, "'end' must be seconds, 0 or more, found '1.0'"),
        ({"lang": ["\ud83d"]}, "holds half of a character"),
    ],
)
def test_each_mistake_is_told_with_its_line(folder, capsys, change, says):
    (folder / "text.wav").write_text("hello")
    (folder / "empty.wav").write_bytes(b"")
    status, out, _ = validate(capsys, write(folder, *GOOD[:3], {**BASE, **change}, GOOD[3]))
    read = "published 4" if "lang" in change else "published 5"
    told, totals = out.splitlines()
    assert status == 1 and told.startswith(f"{folder}/m.jsonl:4: ") and says in told
    assert totals.endswith(": 4 usable utterances, 0.00 h, 1 errors, 0 left out by rule; read as " + read)


def test_what_only_decoding_shows(folder, capsys):
    data = bytearray(sound(0.5, kind="FLAC"))
    data[4000:5000] = bytes(1000)
    (folder / "a.flac").write_bytes(data)
    path = write(folder, {**BASE, "wav": "a.flac"})
    assert validate(capsys, path)[0] == 0
    status, out, _ = validate(capsys, path, "--decode")
    assert status == 1 and out.startswith(f"{path}:1: {folder}/a.flac: ")


def test_shards_in_json(folder, capsys):
    for name in ("a", "b"):
        write_tar(folder / f"{name}.tar", [*sample("same"), *sample(name, "x", "<AGE>")])
    (folder / "s.list").write_text("a.tar\nb.tar\n")
    (folder / "c.jsonl").write_text(
        json.dumps({"messages": [{"role": role, "content": "x"} for role in ("user", "assistant") * 2]})
    )
    status, out, _ = validate(capsys, folder / "s.list", folder / "c.jsonl", "--json")
    found = json.loads(out)
    shards, west = found["sources"]
    assert status == 1 and found["valid"] is False
    assert (shards["utterances"], shards["errors"], shards["left_out"]) == (1, 3, 0)
    assert [p.split(": ")[0].removeprefix(f"{folder}/") for p in shards["problems"]] == [
        "a.tar:a",
        "b.tar:same",
        "b.tar:b",
    ]
    assert (west["utterances"], west["errors"], west["left_out"]) == (1, 0, 1)
    assert (shards["formats"], west["formats"]) == ({"shard": 4}, {"messages": 1})
    status, out, _ = validate(capsys, folder / "c.jsonl", "--json")
    assert status == 0 and json.loads(out)["valid"] is True


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("train.csv", "audio,text\na.wav,hello\n", "is a table; `osum data import own FOLDER OUT` makes"),
        ("train.tsv.gz", "audio\ttext\n", "is a table; `osum data import own FOLDER OUT` makes"),
        ("text", "utt1 hello\nutt2 there\n", "neither a manifest, which has a JSON object a line, nor"),
        ("b.wav", sound(0.1), "is a recording; give a manifest that names it"),
    ],
)
def test_what_is_no_manifest_is_not_read_as_names_of_shards(folder, capsys, name, content, says):
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    status, out, err = validate(capsys, folder / name)
    assert (status, out) == (1, "") and err.startswith(f"osum: {folder}/{name}: {says}")
    assert cli.main(["data", "pack", str(folder / name), str(folder / "out")]) == 1
    again = capsys.readouterr().err
    assert again == err or name == "text" and "not a JSON object" in again


def test_a_duration_beyond_the_file_is_an_error(folder, capsys):
    """NeMo's is the part to read; a little more is rounding."""
    lines = [{"audio_filepath": "a.wav", "text": "hi", "duration": seconds} for seconds in (0.5, 1.05, 1.5)]
    status, out, _ = validate(capsys, write(folder, *lines))
    assert status == 1 and out.startswith(f"{folder}/m.jsonl:3: start 0.0 and end 1.5 do not fit")
    assert "2 usable utterances" in out and "read as NeMo 3" in out


def test_channels_that_cancel_each_other_out_are_a_warning(folder, capsys):
    """Named with its line, of stereo only; training hears the first channel there."""
    left_N = np.random.default_rng(0).uniform(-0.5, 0.5, 16000)
    for name, right_N in {"off": -left_N, "same": left_N, "one": 0 * left_N}.items():
        soundfile.write(folder / f"{name}.wav", np.stack([left_N, right_N], axis=1), 16000)
    lines = [{**BASE, "key": name, "wav": f"{name}.wav"} for name in ("same", "off", "one", "a")]
    part = {**BASE, "key": "part", "wav": "off.wav", "start": 0.2, "end": 0.7}
    for how in ([], ["--decode"]):
        status, out, _ = validate(capsys, write(folder, *lines, part), *how)
        *warnings, totals = out.splitlines()
        assert [w.split(": ")[0] for w in warnings] == [f"{folder}/m.jsonl:2", f"{folder}/m.jsonl:5"]
        assert all("warning: its channels cancel each other out" in w for w in warnings)
        assert status == 0 and ": 5 usable utterances, 0.00 h, 0 errors, 2 warnings, 0 left out" in totals
    found = json.loads(validate(capsys, folder / "m.jsonl", "--json")[1])["sources"][0]
    assert len(found["warnings"]) == 2 and not found["problems"]


def test_what_cannot_be_read_is_one_line(folder, capsys):
    status, out, err = validate(capsys, folder / "none.jsonl")
    assert (status, out) == (1, "") and err.startswith(f"osum: {folder}/none.jsonl: cannot read")
    status, out, err = validate(capsys, folder)
    assert (status, out) == (1, "") and err.startswith(f"osum: {folder}: is a folder; give the manifests")
    (folder / "m.jsonl").write_text("")
    assert validate(capsys, folder / "m.jsonl")[0] == 1  # nothing usable in it
