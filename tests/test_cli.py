"""The `osum` command: dispatch, exit statuses, and help that loads nothing heavy."""

import os
import subprocess
import sys
import types
from importlib.metadata import entry_points

import pytest

from mindspore_osum import __main__, __version__, cli
from mindspore_osum.commands.console import resumable
from mindspore_osum.commands.data import SUBVERBS
from mindspore_osum.commands.verbs import VERBS, Verb, parser_of
from mindspore_osum.errors import UserError

HEAVY = {"mindspore", "mindformers", "mindnlp", "torch", "transformers", "librosa", "scipy", "sklearn"}


@pytest.fixture
def verb(monkeypatch):
    """Installs a verb named `probe` whose module runs the given function; returns the installer."""

    def install(run, add_arguments=lambda parser: None):
        module = types.ModuleType("osum_probe")
        module.run, module.add_arguments = run, add_arguments
        monkeypatch.setitem(sys.modules, "osum_probe", module)
        monkeypatch.setitem(VERBS, "probe", Verb("osum_probe", "a verb of this test"))

    return install


def modules_after(argv: list[str]) -> tuple[set[str], str]:
    """(top-level modules a fresh process has loaded after ``osum *argv``, what it printed)."""
    code = (
        "import sys; from mindspore_osum.cli import main; status = main(sys.argv[1:]);"
        "print('MODULES', *{name.partition('.')[0] for name in sys.modules}); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    printed, _, modules = done.stdout.rpartition("MODULES")
    return set(modules.split()), printed


def test_help_lists_every_verb_and_loads_nothing_heavy():
    modules, printed = modules_after(["--help"])
    assert "mindspore_osum" in modules
    assert not modules & (HEAVY | {"numpy", "yaml"})
    for name, verb in VERBS.items():
        assert f"  {name} " in printed and verb.help in printed


@pytest.mark.parametrize("name", VERBS)
def test_verb_help_loads_nothing_heavy(name):
    modules, printed = modules_after([name, "--help"])
    assert not modules & HEAVY
    assert printed.startswith(f"usage: osum {name}")


@pytest.mark.parametrize("name", VERBS)
def test_verb_help_has_examples_of_the_verb(name):
    _, found, examples = parser_of(name).format_help().partition("\nexamples:\n")
    assert found and f"osum {name} " in examples.replace("\n", " ")


@pytest.mark.parametrize("name", SUBVERBS)
def test_sub_verb_help_has_examples(name, capsys):
    assert cli.main(["data", name, "--help"]) == 0
    assert f"\nexamples:\n  osum data {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["infer", "a.wav", "--modle", "x"], "unrecognized arguments: --modle x; did you mean '--model'?"),
        (["infer", "a.wav", "--device", "Ascent"], "; did you mean 'Ascend'?"),
        (["transcribe", "a.wav", "--output_format", "srt"], "; did you mean '--format'?"),
        (["infer", "a.wav", "--language", "en"], "the model detects the language by itself"),
        (["data", "stats", "--language", "en"], "unrecognized arguments: --language ("),
        (["data", "imprt"], "; did you mean 'import'?"),
        (["data", "stats", "x.jsonl", "--plto", "y"], "; did you mean '--plot'?"),
        (["infer", "a.wav", "--zzzzzzz"], "unrecognized arguments: --zzzzzzz ("),
    ],
)
def test_misspelt_options_and_choices(argv, message, capsys):
    assert cli.main(argv) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and "--help says more" in said


def test_version(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"osum {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "usage: osum VERB"),
        (["infre"], "no verb 'infre'; did you mean 'infer'?"),
        (["zzz"], "known: analyze, annotate, "),
        (["--verison"], "no verb '--verison'"),
    ],
)
def test_wrong_command_lines_end_with_2(argv, message, capsys):
    assert cli.main(argv) == 2
    captured = capsys.readouterr()
    assert message in captured.err and not captured.out


def test_wrong_arguments_of_a_verb_end_with_2(verb, capsys):
    verb(lambda args: 0, lambda parser: parser.add_argument("--count", type=int))
    assert cli.main(["probe", "--count", "many"]) == 2
    assert "osum probe: error: argument --count" in capsys.readouterr().err


def test_status_and_arguments_pass_through(verb):
    verb(lambda args: args.count, lambda parser: parser.add_argument("--count", type=int))
    assert cli.main(["probe", "--count", "7"]) == 7


def test_user_error_is_one_line(verb, capsys):
    def run(args):
        raise UserError("a.wav: not found; check the path")

    verb(run)
    assert cli.main(["probe"]) == 1
    assert capsys.readouterr().err == "osum: a.wav: not found; check the path\n"


def test_a_place_that_cannot_be_written_is_one_line(verb, capsys, tmp_path):
    (tmp_path / "notes").touch()
    verb(lambda args: (tmp_path / "notes").mkdir())
    assert cli.main(["probe"]) == 1
    assert capsys.readouterr().err == f"osum: {tmp_path / 'notes'}: File exists\n"


def test_other_errors_are_not_hidden(verb):
    def run(args):
        raise ZeroDivisionError

    verb(run)
    with pytest.raises(ZeroDivisionError):
        cli.main(["probe"])


def test_interrupt(verb, capsys):
    def run(args):
        raise KeyboardInterrupt

    verb(run)
    assert cli.main(["probe"]) == 130
    assert capsys.readouterr().err == "osum: interrupted\n"


def test_an_interrupted_run_says_how_to_go_on(verb, capsys):
    def run(args):
        with resumable("--resume"):
            raise KeyboardInterrupt

    verb(run, lambda parser: parser.add_argument("words", nargs="*"))
    assert cli.main(["probe", "a file", "b"]) == 130
    assert capsys.readouterr().err == "osum: interrupted; go on with: osum probe 'a file' b --resume\n"
    assert cli.main(["probe", "a" * 600]) == 130
    assert capsys.readouterr().err == "osum: interrupted; go on with the same command and --resume\n"


@pytest.mark.parametrize("argv", [["--help"], ["convert", "--help"]])
def test_closed_pipe_is_quiet(argv):
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        command = [sys.executable, "-m", "mindspore_osum", *argv]
        # unbuffered, argparse itself swallows the error of printing its help
        env = os.environ | {"PYTHONUNBUFFERED": ""}
        done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, env=env, timeout=60)
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (141, b"")


def test_full_disk_is_one_line():
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "mindspore_osum", "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (1, b"osum: cannot write: No space left on device\n")


def test_broken_pipe_of_something_else_is_not_hidden(verb):
    def run(args):
        raise BrokenPipeError("a worker's")

    verb(run)
    with pytest.raises(BrokenPipeError):
        cli.main(["probe"])


def test_console_command_is_this_main():
    (command,) = entry_points(group="console_scripts", name="osum")
    assert command.load() in (cli.main, __main__.main)  # the first where it was installed before


def test_interrupted_while_it_is_imported():
    """Ctrl-C at the first import of the command: no traceback."""
    code = """
import os, signal, sys

class AtImport:
    def find_spec(self, name, *_):
        if name == "mindspore_osum.cli":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
sys.meta_path.insert(0, AtImport())
from mindspore_osum.__main__ import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (130, "osum: interrupted\n")
