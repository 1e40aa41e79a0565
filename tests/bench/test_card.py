"""Figures, bounds, curves and how they are shown."""

import json

import pytest

from mindspore_osum.bench.card import RATIOS, Bound, Curve, Outcome, card, outcome_of
from mindspore_osum.bench.timing import Timing, clocked, race, show_seconds

PROMISED = (
    "encoder_30s_vs_torch encoder_unpadded_gain decode_vs_torch decode_bandwidth_share decode_batch8_gain "
    "cache_gain launches_decode_layer prefill_vs_torch train_step_vs_torch packed_vs_static32 "
    "packed_vs_pad30 packed_vs_dynamic packing_efficiency recompiles loader_vs_demand logmel_realtime "
    "index_first_batch_s convert_vs_disk whisper_vs_transformers whisper_vs_openai whisper_vs_faster "
    "first_answer_s"
)


def test_the_promised_ratios_and_no_others():
    assert set(RATIOS) == set(PROMISED.split())
    with pytest.raises(KeyError):
        Outcome().ratio("encoder_60s_vs_torch", 1.0)


def test_bounds_have_a_side():
    assert Bound("at least", 2.0).met(2.0) and not Bound("at least", 2.0).met(1.99)
    assert Bound("at most", 0, at_least=False).met(0) and not Bound("at most", 0, at_least=False).met(1)


def test_the_exponent_of_a_curve():
    def curve(exponent):
        return Curve("x", "y", [(x, 3 * x**exponent) for x in (1, 2, 4, 8)])

    assert curve(1).slope() == pytest.approx(1) and curve(2).slope() == pytest.approx(2)
    start_matters_not = Curve("x", "y", [(1, 100.0), (2, 1.0), (4, 2.0), (8, 4.0)])
    assert start_matters_not.slope() == pytest.approx(1)


def test_a_card_tells_what_was_met():
    out = Outcome(notes=["a reason"])
    out.figure("encoder_30s", 0.5, "ours", "500 ms")
    out.curve("encoder", Curve("seconds", "time", [(1, 1.0), (2, 2.0)]))
    out.ratio("decode_vs_torch", 2.5)
    out.ratio("recompiles", 3)
    text = card("subject", out)
    assert "ours" in text and "500 ms" in text and "exponent 1.00" in text and "note: a reason" in text
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert " met " in lines["decode_vs_torch"] and "MISSED" in lines["recompiles"]


def test_an_outcome_survives_json():
    out = Outcome(notes=["why"])
    out.ratio("cache_gain", 9)
    out.figure("f", 1.5, "what", "text")
    out.curve("c", Curve("x", "y", [(1, 2.0), (2, 3.0)]))
    out.rows.clear()  # have been shown
    again = outcome_of(json.loads(json.dumps(out.to_dict())))
    assert again == out


def test_sides_take_turns_and_the_warm_up_does_not_count():
    order = []

    def side(name, seconds):
        return lambda: order.append(name) or next(seconds)

    a, b = race(side("a", iter([9.0, 1.0, 3.0, 2.0])), side("b", iter([9.0, 5.0, 5.0, 5.0])), rounds=3)
    assert order == ["a", "b"] * 4
    assert a.median == 2.0 and b.median == 5.0 and a.spread == 1.0


def test_clocked_runs_the_work_each_time():
    calls = []
    assert clocked(lambda: calls.append(1))() >= 0 and calls == [1]


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.5, "1.5 s"), (0.0456, "45.6 ms"), (7.89e-4, "789 us"), (1e-8, "0.01 us")]
)
def test_seconds_are_shown_in_their_unit(seconds, text):
    assert show_seconds(seconds) == text


def test_a_timing_shows_its_spread():
    assert str(Timing((1.0, 2.0, 3.0))) == "2 s (+-50% of 3)"
