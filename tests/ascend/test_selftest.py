"""The self-test of `osum doctor`: it would find a device that computes wrongly."""

import json

import numpy as np
import pytest

from mindspore_osum.ascend import selftest


def made(factor: float = 1.0, nan: bool = False):
    """Results as large as the stored ones, one of them wrong by a factor."""
    stored = json.loads(selftest.STORED.read_text(encoding="utf-8"))
    for i, (name, values) in enumerate(stored.items()):
        values = np.array(values) * (factor if i == 1 else 1.0)
        yield name, values * (np.nan if nan else 1.0)


@pytest.mark.parametrize("given, wrong", [({}, 0), ({"factor": 1.1}, 1), ({"nan": True}, 6)])
def test_differences_are_found(monkeypatch, given, wrong):
    monkeypatch.setattr(selftest, "measure", lambda *args: made(**given))
    results = list(selftest.run("plain", "float32"))
    assert len(results) == 6
    assert sum(not result.is_fine for result in results) == wrong


def test_what_is_kept_of_a_result():
    assert selftest.kept(np.float32(3)).tolist() == [3]
    assert len(selftest.kept(np.arange(999))) == selftest.KEPT
    assert selftest.kept(np.arange(999))[-1] == 998


@pytest.mark.slow
def test_on_the_operators_of_ascend_and_on_cpu_alike(run_worker):
    for path, results in run_worker("selftest_worker").items():
        allowed = selftest.ALLOWED[path.split()[1]]
        assert len(results) == 6 and all(off <= allowed for off in results.values()), (path, results)
