"""Runs `osum data import` on a layout."""

import pytest

from mindspore_osum import cli
from tests.data.formats.layouts import lay_out


@pytest.fixture
def osum(tmp_path, capsys):
    """osum(name, files, *options) -> (status, stdout, stderr): imports a layout to tmp_path / "out"."""

    def run(name, files, *options):
        root = lay_out(tmp_path / "corpus", files)
        status = cli.main(["data", "import", name, str(root), str(tmp_path / "out"), *options])
        return (status, *capsys.readouterr())

    return run
