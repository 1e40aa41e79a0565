"""The document of the key tables."""

from pathlib import Path

import pytest

from ckpt_convert.key_docs import tables, with_tables
from mindspore_osum.errors import UserError
from mindspore_osum.systems.osum.system import SYSTEM


def test_the_document_has_these_tables():
    path = Path(__file__).resolve().parents[2] / "docs" / "CONVERSION.md"
    text = path.read_text("utf-8")
    assert with_tables(text) == text, "run python -m ckpt_convert.key_docs docs/CONVERSION.md"
    rows = [row for form in SYSTEM.forms().values() for row in form.rows]
    assert len(rows) > 150 and tables(SYSTEM).count("\n| `") > 40
    with pytest.raises(UserError, match="key tables"):
        with_tables("no markers")
