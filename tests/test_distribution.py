"""What people install: the wheel and the source distribution."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.test_repository import PACKAGES, ROOT, tracked_files

RUN = "import mindspore_osum as package; print(package.__file__); package.OSUM.load('tiny')"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with both, built from a copy of what the repository holds."""
    pytest.importorskip("wheel", reason="needs wheel (extra dev)")
    folder = tmp_path_factory.mktemp("dist")
    for path in tracked_files():
        copy = folder / "source" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    command = [sys.executable, "setup.py", "-q", "sdist", "-d", str(folder), "bdist_wheel", "-d", str(folder)]
    subprocess.run(command, cwd=folder / "source", check=True, capture_output=True)
    return folder


def test_both_hold_every_file_of_the_packages(built):
    files = {str(path.relative_to(ROOT)) for path in tracked_files()}
    files = {name for name in files if name.startswith(tuple(f"{package}/" for package in PACKAGES))}
    (wheel,), (source,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found == files
    with tarfile.open(source) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    assert files | {"setup.py", "README.md", "LICENSE"} <= found


@pytest.mark.parametrize(
    "index", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["these packages", "from the index"]
)
def test_the_wheel_runs_in_a_clean_environment(built, tmp_path, index):
    """The dependencies are this environment's, or (slow, some GB) those that pip finds for the wheel."""
    (wheel,) = built.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    how = [] if index else ["--no-index", "--no-deps"]
    subprocess.run([python, "-m", "pip", "install", "-q", *how, wheel], check=True, env=env, cwd=tmp_path)
    if not index:
        (packages,) = (tmp_path / "env").glob("lib/*/site-packages")
        # lines of a .pth come after the folder itself, and those of its own .pth files are not read
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    done = subprocess.run([python, "-c", RUN], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.split()[0]).is_relative_to(tmp_path / "env")
    osum = subprocess.run([python.with_name("osum"), "info"], capture_output=True, text=True, cwd=tmp_path)
    assert osum.returncode == 0 and "parameters" in osum.stdout
