"""Setting of the composite's tests: that of the model tests."""

from tests.models.conftest import graph_mode  # noqa: F401
