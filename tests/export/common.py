"""What tests of exports share."""

import pytest

from mindspore_osum.cli import main
from mindspore_osum.export import runner, write
from mindspore_osum.export.runner import Exported


def export_to(target, *words: str) -> Exported:
    """`osum export` with these arguments; answers by the graphs that were loaded again to be compared."""
    loaded = {}

    def load(path):
        return loaded.setdefault(path.name, runner.load_graph(path))

    with pytest.MonkeyPatch.context() as patch:  # each graph is compiled once
        patch.setattr(write, "load_graph", load)
        assert main(["export", "--output", str(target), *words]) == 0
        patch.setattr(runner, "load_graph", lambda path: loaded[path.name])
        return Exported(target)
