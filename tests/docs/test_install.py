"""docs/INSTALL.md and the Dockerfiles name the versions, extras and files that are there."""

import importlib.util
import json
import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.docs.commands import ROOT

PAGE = (ROOT / "docs" / "INSTALL.md").read_text(encoding="utf-8")
SETUP = (ROOT / "setup.py").read_text(encoding="utf-8")
DOCKERFILES = [ROOT / "Dockerfile", ROOT / "Dockerfile.ascend"]


def matrix() -> dict[str, str]:
    """Part -> version, of the page's table."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \|$", PAGE, re.MULTILINE)
    return {part.partition(" (")[0].strip(): version.strip() for part, version in rows}


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, its arguments) of a Dockerfile, continued lines joined."""
    text = re.sub(r"^#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [tuple(line.split(maxsplit=1)) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


STACKS = {
    path.stem: dict(line.split("==") for line in path.read_text().split())
    for path in (ROOT / "scripts" / "stacks").iterdir()
}


def test_versions_are_those_of_the_stack():
    found = {part.lower(): version for part, version in matrix().items()}
    assert STACKS["2.7"] == {package: found[package] for package in ("mindspore", "mindformers")}
    assert f'"transformers=={found["transformers"]}"' in SETUP


def test_setup_takes_every_stack_and_nothing_beside():
    named = [Requirement(text) for text in re.findall(r'"((?:mindspore|mindformers)[<>=][^"]*)"', SETUP)]
    assert {r.name for r in named} == {"mindspore", "mindformers"}
    for requirement in named:
        tried = {Version(stack[requirement.name]) for stack in STACKS.values()}
        assert all(version in requirement.specifier for version in tried)
        assert f"{min(tried).major}.{min(tried).minor - 1}.0" not in requirement.specifier
        assert f"{max(tried).major}.{max(tried).minor + 1}.0" not in requirement.specifier


def test_versions_belong_together():
    """As MindFormers, which checks them on a device, has them in its own map."""
    spec = importlib.util.find_spec("mindformers")
    if spec is None:
        pytest.skip("needs mindformers")
    known = json.loads((Path(spec.origin).parent / "VERSION_MAP.json").read_text(encoding="utf-8"))
    shown = matrix()
    assert known["mf"][shown["MindFormers"]]["prefer"] == shown["MindSpore"]
    assert known["ms"][shown["MindSpore"]]["prefer"] == shown["CANN"]
    assert known["cann"][shown["CANN"]]["prefer"] == shown["driver and firmware"]


def test_extras_are_those_of_setup():
    texts = [PAGE, *(path.read_text(encoding="utf-8") for path in DOCKERFILES)]
    named = {extra for text in texts for extra in re.findall(r'"\.\[(\w+)\]"', text)}
    assert named == set(re.findall(r'^    "(\w+)": \[', SETUP, re.MULTILINE))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda p: p.name)
def test_dockerfile(path):
    known = set("ARG FROM RUN WORKDIR COPY ENV USER EXPOSE ENTRYPOINT CMD".split())
    found = instructions(path)
    assert {name for name, _ in found} <= known
    for name, arguments in found:
        if name == "RUN":
            subprocess.run(["bash", "-n", "-c", arguments], check=True)
        elif name in ("CMD", "ENTRYPOINT"):
            assert json.loads(arguments)
        elif name == "COPY":
            *sources, _ = arguments.split()
            assert all((ROOT / source).exists() and reaches_the_build(source) for source in sources)
    assert [arguments for name, arguments in found if name == "USER"] == ["osum"]  # not root


def reaches_the_build(source: str) -> bool:
    """Whether .dockerignore lets a file or folder through: the last pattern that matches decides."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    passes = True
    for pattern in (line for line in lines if line and not line.startswith("#")):
        kept = pattern.removeprefix("!")
        if source == "." or fnmatch(source.split("/")[0], kept):
            passes = source == "." or pattern.startswith("!")
    return passes


def test_everything_that_is_installed_reaches_the_build():
    for name in ("setup.py", "mindspore_osum/__init__.py", "ckpt_convert/convert.py", "README.md", "LICENSE"):
        assert reaches_the_build(name), name
    for name in (".git", ".venv", "output", "tests", "speech_world"):
        assert not reaches_the_build(name), name


def test_base_images_have_the_versions_of_the_page():
    (cpu,) = [a for name, a in instructions(DOCKERFILES[0]) if name == "FROM"]
    assert cpu.startswith(f"python:{matrix()['Python']}-")
    (cann,) = [a for name, a in instructions(DOCKERFILES[1]) if name == "ARG"]
    assert re.fullmatch(rf"CANN={matrix()['CANN']}-910b-\w+[\d.]+-py{matrix()['Python']}", cann)
