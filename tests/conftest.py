"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden data and instruments: ``../shared`` beside the checkout, or $OSUM_SHARED."""
    path = Path(os.environ.get("OSUM_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not (path / "golden").is_dir():
        pytest.skip(f"needs the shared folder at {path} (or set OSUM_SHARED)")
    return path


@pytest.fixture(scope="session", autouse=True)
def graph_cache(tmp_path_factory):
    """Compiled graphs are kept for this run of the tests alone, its commands included."""
    os.environ["OSUM_GRAPH_CACHE"] = str(tmp_path_factory.mktemp("graphs"))
    yield
    del os.environ["OSUM_GRAPH_CACHE"]
