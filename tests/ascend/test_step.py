"""A training step on the branch of Ascend's saturation mode: step_worker.py runs it, on CPU."""

import numpy as np
import pytest


@pytest.fixture(scope="module")
def steps(run_worker) -> dict:
    """What step_worker.py measured."""
    return run_worker("step_worker")


def test_an_overflow_that_the_flag_alone_knows_of_skips_the_step(steps):
    fine, overflown, after, stale = steps["one"]
    assert np.isfinite([overflown["loss"], overflown["norm"]]).all()
    assert overflown["bad"] and not overflown["moved"]
    for step in (fine, after):
        assert not step["bad"] and step["moved"]
    # a flag that was up before the step has nothing to do with it
    assert not stale["bad"] and stale["moved"]


def test_an_overflow_in_any_micro_batch_skips_the_step(steps):
    last = steps["two"][1::2]
    assert [step["bad"] for step in last] == [False, True, True, False]
    assert [step["moved"] for step in last] == [True, False, False, True]
    assert not any(step["bad"] or step["moved"] for step in steps["two"][::2])


def test_the_flag_was_read(steps):
    for operator in ("NPUGetFloatStatusV2", "NPUClearFloatStatusV2", "RmsNorm", "RmsNormGrad"):
        assert any(key.split()[0] == operator for key in steps["calls"]), operator


def test_packed_dropout_masks_are_those_with_a_byte_each(steps):
    packed, rows = (np.array(steps["masks"][form]) for form in ("packed", "rows"))
    assert steps["masks"]["packed is chosen"] and np.array_equal(packed, rows)
    y, grad = packed
    assert np.array_equal(y, grad) and set(np.unique(y)) == {0.0, np.float32(1 / 0.7)}
    assert abs((y > 0).mean() - 0.7) < 0.03 and steps["calls"]["DropoutDoMaskExt Float32"] == 2
