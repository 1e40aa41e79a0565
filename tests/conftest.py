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
