"""What documents show is accepted: commands by the parsers of their verbs, settings by the reader of jobs."""

import json
import re

import pytest
import yaml

from mindspore_osum.commands.transcribe_stream import OF_WHISPER
from mindspore_osum.commands.verbs import VERBS, parser_of
from mindspore_osum.config import merge, parse_overrides
from mindspore_osum.tasks import task_key
from mindspore_osum.training.config import read_job, to_dict
from tests.docs.commands import ROOT, blocks, commands, documents

SHELL = ("bash", "sh", "text", "")
PRODUCT_FOLDERS = ("configs/", "examples/", "scripts/", "tests/", "mindspore_osum/")


def osum_commands() -> list:
    """(where, arguments) of every osum command in a document."""
    return [
        pytest.param(block.path, command[1:], id=f"{block.id} {' '.join(command)[:60]}")
        for path in documents()
        for block in blocks(path, *SHELL)
        for command in shown_commands(block)
        if command[:1] == ["osum"]
    ]


def shown_commands(block) -> list[list[str]]:
    """Commands of a block; of plain text only lines that begin as one (the rest is output)."""
    if block.language in ("bash", "sh"):
        return commands(block.text)
    lines = re.sub(r"\\\n\s*", "", block.text).splitlines()
    return [command for line in lines if line.startswith("osum ") for command in commands(line)]


def test_commands_are_found():
    text = "A=1 osum infer a.wav | head > b.txt  # c\n"
    text += "cat x | \\\n  osum plan --config c/{a,b}.yaml --set 'x={p: 1, q: 2}'\n"
    assert commands(text) == [
        ["osum", "infer", "a.wav"],
        ["head"],
        ["cat", "x"],
        ["osum", "plan", "--config", "c/a.yaml", "c/b.yaml", "--set", "x={p: 1, q: 2}"],
    ]
    assert commands("source <(osum completion bash)") == [["source"], ["osum", "completion", "bash"]]
    assert len(osum_commands()) > 60


@pytest.mark.parametrize(("path", "arguments"), osum_commands())
def test_the_parser_takes_it(path, arguments, capsys):
    if not arguments or arguments[0].startswith("-"):
        assert arguments in (["--help"], ["--version"])
        return
    verb, *rest = arguments
    if "VERB" in arguments:  # osum VERB --help
        return
    assert verb in VERBS, f"{path.name}: osum has no verb {verb}"
    parser = parser_of(verb)
    if "..." in rest:  # something is left out: what stands there must be options of the verb
        assert {word for word in rest if word.startswith("--")} <= set(parser._option_string_actions)
        return
    try:
        args = parser.parse_args(rest)
    except SystemExit as end:
        assert end.code == 0, capsys.readouterr().err  # --help, --list
        return
    for task in getattr(args, "task", None) or []:
        if isinstance(args.task, list):  # osum data import
            task_key(task)
    if isinstance(task := getattr(args, "task", None), str) and task not in OF_WHISPER:
        task_key(task)
    if verb in ("train", "plan"):
        check_job(args)


def check_job(args) -> None:
    """The job is read with all its settings, if it is one of ours and not a placeholder."""
    for config in [args.config] if isinstance(args.config, str) else args.config or []:
        if config.startswith(PRODUCT_FOLDERS):
            read_job(str(ROOT / config), parse_overrides(args.overrides))


@pytest.mark.parametrize("path", documents(), ids=lambda p: p.name)
def test_paths_of_the_repository_are_there(path):
    shown = [command for block in blocks(path, "bash", "sh") for command in commands(block.text)]
    words = {word for command in shown for part in command for word in part.split()}
    words |= set(re.findall(r"`([\w./-]+/[\w./-]+\.(?:py|sh|ya?ml|md))`", path.read_text(encoding="utf-8")))
    ours = [word for word in words if word.startswith((*PRODUCT_FOLDERS, "docs/")) and "*" not in word]
    assert not [word for word in ours if not (ROOT / word).exists()]


@pytest.mark.parametrize("path", documents(), ids=lambda p: p.name)
def test_links_lead_somewhere(path):
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", path.read_text(encoding="utf-8"))
    assert not [link for link in links if not (path.parent / link).exists()]


def settings() -> list:
    """Every piece of YAML in a document that is about a job."""
    known = to_dict(read_job(str(ROOT / "configs/osum_pangu_7b/stage1.yaml")))
    return [
        pytest.param(block.text, id=block.id)
        for path in documents()
        for block in blocks(path, "yaml", "")
        if block.text.partition(":")[0] in known
    ]


@pytest.mark.parametrize("text", settings())
def test_settings_are_those_of_a_job(text, tmp_path):
    base = yaml.safe_load((ROOT / "configs/osum_pangu_7b/stage1.yaml").read_text(encoding="utf-8"))
    shown = yaml.safe_load(text)
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(merge(base, shown), allow_unicode=True), encoding="utf-8")
    read_job(str(path))


def test_settings_are_found():
    assert len(settings()) >= 3


@pytest.mark.parametrize(
    "block", [b for path in documents() for b in blocks(path, "json", "python")], ids=lambda b: b.id
)
def test_snippets_are_well_formed(block):
    if block.language == "json":  # one object a line; "..." stands for more of the same
        text = re.sub(r",\n\s+", ", ", block.text).replace(", ...", "")
        assert [json.loads(line) for line in text.splitlines() if line.strip()]
    else:
        compile(block.text, block.id, "exec")
