"""Completion as the shells themselves run it."""

import shutil
import subprocess

import pytest

from mindspore_osum import cli
from mindspore_osum.commands.completion import bash, options, zsh
from mindspore_osum.commands.verbs import VERBS
from mindspore_osum.subtitles import FORMATS
from mindspore_osum.tasks import TASKS


def shell(name: str) -> str:
    path = shutil.which(name)
    if not path:
        pytest.skip(f"needs {name}")
    return path


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """complete("osum", "tr") -> what bash offers for the last word, in a folder with files of known names."""
    folder = tmp_path_factory.mktemp("shell")
    (folder / "osum.bash").write_text(bash(), encoding="utf-8")
    (folder / "models").mkdir()
    (folder / "a.wav").touch()
    (folder / "my talk.wav").touch()
    program = 'source osum.bash; COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); _osum; '
    program += "printf '%s\\n' \"${COMPREPLY[@]}\""

    def run(*words: str) -> set[str]:
        command = [shell("bash"), "--norc", "-c", program, "bash", *words]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30)
        assert done.returncode == 0 and not done.stderr, done.stderr
        return set(filter(None, done.stdout.split("\n")))

    return run


def test_verbs(complete):
    assert complete("osum", "") >= set(VERBS)
    assert complete("osum", "trans") == {"transcribe"}
    assert complete("osum", "zz") == set()


@pytest.mark.parametrize("verb", VERBS)
def test_options_of_every_verb(complete, verb):
    assert complete("osum", verb, "--") == {o.flag for o in options()[verb][0] if o.flag.startswith("--")}


def test_values(complete):
    assert complete("osum", "infer", "--task", "") == set(TASKS)
    assert complete("osum", "infer", "a.wav", "--device", "A") == {"Ascend"}
    assert complete("osum", "transcribe", "--format", "t") == {f for f in FORMATS if f.startswith("t")}
    assert complete("osum", "infer", "--model", "") == {"models"}
    assert complete("osum", "infer", "--output", "a") == {"a.wav"}
    assert complete("osum", "infer", "--top-k", "") == set()
    assert complete("osum", "annotate", "a") == {"a.wav"}
    assert complete("osum", "annotate", "my") == {"my talk.wav"}
    assert complete("osum", "completion", "z") == {"zsh"}
    assert complete("osum", "data", "imp") == {"import"}


def test_zsh_reads_its_script(tmp_path):
    """Loaded by zsh's completion system, it becomes the function for osum."""
    (tmp_path / "_osum").write_text(zsh(), encoding="utf-8")
    steps = ["fpath=($PWD $fpath)", "autoload -Uz compinit", "compinit -u -d dump", "print $_comps[osum]"]
    command = [shell("zsh"), "-f", "-c", " && ".join([*steps, "autoload +X _osum"])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "_osum", "")


def test_command(capsys):
    assert cli.main(["completion", "bash"]) == 0
    assert capsys.readouterr().out == bash()
    assert cli.main(["completion", "fish"]) == 2
