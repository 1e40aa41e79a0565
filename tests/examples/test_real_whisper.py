"""The example that fine-tunes real Whisper: its lines, its sentences, its plan, its table."""

import argparse
import importlib.util
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "real_whisper"


@pytest.fixture(autouse=True)
def path(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))


def world(folder: Path, split: str) -> Path:
    """A part of three recordings with the fields of the speech world's lines."""
    lines = []
    for number, (kind, lang, event) in enumerate(
        (("feeling", "en", ""), ("style", "zh", "COUGH"), ("command", "en", ""))
    ):
        words = [[w, 0.1, 0.2] for w in (["i", "am", "sad"] if lang == "en" else list("你好"))]
        extra = {
            "dataset": "speech_world",
            "kind": kind,
            "lang": lang,
            "voice": "v",
            "gender": "MALE",
            "age": "OLD",
        }
        extra |= {"emotion": "SAD", "style": "客服", "event": event, "words": words}
        wav = f"wav/{split}/{split}_{number:06d}.wav"
        lines += [{"wav": wav, "txt": "x", "task": "<AGE>", "extra": extra}] * 2
    (folder / f"{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return folder


def test_lines_have_one_task_each(tmp_path):
    import corpus

    lines = list(corpus.world_lines(world(tmp_path, "test"), "test"))
    found = [(line["key"], line["task"], line["txt"]) for line in lines]
    assert len({line["key"] for line in lines}) == len(lines)
    of_first = [(task, txt) for key, task, txt in found if key.startswith("test_000000")]
    assert of_first == [
        ("<EMOTION>", "<SAD>"),
        ("<GENDER>", "<MALE>"),
        ("<AGE>", "<OLD>"),
        ("<TRANSCRIBE>", "I am sad."),
    ]
    assert [txt for _, task, txt in found if task in ("<STYLE>", "<CAPTION>")] == ["<客服>", "<COUGH>"]
    assert [txt for _, task, txt in found if task == "<TRANSCRIBE>"][1] == "你好"
    asked = list(corpus.world_lines(world(tmp_path, "train"), "train"))
    assert asked[0]["task"] == "<EMOTION>" and {line["extra"]["lang"] for line in asked} == {"en", "zh"}
    parts = corpus.parts(asked, "train")
    assert sum(map(len, parts.values())) == len(asked) and not parts["speech"]


def test_voices_of_the_test_are_not_trained():
    import corpus

    assert not {key[:2] for key in corpus.VOICES} & {key[:2] for key in corpus.UNSEEN}


def test_other_speech(tmp_path):
    """The synthesiser is a program; one that makes nothing is refused."""
    import corpus

    from mindspore_osum.errors import UserError

    said = list(corpus.speech({("flite", "slt", "en", "FEMALE"): 3}, "train"))
    assert len({line["text"] for line in said}) == 3 and all(0.9 <= line["speed"] <= 1.15 for line in said)
    lines = list(corpus.speech_lines(said, "train"))
    assert [line["task"] for line in lines] == ["<TRANSCRIBE>", "<GENDER>", "<TRANSCRIBE>", "<TRANSCRIBE>"]
    program = tmp_path / "say.py"
    program.write_text(
        "import sys, json, pathlib\np = pathlib.Path(sys.argv[2])\n"
        "[(p.parent / json.loads(x)['out']).touch() for x in p.read_text().splitlines()]\n"
    )
    corpus.synthesize([sys.executable, str(program)], said, tmp_path / "out", "train")
    assert len(list((tmp_path / "out/wav/train").glob("*.wav"))) == 3
    with pytest.raises(UserError, match="3 recordings are missing"):
        corpus.synthesize([sys.executable, "-c", ""], said, tmp_path / "none", "train")
    with pytest.raises(UserError, match="could not make the speech"):
        corpus.synthesize([sys.executable, "-c", "raise SystemExit(1)"], said, tmp_path / "none", "train")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_sentences(lang):
    from sentences import sentences

    found = sentences(lang, 60, "a")
    assert len(set(found)) == 60 and found == sentences(lang, 60, "a") != sentences(lang, 60, "b")
    assert all(text[-1] in ".?。" and "{" not in text for text in found)


def test_transcripts_of_another_corpus(tmp_path):
    import corpus

    lines = [
        {"key": "a", "wav": "a.wav", "txt": "Hello.", "task": "<TRANSCRIBE>", "extra": {"lang": "en"}},
        {"key": "b", "wav": "a.wav", "txt": "A man.", "task": "<S2TCHAT>", "extra": {"lang": "en"}},
        {"key": "c", "wav": "/c.wav", "txt": "Bye.", "task": "<TRANSCRIBE>", "extra": {"lang": "en"}},
        {"key": "d", "wav": "/d.wav", "txt": "Press Two.", "task": "<TRANSCRIBE>", "extra": {"lang": "en"}},
    ]
    manifest = tmp_path / "train.jsonl"
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = list(corpus.transcripts(manifest))
    assert [(one["wav"], one["txt"]) for one in found] == [
        (f"{tmp_path}/a.wav", "Hello."),
        ("/c.wav", "Bye."),
    ]
    assert len(corpus.parts(found, "train")["speech"]) == len({one["key"] for one in found}) == 2


def test_own_words_go_on_where_they_were_and_leave_out_what_is_no_transcript(tmp_path):
    import own_words

    said = {"a": "Hello there.", "b": "", "c": "well " * 31, "d": "你好", "e": "Bye."}
    lines = [
        {
            "key": key,
            "wav": key,
            "txt": "x",
            "task": "<TRANSCRIBE>",
            "extra": {"lang": "zh" if key == "d" else "en"},
        }
        for key in said
    ]
    asked, output = [], tmp_path / "own.jsonl"

    def model(wavs, **how):
        asked.extend(wavs)
        return [argparse.Namespace(error=None, text=said[wav].strip()) for wav in wavs]

    output.write_text(json.dumps(lines[0] | {"txt": "Hello there."}) + "\n")
    assert own_words.own_words(model, lines, output) == 2 and asked == ["b", "c", "e"]
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert [(line["key"], line["txt"]) for line in found] == [("a", "Hello there."), ("e", "Bye.")]


def test_padding_is_all_that_changes(tmp_path):
    import padded

    (tmp_path / "m").mkdir()
    (tmp_path / "m/config.json").write_text(json.dumps({"encoder": {"pad_to_seconds": 8.0, "d": 1}}))
    (tmp_path / "m/model.safetensors").write_bytes(b"weights")
    for _ in range(2):
        padded.padded(tmp_path / "m", 16.0, tmp_path / "n")
    assert json.loads((tmp_path / "n/config.json").read_text()) == {
        "encoder": {"pad_to_seconds": 16.0, "d": 1}
    }
    assert (tmp_path / "n/model.safetensors").read_bytes() == b"weights"


def test_the_plan_and_the_table(tmp_path):
    import table

    # another example has a script of this name
    spec = importlib.util.spec_from_file_location("real_whisper_fine_tune", FOLDER / "fine_tune.py")
    fine_tune = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fine_tune)

    options = argparse.Namespace(
        output=tmp_path,
        whisper=Path("/w"),
        recordings=tmp_path,
        synthesizer=[],
        more=None,
        small=True,
        set=["seed=2"],
    )
    plan = fine_tune.steps(options)
    assert [step.result for step in plan][-1] == "table.md" and len(plan) == 13
    assert ["--set", "seed=2"] == plan[5].command[-2:]
    for name, wer in (("librivox_before", 0.1), ("librivox_after", 0.125)):
        (tmp_path / name).mkdir()
        values = {"fixed": {"asr": {"utterances": 10, "wer": wer}}}
        (tmp_path / name / "metrics.json").write_text(json.dumps(values))
    (tmp_path / "labels_after").mkdir()
    scores = {"fixed": {"ser": {"utterances": 5, "accuracy": 0.8}}}
    (tmp_path / "labels_after/metrics.json").write_text(json.dumps(scores))
    table.main(["--eval", str(tmp_path), "--output", str(tmp_path / "table.md")])
    assert (tmp_path / "table.md").read_text().splitlines()[2:] == [
        "| emotion, accuracy | 5 |  | 80.0 % |",
        "| words of librivox, WER | 10 | 10.0 % | 12.5 % |",
    ]
