"""The README's commands and its Python, run as they stand in a folder that holds the files they name.

What is not run has its reason in NOT_RUN or OPTIONS_NOT_RUN; test_commands.py checks that its parser takes
it. A new command of the README is run unless it is entered here.
"""

import hashlib
import json
import re
import runpy
import shutil
import subprocess
import sys
from glob import glob
from pathlib import Path

import pytest
import soundfile

from mindspore_osum.cli import main
from mindspore_osum.folder import BUNDLED, TOKENIZER
from tests.docs.commands import ROOT, Block, blocks, commands

README = ROOT / "README.md"
RECORDINGS = BUNDLED.parent / "recordings"
# how a command begins -> why it is not run here
NOT_RUN = {
    "bash scripts/quickstart.sh": "sets up the environment; test_quickstart runs it where that is done",
    "bash scripts/test.sh": "runs all tests, this one among them",
    "bash examples/speech_world/install_espeak.sh": "installs a program",
    "source .venv/bin/activate": "for a person's shell",
    "osum convert ASLP-lab/": "downloads gigabytes; tests/test_hub.py does so in small",
    "osum transcribe a.wav --model openai/": "downloads; tests/systems/whisper_asr reads such folders",
    "osum transcribe a.wav --model model": "the model of the line before",
    "pip install": "changes the environment; tests/walk installs the package elsewhere",
    "python examples/speech_world/run.py": "takes hours; tests/examples/test_run_all.py runs it in small",
    "python examples/speech_world/generate.py": "takes an hour; tests/examples run it in small",
    "osum train --config configs/": "takes hours; tests/test_configs.py runs a step of every job",
    "osum serve": "runs until it is stopped; tests/serving and tests/walk do that",
    "osum demo": "runs until it is stopped; tests/demo and tests/walk do that",
    "osum bench": "measures for minutes, and installs PyTorch beside; tests/bench run parts of it",
    "osum export": "compiles for minutes; tests/export does it with a small model",
    "mkdocs": "test_site.py builds the site",
    "docker": "needs a container runtime; test_install.py reads the files",
}
# an option -> why a command with it is not run here
OPTIONS_NOT_RUN = {
    "--verify": "runs two frameworks; tests/convert/test_verify.py does",
    "--stream": "listens until it is stopped; tests/streaming do that",
    "Ascend": "needs an Ascend device",
}
# what is added to a command because the checkpoints here are small ones
ADDED = {"osum convert step_832499.pt": ["--preset", "tiny"]}


def not_run(command: list[str]) -> str | None:
    """Why a command is not run, None if it is."""
    text = " ".join(command)
    reasons = [why for start, why in NOT_RUN.items() if text.startswith(start)]
    reasons += [why for option, why in OPTIONS_NOT_RUN.items() if option in command]
    return reasons[0] if reasons else None


def lay_out(folder: Path) -> None:
    """The files that the README's commands name."""
    for name in ("configs", "examples", "mindspore_osum", "scripts"):
        (folder / name).symlink_to(ROOT / name)
    lines = [json.loads(line) for line in (RECORDINGS / "manifest.jsonl").read_text("utf-8").splitlines()]
    first = RECORDINGS / lines[0]["wav"]
    wave_N, rate = soundfile.read(first)
    shutil.copyfile(first, folder / "a.wav")
    soundfile.write(folder / "b.flac", wave_N, rate)
    for name in ("talks", "calls", "speech_world"):
        (folder / name).mkdir()
    shutil.copyfile(first, folder / "talks/1.wav")
    shutil.copyfile(first, folder / "calls/1.wav")
    manifest = [json.dumps(line | {"wav": str(RECORDINGS / line["wav"])}) for line in lines[:2]]
    for name in ("set.jsonl", "speech_world/test.jsonl"):
        (folder / name).write_text("\n".join(manifest) + "\n", "utf-8")
    for name in ("DIR", "output/tiny_stage3/model"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(BUNDLED)
    shutil.copyfile(BUNDLED / TOKENIZER, folder / "tokenizer.model")
    parts = {"hf_whisper": "whisper-medium", "hf_decoder": "openPangu-Embedded-7B"}
    for form, name in {"published": "step_832499.pt", **parts}.items():
        assert main(["convert", str(BUNDLED), "--to", form, "--output", str(folder / name)]) == 0


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    lay_out(folder)
    return folder


@pytest.fixture
def files(laid_out, tmp_path, monkeypatch) -> None:
    """The current folder is a copy of them."""
    shutil.copytree(laid_out, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def run(command: list[str]) -> int:
    """Run a command; its exit status. osum runs in this process, which has loaded the libraries."""
    added = [word for start, words in ADDED.items() if " ".join(command).startswith(start) for word in words]
    words = [path for word in command[1:] for path in sorted(glob(word)) or [word]]  # as a shell does
    if command[0] == "osum":
        return main([*words, *added])
    program = {"python": sys.executable}.get(command[0], command[0])
    return subprocess.run([program, *words]).returncode


@pytest.mark.parametrize("block", blocks(README, "bash", "sh"), ids=lambda block: block.id)
def test_commands(block: Block, files, capsys):
    """Every command of a block, in order, leaves status 0 and the output it was told to write."""
    for command in [command for command in commands(block.text) if not not_run(command)]:
        assert run(command) == 0, f"{' '.join(command)}\n{capsys.readouterr().err}"
        if "--output" in command:
            assert Path(command[command.index("--output") + 1]).exists(), command


@pytest.mark.parametrize("block", blocks(README, "python"), ids=lambda block: block.id)
def test_python(block: Block, files, capsys):
    Path("snippet.py").write_text(block.text, encoding="utf-8")
    values = runpy.run_path("snippet.py")
    if "r" in values:
        assert values["r"].error is None and values["r"].raw
    assert capsys.readouterr().out.strip()


def test_the_chinese_readme_shows_the_same_commands():
    """Block by block, but for comments; it may leave blocks out."""
    chinese = ROOT / "README.zh-CN.md"
    shown = [commands(block.text) for block in blocks(README, "bash")]
    theirs = [commands(block.text) for block in blocks(chinese, "bash")]
    assert len(theirs) >= 3 and all(block in shown for block in theirs)
    code = [block.text.splitlines() for block in blocks(chinese, "python")]
    english = [
        line.partition("#")[0].rstrip()
        for block in blocks(README, "python")
        for line in block.text.splitlines()
    ]
    assert code and all(line.partition("#")[0].rstrip() in english for lines in code for line in lines)
    links = re.findall(r"\]\(((?!https?:)[^)#]+)", chinese.read_text(encoding="utf-8"))
    assert links and all((ROOT / link).exists() for link in links)


@pytest.mark.slow
def test_quickstart():
    """As a user runs it, where the environment is that of the checkout and complete."""
    sources = [ROOT / "setup.py", ROOT / "scripts" / "stacks" / "2.7.txt"]
    stamp = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    if Path(sys.prefix) != ROOT / ".venv" or not (ROOT / ".venv" / f"installed-{stamp}").exists():
        pytest.skip("needs the environment as scripts/setup_env.sh leaves it (bash scripts/test.sh makes it)")
    done = subprocess.run(["bash", "scripts/quickstart.sh"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for wav in RECORDINGS.glob("*.wav"):
        assert wav.stem in done.stdout
