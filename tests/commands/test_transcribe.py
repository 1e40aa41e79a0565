"""`osum transcribe` from the command line to the files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mindspore_osum import files
from mindspore_osum.cli import main
from mindspore_osum.commands import console
from mindspore_osum.commands import transcribe as verb
from mindspore_osum.commands.inputs import expand
from mindspore_osum.errors import UserError
from mindspore_osum.results import Answer, Response
from mindspore_osum.subtitles import FORMATS
from tests.speech.encode import encoded
from tests.speech.voices import row, voice

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """talks/{one.wav, more/two.flac (7 s), notes.txt}, broken.wav; the current folder."""
    monkeypatch.chdir(tmp_path)
    Path("talks/more").mkdir(parents=True)
    soundfile.write("talks/one.wav", voice(1.0), 16_000)
    two, _ = row([0.4, voice(2.0), 1.8, voice(2.0, pitch=200.0), 0.8])
    soundfile.write("talks/more/two.flac", two, 16_000)
    Path("talks/notes.txt").write_text("not audio", encoding="utf-8")
    Path("broken.wav").write_bytes(b"RIFF")
    return tmp_path


@pytest.fixture
def transcribe(model_folder, capfd):
    """transcribe(*args) -> (status, standard output, standard error)."""

    def run(*args):
        how = ["--model", str(model_folder), "--max-new-tokens", "5", "--max-seconds", "4"]
        status = main(["transcribe", *map(str, args), *how])
        return status, *capfd.readouterr()

    return run


def test_files_of_every_format(folder, transcribe):
    """Below --output as the recordings lie in their folder; --resume makes only what is missing."""
    formats = sorted(FORMATS.keys() - {"ctm"})  # which needs words, and a model with random weights has none
    status, out, err = transcribe("talks", "--output", "out", "--format", ",".join(formats))
    assert (status, out) == (0, ""), err
    files = {str(path.relative_to("out")) for path in Path("out").rglob("*.*")}
    endings = [{"textgrid": "TextGrid"}.get(f, f) for f in formats]
    assert files == {f"{name}.{ending}" for name in ("one", "more/two") for ending in endings}
    values = json.loads(Path("out/more/two.json").read_text("utf-8"))
    assert values["audio"] == "talks/more/two.flac" and len(values["segments"]) == 2
    assert len(Path("out/more/two.rttm").read_text().splitlines()) == 2

    Path("out/one.vtt").unlink()
    before = Path("out/more/two.vtt").stat().st_mtime_ns
    status, _, err = transcribe("talks", "--output", "out", "--format", "vtt", "--resume")
    assert status == 0 and "1 of 2 are there already" in err
    assert Path("out/one.vtt").read_text().startswith("WEBVTT")
    assert Path("out/more/two.vtt").stat().st_mtime_ns == before
    status, _, err = transcribe("talks", "--output", "out", "--format", "vtt", "--resume")
    assert status == 0 and "loading" not in err


def test_a_folder_of_a_user(folder, transcribe):
    """What macOS leaves is no recording, others are reported, what is broken fails, and names stay apart."""
    for name in ("talks/._one.wav", "talks/.DS_Store", "talks/.cache/a.wav"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"\0\5\x16\7" + bytes(78))
    Path("talks/one.mp3").write_bytes(encoded(voice(1.2), "mp3"))
    status, out, err = transcribe("talks", "--output", "out", "--task", "asr")
    assert status == 0 and "talks: 1 other file is left out (.txt)" in err and "DS_Store" not in err
    files = sorted(str(path.relative_to("out")) for path in Path("out").rglob("*.txt"))
    assert files == ["more/two.txt", "one.mp3.txt", "one.wav.txt"]
    status, _, err = transcribe("talks", "--output", "out", "--task", "asr", "--resume")
    assert status == 0 and "3 of 3 are there already" in err
    Path("talks/bad.mp4").write_bytes(b"not a film")
    status, out, err = transcribe("talks", "--format", "json", "--task", "asr")
    assert status == 1 and "1 failed:\n  talks/bad.mp4: not audio" in err and len(out.splitlines()) == 3


def test_channels_of_a_call(folder, transcribe):
    """A file for each channel where a format holds one, else one file with all of them."""
    pair = np.stack([voice(1.5), np.roll(voice(1.5, pitch=200.0), 4000)], axis=1)
    soundfile.write("call.wav", pair, 16_000)
    formats = sorted(FORMATS.keys() - {"ctm"})
    how = ("--channels", "split", "--format", ",".join(formats), "--output", "out")
    status, _, err = transcribe("call.wav", *how)
    assert status == 0, err
    files = {path.name for path in Path("out").iterdir()}
    assert files == {"call.json", "call.rttm", "call.TextGrid", "call.txt"} | {
        f"call.{side}.{form}" for side in ("left", "right") for form in ("srt", "vtt", "tsv")
    }
    who = [line.split() for line in Path("out/call.rttm").read_text().splitlines()]
    assert [(line[2], line[7]) for line in who] == [("1", "left"), ("2", "right")]
    segments = json.loads(Path("out/call.json").read_text())["segments"]
    assert [segment["channel"] for segment in segments] == ["left", "right"]
    assert 'name = "right segments"' in Path("out/call.TextGrid").read_text()
    status, _, err = transcribe("call.wav", *how, "--resume")
    assert status == 0 and "1 of 1 are there already" in err
    status, _, err = transcribe("call.wav", "--channels", "split", "--format", "srt")
    assert status == 1 and "srt of each channel needs files" in err


def test_silence_is_said(folder, transcribe):
    soundfile.write("silence.wav", np.zeros(32_000), 16_000)
    status, out, err = transcribe("silence.wav")
    assert (status, out) == (0, "") and "silence.wav: no speech found" in err
    assert "no speech" not in transcribe("silence.wav", "--no-gate")[2]
    assert json.loads(transcribe("silence.wav", "--format", "json")[1])["no_speech"] is True


def test_standard_output(folder, transcribe):
    """JSON is a line for each recording; a failure does not stop the others."""
    status, out, err = transcribe("talks/*.wav", "broken.wav", "talks/more/two.flac", "--format", "json")
    assert status == 1 and "1 failed:\n  broken.wav: not audio" in err and "Traceback" not in err
    audios = [json.loads(line)["audio"] for line in out.splitlines()]
    assert audios == ["talks/one.wav", "talks/more/two.flac"]
    status, out, _ = transcribe("talks/one.wav", "--format", "srt")
    assert status == 0
    texts = transcribe("talks", "--task", "asr")[1]
    assert texts.index("talks/more/two.flac:\n") < texts.index("talks/one.wav:\n")


def test_standard_input(folder, model_folder):
    """`-` is a recording like any other, and standard output holds nothing but the answer."""
    command = [sys.executable, "-m", "mindspore_osum", "transcribe", "-", "--format", "json"]
    command += ["--model", str(model_folder), "--max-new-tokens", "5"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    data = Path("talks/one.wav").read_bytes()
    done = subprocess.run(command, input=data, env=env, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert values["audio"] == "-" and values["seconds"] == 1.0


@pytest.mark.parametrize(
    "args, message",
    [
        (["talks", "--format", "str"], "format 'str': there is none of that name; did you mean 'srt'"),
        (["talks", "--format", "srt"], "srt of 2 recordings needs files: give --output DIR"),
        (["talks/one.wav", "--format", "srt,vtt"], "needs files: give --output DIR"),
        (["talks", "--resume"], "--resume continues the files of --output"),
        (["nothing*.wav"], "nothing*.wav: no file has such a name"),
        (["empty"], "empty: no recordings in this folder"),
        (
            ["talks", "talks/one.wav", "sub/one.wav", "--output", "out"],
            "both would be written to out/one.wav.txt",
        ),
        (["talks", "--output", "broken.wav"], "broken.wav: cannot make the folder"),
        (
            ["talks", "--max-line-width", "30"],
            "txt has no such setting; it belongs to the formats srt, vtt, tsv",
        ),
        (["talks", "--format", "tsv,ctm", "--max-lines", "2"], "tsv, ctm has no such setting"),
        (["talks", "--format", "srt", "--max-words", "0"], "max_words 0: must be a whole number, 1 or more"),
        (["talks", "--format", "vtt", "--task", "asr", "--highlight-words"], "take --task srwt"),
        (["--stream", "-", "--highlight-words"], "--stream excludes --highlight-words"),
        (["talks", "--max-seconds", "90"], "max_seconds 90: chunks are 1 to 60"),
        (["talks", "--task", "srtw"], "did you mean 'srwt'"),
        (["talks", "--model", "talkz"], "talkz: no such model folder"),
    ],
)
def test_mistakes_are_one_line(folder, capfd, args, message):
    Path("empty").mkdir()
    assert main(["transcribe", *args]) == 1
    out, err = capfd.readouterr()
    assert message in err and "Traceback" not in err and not out
    assert not list(Path().rglob("*.partial"))


def test_words_are_needed_for_ctm(folder, transcribe):
    """Refused where the model gives none; the other formats of the recording are written nevertheless."""
    status, _, err = transcribe("talks/one.wav", "--format", "vtt,ctm", "--output", "out")
    if Path("out/one.ctm").exists():  # the answer was empty or had words
        assert status == 0
    else:
        assert status == 1 and "ctm needs times of words" in err
    assert Path("out/one.vtt").exists()


def test_what_a_command_line_names(folder):
    assert expand(["talks"]) == ["talks/more/two.flac", "talks/one.wav"]
    assert expand(["talks/**/*.flac", "talks", "x.wav"]) == ["talks/more/two.flac", "talks/one.wav", "x.wav"]
    soundfile.write("odd[1].wav", np.zeros(100), 16_000)
    assert expand(["odd[1].wav"]) == ["odd[1].wav"]


def test_links_to_nothing_fail_and_pipes_are_left_out(folder, capfd):
    Path("talks/gone.wav").symlink_to("nowhere.wav")
    os.mkfifo("talks/pipe.wav")
    assert expand(["talks"]) == ["talks/gone.wav", "talks/more/two.flac", "talks/one.wav"]
    assert "talks: 2 other files are left out (.txt, .wav)" in capfd.readouterr().err


def test_text_alone_is_asked_for_without_times(folder, transcribe):
    assert transcribe("talks/one.wav", "--output", "out", "--format", "txt")[0] == 0
    status, out, _ = transcribe("talks/one.wav", "--format", "json")
    assert status == 0 and json.loads(out)["raw"].startswith("<asr><align>")
    assert transcribe("talks/one.wav")[1] == transcribe("talks/one.wav", "--task", "asr")[1]


def test_a_full_disk_ends_it(tmp_path, monkeypatch):
    """With the command that goes on; another problem is of that recording alone."""
    response, cues = Response("a.wav", 1.0, [Answer(0.0, 1.0, "hello")]), {"txt": {}, "ctm": {}}
    targets = [("txt", "", tmp_path / "a.txt")]

    def full(path, text):
        raise files.NoSpace(f"{path}: cannot write there (No space left on device)")

    console.interrupted.begin(["transcribe", "a.wav"])
    monkeypatch.setattr(files, "write_text", full)
    with pytest.raises(UserError) as error, console.resumable("--resume"):
        verb._write(response, targets, None, cues)
    end = "what is done is kept, go on with: osum transcribe a.wav --resume"
    assert str(error.value) == f"{tmp_path / 'a.txt'}: cannot write there (No space left on device); {end}"
    assert "ctm" in verb._write(response, [("ctm", "", None)], None, cues)
