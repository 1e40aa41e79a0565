"""`osum data label`: a language model as annotator, over real HTTP on this machine."""

import json
import re

import pytest

from mindspore_osum import cli
from mindspore_osum.data.formats.sources import read_manifest
from mindspore_osum.evaluation import asking
from mindspore_osum.evaluation.annotator import matter, prompt_for
from mindspore_osum.tasks import LABEL_SETS
from tests.data.formats.tars import sample, write_tar

WORDS = ["I won!", "Leave me {alone}", "It is {text} noon", "今天 下雨"]
EMOTIONS = dict(zip(WORDS, ("happy", "<Angry>", "NEUTRAL", "Sadness")))


def lines(texts=WORDS, **more):
    return [
        {"key": f"u{n}", "wav": "a.wav", "txt": text, "task": "asr", "extra": {"n": n}, **more}
        for n, text in enumerate(texts)
    ]


def text_in(prompt: str) -> str:
    return re.search(r"Transcript: (.*)", prompt)[1]


@pytest.fixture
def label(chat_server, tmp_path, capsys, monkeypatch):
    """label(manifest, task, *options) -> status, output, errors."""
    monkeypatch.delenv("OSUM_ANNOTATOR_KEY", raising=False)

    def run(path, task, *options, out="out.jsonl"):
        given = ["data", "label", path, "--task", task, "--url", chat_server.url, "--model", "m-1"]
        status = cli.main([*map(str, given), "--output", str(tmp_path / out), *map(str, options)])
        return (status, *capsys.readouterr())

    return run


def test_emotions_of_transcripts(label, chat_server, write_lines, tmp_path, monkeypatch):
    monkeypatch.setenv("OSUM_ANNOTATOR_KEY", "sk-mine")
    chat_server.reply = lambda prompt: f'Well. {{"emotion": "{EMOTIONS[text_in(prompt)]}"}}'
    status, out, err = label(write_lines("set.jsonl", lines()), "ser")
    assert status == 0 and "4 utterances of ser, 0 errors" in out, err
    found, problems = read_manifest(tmp_path / "out.jsonl")
    assert not problems and {u.task for u in found} == {"<TRANSCRIBE> <EMOTION>"}
    assert [u.txt for u in found] == [
        "I won!<HAPPY>",
        "Leave me {alone}<ANGER>",
        "It is {text} noon<NEUTRAL>",
        "今天下雨<SAD>",
    ]
    assert found[1].extra == {"n": 1, "annotator": "m-1", "emotion": "ANGER"}
    assert {headers["Authorization"] for headers, _ in chat_server.requests} == {"Bearer sk-mine"}
    prompts = sorted(chat_server.prompts())
    assert {text_in(prompt) for prompt in prompts} == set(WORDS)
    assert all(", ".join(LABEL_SETS["emotion"].values) in prompt for prompt in prompts)
    assert not (tmp_path / "out.jsonl.begun").exists()


def test_styles_and_shards(label, chat_server, tmp_path):
    write_tar(
        tmp_path / "s.tar", [*sample("a", "从前 有 座 山"), *sample("b", "x<SAD>", "<TRANSCRIBE> <EMOTION>")]
    )
    chat_server.reply = lambda prompt: json.dumps({"style": "小说" if "山" in text_in(prompt) else "其他"})
    assert label(tmp_path / "s.tar", "ssr", out="o.list")[0] == 0
    found, problems = read_manifest(tmp_path / "o.list")
    assert [u.txt for u in found] == ["从前有座山<有声书>", "x<其他>"] and not problems


def test_replies_to_what_can_be_answered(label, chat_server, write_lines, tmp_path):
    replies = dict(zip(WORDS, ("Great,  well done!", None, "{ok}", "带伞")))
    replies[WORDS[2]] = "Yes."
    chat_server.reply = lambda prompt: json.dumps({"answer": replies[text_in(prompt)]}, ensure_ascii=False)
    path = write_lines("set.jsonl", lines())
    status, out, _ = label(path, "sttc")
    assert status == 0 and "3 utterances of sttc" in out
    assert f"1 left out, not suitable as a question (first: {path}:2: Leave me {{alone}})" in out
    found, _ = read_manifest(tmp_path / "out.jsonl")
    assert [(u.task, u.txt) for u in found] == [
        ("<S2TCHAT>", t) for t in ("Great, well done!", "Yes.", "带伞")
    ]
    assert [u.extra["transcript"] for u in found] == [WORDS[0], WORDS[2], WORDS[3]]


def test_only_missing_labels_are_asked_again(label, chat_server, write_lines, tmp_path):
    known = {"w0": "SAD", "w1": "FEAR", "w3": "HAPPY"}
    chat_server.reply = lambda prompt: json.dumps({"emotion": known.get(text_in(prompt), "glad")})
    path = write_lines("set.jsonl", lines([f"w{n}" for n in range(4)]))
    status, _, err = label(path, "ser")
    assert status == 1 and err.count("\n") == 1
    assert f"{path}:3: annotator m-1: no verdict in" in err and "glad" in err
    assert not (tmp_path / "out.jsonl").exists()
    assert sum(text_in(p) == "w2" for p in chat_server.prompts()) == asking.ASKS
    kept = [json.loads(line) for line in (tmp_path / "out.jsonl.begun").read_text().splitlines()[1:]]
    assert [line["key"] for line in kept][:2] == ["u0", "u1"]
    assert "with other settings (prompt, task); give the same ones, or remove it" in label(path, "ssr")[2]
    known["w2"] = "DISGUST"
    chat_server.requests.clear()
    changed = lines([f"w{n}" for n in range(4)])
    changed[1]["txt"] = "another"
    write_lines("set.jsonl", changed)
    assert f"{path}:2: its line has changed since {tmp_path}/out.jsonl.begun" in label(path, "ser")[2]
    write_lines("set.jsonl", lines([f"w{n}" for n in range(4)]))
    assert label(path, "ser")[0] == 0
    assert {text_in(p) for p in chat_server.prompts()} <= {"w2", "w3"}
    assert [u.txt for u in read_manifest(tmp_path / "out.jsonl")[0]] == [
        "w0<SAD>",
        "w1<FEAR>",
        "w2<DISGUST>",
        "w3<HAPPY>",
    ]


def test_a_prompt_of_ones_own(label, chat_server, write_lines, tmp_path):
    (tmp_path / "p.txt").write_text("哪种情感？{labels}\nTranscript: {text}\n{'emotion': ...}", "utf-8")
    chat_server.reply = lambda prompt: '{"emotion": "FEAR"}'
    assert label(write_lines("set.jsonl", lines(WORDS[:1])), "ser", "--prompt", tmp_path / "p.txt")[0] == 0
    (prompt,) = chat_server.prompts()
    assert prompt.startswith("哪种情感？SAD, ANGER, ") and prompt.endswith(
        "Transcript: I won!\n{'emotion': ...}"
    )


@pytest.mark.parametrize(
    ("task", "reply", "value"),
    [
        ("ser", '{"emotion": "surprised"}', "SURPRISE"),
        ("ser", '{"emotion": ["SAD"]}', None),
        ("ser", '{"mood": "SAD"}', None),
        ("ssr", '{"style": "新闻科普"}', "新闻科普"),
        ("sttc", '{"answer": "a<SAD>"}', None),
        ("sttc", '{"answer": " "}', None),
        ("sttc", json.dumps({"answer": "x" * 8001}), None),
    ],
)
def test_what_is_taken_of_a_reply(task, reply, value):
    one = matter(task, prompt_for(task), "x")
    if value is None:
        with pytest.raises(ValueError):
            one.read(reply)
    else:
        assert [*one.read(reply).values()] == [value]


def test_a_server_that_is_gone_or_refuses_is_one_line(label, chat_server, write_lines, tmp_path):
    path = write_lines("set.jsonl", lines([f"w{n}" for n in range(200)]))
    chat_server.reply = lambda prompt: "no"
    status, _, err = label(path, "ser", "--max-errors", 100)
    assert status == 1 and f"{asking.GIVE_UP} unusable replies in a row" in err and err.count("\n") == 1
    assert len(chat_server.requests) < 3 * asking.GIVE_UP * asking.ASKS
    chat_server.troubles = [(401, {}, b'{"error": {"message": "bad key"}}')] * 20
    status, _, err = label(path, "ser")
    assert status == 1 and f"annotator {chat_server.url}: HTTP 401" in err and "bad key" in err
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("line", "options", "says"),
    [
        (
            {"task": "<GENDER>", "txt": "<MALE>"},
            [],
            "set.jsonl:1: no transcript, which is what",
        ),
        ({"txt": "x" * 8001}, [], "set.jsonl:1: 8001 characters of transcript; at most 8000 are sent"),
        ({}, ["--prompt", "empty.txt"], "empty.txt: no {text} in it, where the transcript belongs"),
        ({}, ["--url", "127.0.0.1:1"], "annotator address '127.0.0.1:1': expected http(s)://host/path"),
    ],
)
def test_what_cannot_be_asked_is_one_line(label, write_lines, tmp_path, monkeypatch, line, options, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("label it")
    status, _, err = label(write_lines("set.jsonl", [lines()[0] | line]), "ser", *options)
    assert status == 1 and says in err and err.count("\n") == 1
    assert not list(tmp_path.glob("out*"))
