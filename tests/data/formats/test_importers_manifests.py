"""`osum data import` of other projects' manifests and of Kaldi's folders: published lines come out."""

import json

import pytest
import soundfile

from mindspore_osum import cli
from mindspore_osum.data.formats.importers.manifests import PROJECTS
from tests.data.formats.layouts import SOUND, lay_out, left_out, lines

ASKED = {"role": "user", "content": "<audio>Write what you hear."}
SWIFT = {"messages": [ASKED, {"role": "assistant", "content": "hello"}], "audios": ["a.wav"]}
NEMO = {"audio_filepath": "a.wav", "duration": 0.04, "text": "hello"}
CUT = {
    "id": "c",
    "start": 0.02,
    "duration": 0.05,
    "supervisions": [{"id": "s", "text": "hello"}],
    "recording": {"id": "r", "sources": [{"type": "file", "channels": [0], "source": "a.wav"}]},
    "type": "MonoCut",
}
LINES = {
    "swift": ["--task", "asr", SWIFT, NEMO],
    "llama-factory": ["--task", "asr", {"conversations": SWIFT["messages"], "audios": ["a.wav"]}, CUT],
    "nemo": [{**NEMO, "offset": 0.01}, SWIFT],
    "lhotse": [CUT, NEMO],
    "funasr": [{"key": "f", "source": "a.wav", "target": "hello"}, NEMO],
    "huggingface": [{"file_name": "a.wav", "transcription": "hello"}, SWIFT],
    "west": [{"key": "w", "wav": "a.wav", "txt": "hello"}, CUT],
}


def run(folder, name, *args):
    return cli.main(["data", "import", name, str(folder / "in" / "m.jsonl"), str(folder / "out"), *args])


@pytest.mark.parametrize("name", PROJECTS)
def test_each_project(name, tmp_path, capsys):
    options = [item for item in LINES[name] if isinstance(item, str)]
    good, foreign = [item for item in LINES[name] if isinstance(item, dict)]
    missing = json.loads(json.dumps(good).replace("a.wav", "none.wav"))
    missing |= {name: "other" for name in ("key", "id") if name in missing}
    text = "\n".join(map(json.dumps, [good, foreign, missing])) + "\nno JSON\n"
    lay_out(tmp_path / "in", {"a.wav": SOUND, "m.jsonl": text})
    assert run(tmp_path, name, *options) == 0
    stem = f"{name}-m"
    assert list(lines(tmp_path / "out", stem).values()) == ["hello"]
    problems = {"line of another format": 1, "no recording": 1, "malformed": 1}
    assert left_out(tmp_path / "out", stem) == problems
    printed = capsys.readouterr().out
    assert f"{stem}: 1 utterances -> {tmp_path}/out/{stem}.jsonl" in printed and "none.wav" in printed


def test_a_request_that_names_no_task_gets_one(tmp_path):
    lay_out(tmp_path / "in", {"a.wav": SOUND, "m.jsonl": json.dumps(SWIFT)})
    assert run(tmp_path, "swift") == 1  # nothing to import: which task is not known
    assert run(tmp_path, "swift", "--task", "asr", "--task", "sap") == 1
    assert run(tmp_path, "swift", "--task", "asr") == 0
    line = json.loads((tmp_path / "out/swift-m.jsonl").read_text())
    assert line == {
        "key": "m-1",
        "wav": "../in/a.wav",
        "txt": "hello",
        "task": "<TRANSCRIBE>",
        "extra": {"question": "Write what you hear."},
    }


@pytest.mark.parametrize(("name", "line"), [("nemo", {**NEMO, "offset": 0.01}), ("lhotse", CUT)])
def test_parts_are_written_as_files(tmp_path, name, line):
    lay_out(tmp_path / "in", {"a.wav": SOUND, "m.jsonl": json.dumps(line)})
    assert run(tmp_path, name) == 0
    part = json.loads((tmp_path / f"out/{name}-m.jsonl").read_text())
    assert run(tmp_path, name, "--cut") == 0
    whole = json.loads((tmp_path / f"out/{name}-m.jsonl").read_text())
    assert part["wav"] == "../in/a.wav" and not {"start", "end"} & whole.keys()
    seconds = soundfile.info(tmp_path / "out" / whole["wav"]).duration
    assert seconds == pytest.approx(part["end"] - part["start"])


KALDI = {
    "wav.scp": "r1 a.wav\nr2\tdata/b.wav\nr3 sox x.wav -t wav - |\nr4\n",
    "segments": "u1 r1 0.00 0.05\nu2 r1 0.05 0.10\nu3 r2 0.0 0.1\nu4 r3 0 1\nu5 r1 2 1\n",
    "text": "u1 你 好\nu2 再见\nu3\tyes\nu4 x\nu5 x\nu6 x\n",
    "utt2spk": "u1 s1\nu2 s2\nu3 s1\n",
    "spk2gender": "s1 m\ns2 f\n",
}


def test_folders_of_kaldi(tmp_path, capsys):
    files = {f"data/{name}": text for name, text in KALDI.items()}
    root = lay_out(tmp_path, {**files, "data/a.wav": SOUND, "data/b.wav": SOUND}) / "data"
    command = ["data", "import", "kaldi"]
    tasks = ["--task", "sgc", "--task", "asr"]
    assert cli.main([*command, str(root), str(tmp_path / "out"), *tasks]) == 0, capsys.readouterr().err
    out = tmp_path / "out"
    assert lines(out, "kaldi-all-asr") == {"u1": "你好", "u2": "再见", "u3": "yes"}
    assert lines(out, "kaldi-all-sgc") == {"u1": "你好<MALE>", "u2": "再见<FEMALE>", "u3": "yes<MALE>"}
    assert left_out(out, "kaldi-all-asr") == {"malformed": 3, "command instead of a file": 1}
    without = {"data/train/wav.scp": "u1 x/a.wav\n", "data/train/text": "u1 hi\n", "data/x/a.wav": SOUND}
    root = lay_out(tmp_path / "b", without) / "data"
    assert cli.main([*command, str(root), str(out)]) == 0
    assert lines(out, "kaldi-train-asr") == {"u1": "hi"}
