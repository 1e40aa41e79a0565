"""Setting of the model tests: graph mode on the CPU, and cells that several files share."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def graph_mode():
    """Every test here runs the compiled graphs unless it says otherwise."""
    import mindspore as ms

    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
