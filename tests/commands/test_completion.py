"""Completion as the shells themselves run it."""

import argparse
import shutil
import subprocess

import pytest

from mindspore_osum import cli
from mindspore_osum.commands.completion import script
from mindspore_osum.commands.data import SUBVERBS
from mindspore_osum.commands.verbs import VERBS, parser_of, whole_parser
from mindspore_osum.folder import BUNDLED
from mindspore_osum.subtitles import FORMATS
from mindspore_osum.tasks import TASKS


def shell(name: str) -> str:
    path = shutil.which(name)
    if not path:
        pytest.skip(f"needs {name}")
    return path


def flags(parser: argparse.ArgumentParser) -> set[str]:
    """The long options that a parser shows."""
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    return {flag for action in shown for flag in action.option_strings if flag.startswith("--")}


@pytest.fixture(scope="module")
def scripts() -> dict[str, str]:
    return {name: script(name, whole_parser()) for name in ("bash", "zsh")}


@pytest.fixture(scope="module")
def complete(tmp_path_factory, scripts):
    """complete("osum", "tr") -> what bash offers for the last word, in a folder with files of known names."""
    folder = tmp_path_factory.mktemp("shell")
    (folder / "osum.bash").write_text(scripts["bash"], encoding="utf-8")
    (folder / "models").mkdir()
    (folder / "a.wav").touch()
    (folder / "my talk.wav").touch()
    program = 'source osum.bash; COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); '
    # the function that the script binds to the command; a shell that nobody types into has no options for it
    program += 'compopt() { :; }; f=$(complete -p osum); f=${f#*-F }; "${f%% *}" osum; '
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
    assert complete("osum", "--") == {"--help", "--version"}


@pytest.mark.parametrize("verb", VERBS)
def test_options_of_every_verb(complete, verb):
    assert complete("osum", verb, "--") == flags(parser_of(verb))


@pytest.mark.parametrize("name", SUBVERBS)
def test_options_of_every_sub_verb(complete, name):
    sub = next(s for s in whole_parser().sub_parsers() if s.prog.endswith(" data"))
    (declared,) = (s for s in sub.sub_parsers() if s.prog.endswith(f" {name}"))
    assert complete("osum", "data", name, "--") == flags(declared)


def test_values(complete):
    assert complete("osum", "infer", "--task", "") == set(TASKS)
    assert complete("osum", "infer", "a.wav", "--device", "A") == {"Ascend"}
    assert complete("osum", "transcribe", "--format", "t") == {f for f in FORMATS if f.startswith("t")}
    assert complete("osum", "infer", "--model", "") == {"models"}
    assert complete("osum", "infer", "--output", "a") == {"a.wav"}
    assert complete("osum", "infer", "--top-k", "") == set()
    assert complete("osum", "annotate", "a") == {"a.wav"}
    assert complete("osum", "annotate", "my") == {"my talk.wav"}
    assert complete("osum", "train", "--config", "a") == {"a.wav"}
    assert complete("osum", "completion", "z") == {"zsh"}
    assert complete("osum", "data", "imp") == {"import"}
    assert complete("osum", "data", "validate", "a.wav", "my") == {"my talk.wav"}


def test_zsh_reads_its_script(tmp_path, scripts):
    """Loaded by zsh's completion system, it becomes the function for osum."""
    (tmp_path / "_osum").write_text(scripts["zsh"], encoding="utf-8")
    steps = ["fpath=($PWD $fpath)", "autoload -Uz compinit", "compinit -u -d dump", "print $_comps[osum]"]
    command = [shell("zsh"), "-f", "-c", " && ".join([*steps, "autoload +X _osum"])]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "_osum", "")


def test_scripts_are_of_no_machine(scripts):
    """They may be kept in a file: no place of this installation is in them."""
    assert not [name for name, text in scripts.items() if str(BUNDLED.parent) in text]


def test_command(capsys, scripts):
    assert cli.main(["completion", "bash"]) == 0
    assert capsys.readouterr().out.strip() == scripts["bash"].strip()
    assert cli.main(["completion", "fish"]) == 2
