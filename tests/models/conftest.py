"""Setting of the model tests: graph mode on the CPU, and cells that several files share."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def graph_mode():
    """Every test here runs the compiled graphs unless it says otherwise."""
    import mindspore as ms

    if ms.get_context("device_target") != "CPU":  # refused once another test has run a kernel
        ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
