"""What has worked once is refused by one line, within seconds and little memory, and nothing runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attacks.attacks import ATTACKS
from tests.attacks.child import SECONDS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, dict]:
    """Attack -> what came of it; of those after a process that ended, nothing."""
    folder = tmp_path_factory.mktemp("attacks")
    ways = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8:backslashreplace"}
    command = [sys.executable, "-m", "tests.attacks.child"]
    done = subprocess.run(command, cwd=folder, env=ways, capture_output=True, text=True, timeout=300)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"status"')]
    answers = {line["name"]: line for line in lines}
    assert answers, done.stderr
    return answers


@pytest.mark.parametrize("name", ATTACKS)
def test_it_is_refused_by_one_line(answers, name):
    assert name in answers, "its process ended"
    found = answers[name]
    assert not found["ran"]
    assert found["status"] == 1, found
    (line, *rest) = [line for line in found["lines"] if "loading " not in line]
    assert ATTACKS[name].says in line and line.isprintable() and len(line) < 2100
    assert len(rest) == (" usable utterances" in "".join(rest)), rest  # the sum of `osum data validate`
    assert found["seconds"] < SECONDS


def test_every_attack_says_what_it_was_and_what_closes_it():
    assert all(attack.was and attack.closed and attack.says for attack in ATTACKS.values())


def test_what_holds_the_promises_is_there():
    """Files and tests that SECURITY.md names."""
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    files = [ROOT / name for name in re.findall(r"`((?:tests|scripts)/[\w/.]+)`", text)]
    assert len(files) > 10 and all(file.exists() for file in files)
    inside = "".join(file.read_text("utf-8") for file in files if file.suffix == ".py")
    named = re.findall(r"`(test_\w+)`", text)
    assert len(named) > 4 and [name for name in named if f"def {name}(" not in inside] == []
